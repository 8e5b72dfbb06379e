"""Events that a user named, and the factor of the load that they make."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dopd.api.events import ForecastEvent
from dopd.planning.events import factor_ahead, factors_at

BERLIN = "Europe/Berlin"


def event(**fields):
    return ForecastEvent.model_validate({"name": "e", "timeZone": BERLIN, "duration": "2h", "factor": 3, **fields})


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(BERLIN)).timestamp()


LAUNCH = event(at="2026-11-24T09:00")
FRIDAYS = event(name="show", start="0 20 * * 5", factor=2)
HOLIDAY = event(name="holiday", at="2026-12-24T00:00", duration="3d", factor=0.4)


@pytest.mark.parametrize(
    ("now", "lead", "factor"),
    [
        ("2026-11-24 08:49", 600, 1.0),
        ("2026-11-24 08:50", 600, 3.0),
        ("2026-11-24 09:00", 600, 3.0),
        ("2026-11-24 10:59", 600, 3.0),
        ("2026-11-24 11:00", 600, 1.0),
        ("2026-12-23 23:55", 600, 1.0),
        ("2026-12-24 12:00", 600, 0.4),
        ("2026-12-26 23:55", 600, 1.0),  # it ends within the lead
        ("2026-11-27 19:55", 600, 2.0),  # a Friday
        ("2026-11-26 19:55", 600, 1.0),
        ("2026-07-03 19:55", 600, 2.0),  # in summer time
    ],
)
def test_the_greatest_factor_until_a_decision_takes_effect_counts(now, lead, factor):
    assert factor_ahead([LAUNCH, FRIDAYS, HOLIDAY], at(now), at(now) + lead) == factor


def test_without_events_nothing_changes():
    assert factor_ahead([], 0.0, 1e9) == 1.0
    assert factors_at([], [1.0, 2.0]) == [1.0, 1.0]
    assert factors_at([LAUNCH], []) == []


def test_of_events_that_hold_at_once_the_greatest_counts():
    both = [event(name="a", at="2026-11-24T09:00", factor=0.5), event(name="b", at="2026-11-24T10:00", factor=2)]
    times = [at(f"2026-11-24 {hour:02}:30") for hour in range(8, 13)]
    assert factors_at(both, times) == [1.0, 0.5, 2.0, 2.0, 1.0]


def test_a_history_of_weeks_is_told_from_its_events():
    start = at("2026-11-01 00:00")
    times = [start + 600 * i for i in range(28 * 144)]
    factors = factors_at([FRIDAYS], times)
    assert factors.count(2.0) == 4 * 12
    assert set(factors) == {1.0, 2.0}


@given(st.integers(0, 14 * 1440), st.integers(0, 7200))
def test_a_factor_ahead_is_the_greatest_of_all_times_until_then(minute, lead):
    now = at("2026-11-20 00:00") + 60 * minute
    events = [LAUNCH, FRIDAYS, event(name="hourly", start="15 * * * *", duration="10m", factor=1.5)]
    times = [now + second for second in range(0, lead + 1, 30)]
    assert factor_ahead(events, times[0], times[-1]) == max(factors_at(events, times))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"start": "0 9 * * 9"}, "start"),
        ({"start": "0 9 31 2 *"}, "never comes"),
        ({"at": "2026-02-30T09:00"}, "is no time"),
        ({"at": "tomorrow"}, "at"),
        ({"at": "2026-11-24T09:00", "timeZone": "Mars/Base"}, "no time zone"),
        ({"at": "2026-11-24T09:00", "factor": 0}, "factor"),
        ({"at": "2026-11-24T09:00", "duration": "1s"}, "1m to 31d"),
    ],
)
def test_an_event_that_can_not_be_is_refused(fields, said):
    with pytest.raises(ValidationError, match=said):
        event(**fields)
