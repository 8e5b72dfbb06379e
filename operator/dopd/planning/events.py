"""By how much events that a user named change the load: `spec.scaling.forecast.events`. Pure.

An event says what the load is over what it would be without. So a history is made free of events by dividing each bin
by the factor of its time (`factors_at`), the present likewise, and what is forecast from them is multiplied by the
greatest factor until a decision takes effect (`factor_ahead`). An event that came before is then not counted twice, and
nothing doubles while one lasts.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from dopd.api.base import seconds
from dopd.api.events import ForecastEvent
from dopd.planning.schedules import last_seconds, times_between

USUAL = 1.0
"""Factor of a time without an event."""


def factor_ahead(events: Sequence[ForecastEvent], from_seconds: float, to_seconds: float) -> float:
    """The greatest factor of the load at any time of a span, both ends included; 1 for a time without an event.

    Args:
        events: as the spec names them.
        from_seconds: begin of the span, seconds since the epoch.
        to_seconds: its end.
    """
    steps = _steps(events, from_seconds, to_seconds)
    return max(factor for at, factor in steps if at <= to_seconds) if steps else USUAL


def factors_at(events: Sequence[ForecastEvent], times: Iterable[float]) -> list[float]:
    """The factor of the load at each of some ascending times, seconds since the epoch."""
    wanted = list(times)
    if not events or not wanted:
        return [USUAL] * len(wanted)
    steps = _steps(events, wanted[0], wanted[-1])
    starts = [at for at, _ in steps]
    return [steps[bisect_right(starts, at) - 1][1] for at in wanted]


def _steps(events: Sequence[ForecastEvent], from_seconds: float, to_seconds: float) -> list[tuple[float, float]]:
    """(since when, factor) over a span, ascending; the first holds at its begin. Empty without events."""
    if not events:
        return []
    spans = [(*span, event.factor) for event in events for span in _spans(event, from_seconds, to_seconds)]
    changes = {from_seconds, *(at for begin, end, _ in spans for at in (begin, end) if from_seconds < at <= to_seconds)}
    return [
        (at, max((factor for begin, end, factor in spans if begin <= at < end), default=USUAL))
        for at in sorted(changes)
    ]


def _spans(event: ForecastEvent, from_seconds: float, to_seconds: float) -> list[tuple[float, float]]:
    """When an event holds, as far as that meets a span: (begin, end), the end not included."""
    zone, length = ZoneInfo(event.time_zone), seconds(event.duration)
    if event.at is not None:
        begins = [datetime.fromisoformat(event.at).replace(tzinfo=zone).timestamp()]
    else:
        assert event.start is not None
        before = last_seconds(event.start, zone, from_seconds)
        begins = ([] if before is None else [before]) + times_between(event.start, zone, from_seconds, to_seconds)
    return [(begin, begin + length) for begin in begins if begin + length > from_seconds and begin <= to_seconds]
