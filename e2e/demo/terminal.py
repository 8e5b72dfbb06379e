"""The run as it goes, drawn with characters: what comes, what is forecast, what serves, and what clients meet. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dopd.reconcile.status import ratio
from e2e.demo.record import Run

BLOCKS = " ▁▂▃▄▅▆▇█"
WIDTH = 64
ATTAINED_SECONDS = 5.0
LEAST_SHARE = 0.9
"""Attainment is drawn from here to 1."""

Points = Sequence[tuple[float, float | None]]


@dataclass(frozen=True)
class Row:
    """One series of the picture: its name, its value of now, and its course."""

    name: str
    value: str
    bars: list[str]


def bars(points: Points, end_seconds: float, top: float, *, bottom: float = 0.0, height: int = 1) -> list[str]:
    """A bar chart of `height` lines, the upper ones first; the last point of each column's time counts.

    Args:
        points: (seconds, value), ascending; None for no value.
        end_seconds: at the right edge.
        top: value of a full column.
        bottom: value of an empty one; what is below it is drawn as the thinnest bar.
        height: lines.
    """
    columns: list[float | None] = [None] * WIDTH
    for seconds, value in points:
        columns[min(WIDTH - 1, max(0, int(seconds / end_seconds * WIDTH)))] = value
    newest = max((column for column, value in enumerate(columns) if value is not None), default=-1)
    for column in range(1, newest):  # samples are not as dense as columns
        columns[column] = columns[column - 1] if columns[column] is None else columns[column]
    steps = [_steps(value, bottom, top, height) for value in columns]
    return [
        "".join(BLOCKS[min(8, max(0, step - 8 * line))] for step in steps).rstrip() for line in reversed(range(height))
    ]


def _steps(value: float | None, bottom: float, top: float, height: int) -> int:
    """Eighths of a line that a column is high; anything but nothing is seen."""
    if value is None:
        return 0
    share = min(1.0, max(0.0, (value - bottom) / (top - bottom)))
    return max(1 if value > 0 else 0, round(share * 8 * height))


def rows(run: Run) -> list[Row]:
    """Everything that is drawn, in order."""
    end, policy = run.schedule.seconds, run.settings.policy
    last = run.samples[-1] if run.samples else None
    demand = [(s.at_seconds, s.load.demand) for s in run.samples]
    forecast = [(s.at_seconds, s.load.forecast) for s in run.samples]
    busiest = max([rate for _, rate in run.arrivals()] + [value for _, value in forecast if value is not None])
    attained = run.attained(ATTAINED_SECONDS)
    prefill = [(s.at_seconds, float(s.prefill.ready)) for s in run.samples]
    decode = [(s.at_seconds, float(s.decode.ready)) for s in run.samples]
    shares = [
        (s.at_seconds, math.log2(s.prefill.ready / s.decode.ready) if s.prefill.ready and s.decode.ready else None)
        for s in run.samples
    ]
    return [
        Row("demand, requests/s", _number(last.load.demand if last else None), bars(demand, end, busiest, height=3)),
        Row(
            "forecast, requests/s",
            _number(last.load.forecast if last else None),
            bars(forecast, end, busiest, height=3),
        ),
        Row(
            "prefill serving/wanted",
            f"{last.prefill.ready}/{last.prefill.desired}" if last else "-",
            bars(prefill, end, policy.prefill.max, height=2),
        ),
        Row(
            "decode serving/wanted",
            f"{last.decode.ready}/{last.decode.desired}" if last else "-",
            bars(decode, end, policy.decode.max, height=2),
        ),
        Row(
            "ratio P:D, 1:4 to 4:1",
            ratio(last.prefill.ready, last.decode.ready) if last else "-",
            bars(shares, end, 2.0, bottom=-2.0),
        ),
        Row(
            "first token in time",
            f"{attained[-1].ttft:.0%}" if attained else "-",
            bars([(a.at_seconds, a.ttft) for a in attained], end, 1.0, bottom=LEAST_SHARE),
        ),
        Row(
            "tokens in time",
            f"{attained[-1].itl:.0%}" if attained else "-",
            bars([(a.at_seconds, a.itl) for a in attained], end, 1.0, bottom=LEAST_SHARE),
        ),
    ]


def picture(run: Run, now_seconds: float) -> str:
    """The run so far, as it fills a terminal of 96 columns."""
    lines = [headline(run, now_seconds), ""]
    for row in rows(run):
        *above, last = row.bars
        lines += [f"{'':31}{line}" for line in above]
        lines.append(f"{row.name:<23}{row.value:>6}  {last}")
    decision = run.decisions[-1] if run.decisions else None
    said = f"{decision.before} -> {decision.to} {decision.reason}" if decision else "-"
    return "\n".join([*lines, "", f"last decision: {said}"])


def headline(run: Run, now_seconds: float) -> str:
    """Where the run is."""
    minutes = (now_seconds - run.lead_in_seconds) * run.scenario.speedup / 60
    where = f"minute {minutes:.0f} of the trace" if minutes >= 0 else "lead-in"
    return (
        f"{now_seconds:.0f} s of {run.schedule.seconds:.0f} s, {where}: {len(run.results) - len(run.lost)} ok,"
        f" {len(run.lost)} lost"
    )


def line(run: Run, now_seconds: float) -> str:
    """The same in one line, where there is no terminal to draw on."""
    last = run.samples[-1] if run.samples else None
    attained = run.attained(ATTAINED_SECONDS)
    decision = run.decisions[-1] if run.decisions else None
    recent = decision is not None and decision.at_seconds > now_seconds - ATTAINED_SECONDS
    cells = [
        f"{now_seconds:5.0f}s",
        f"{_number(last.load.demand if last else None):>7}",
        f"{_number(last.load.forecast if last else None):>8}",
        f"{f'{last.prefill.ready}/{last.prefill.desired}' if last else '-':>5}",
        f"{f'{last.decode.ready}/{last.decode.desired}' if last else '-':>5}",
        f"{ratio(last.prefill.ready, last.decode.ready) if last else '-':>5}",
        f"{f'{attained[-1].ttft:.0%}' if attained else '-':>5}",
        f"{f'{attained[-1].itl:.0%}' if attained else '-':>5}",
        f"{len(run.results) - len(run.lost):6}",
        f"{len(run.lost):5}",
        f"{decision.before} -> {decision.to} {decision.reason}" if decision and recent else "",
    ]
    return " ".join(cells).rstrip()


HEADING = "  time  demand forecast     P     D   P:D  TTFT   ITL     ok  lost  decision"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
