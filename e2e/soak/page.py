"""A run as one HTML page without any outside file: its verdict, its figures, its course, and what went wrong. Pure."""

from collections.abc import Sequence
from typing import Any

from dopd.replay import pages
from dopd.replay.pages import Chart, Heading, Line, Row, Table, Text
from e2e.soak.agreement import STAND_SECONDS
from e2e.soak.memory import FLAT_SHARE_PER_HOUR, WARM_UP_SECONDS
from e2e.soak.report import KINDS_HEAD, by_kind, figures, problems, verdict

Json = dict[str, Any]
SERVING, THERE, SAID, LOAD, DAY = 0, 1, 2, 8, 9
"""Colours of the palette."""
MOST_ROWS = 100
"""Of requests that were lost."""


def page(found: Json) -> str:
    """The whole page.

    Args:
        found: what `report.as_json` gave.
    """
    parts: list[pages.Part] = [
        Text(f"{verdict(found)[0].upper()}{verdict(found)[1:]}."),
        Text(_facts(found)),
        Table(("result", ""), [Row(row) for row in figures(found)]),
        Heading("The day"),
        Text("Marked parts are faults, from their beginning until all was well again."),
        *course(found),
        Heading("Faults"),
        Table(KINDS_HEAD, [Row(row) for row in by_kind(found)]),
        _faults(found),
        *_wrong(found),
    ]
    return pages.page(f"dopd: {found['hours']:g} simulated hours with faults", parts)


def _facts(found: Json) -> str:
    minutes, warm_up = f"{found['seconds'] / 60:g}", f"{WARM_UP_SECONDS:.0f} s"
    sentences = (
        f"A working day of {found['hours']:g} hours in {minutes} minutes, begun at {found['began']}, on a kind cluster"
        " with simulated engines; Prometheus, gateways, operator and Kubernetes are real.",
        "A request is lost when it fails, is cut, or tells another number of tokens than asked for, but for clear"
        " errors within the seconds of a fault that may cost them.",
        "Memory is that of the operator's process, without the one that estimates forecasts and ends after its work; it"
        f" is flat below {FLAT_SHARE_PER_HOUR:.0%} of its mean an hour, {warm_up} of warm-up left out.",
        f"A decision is compared with the workers of the audit log once it has stood for {STAND_SECONDS:.0f} s, outside"
        " of faults.",
    )
    return " ".join(sentences)


def course(found: Json) -> list[Chart]:
    """Load, workers, GPUs and memory over the hours of the day."""
    hours = found["hours"] / found["seconds"]  # one second of the clock
    marked = [(f["at_seconds"] * hours, (f["at_seconds"] + f["seconds"]) * hours) for f in found["faults"]]
    end = found["ended_at"]

    def over_time(name: str, at: Sequence[float], values: Sequence[float | None], colour: int, **how: Any) -> Line:
        points = [(t * hours, value) for t, value in zip(at, values, strict=True) if 0 <= t <= end]
        return Line(name, points, colour, **how)

    def chart(title: str, lines: Sequence[Line], unit: str = "", **how: Any) -> Chart:
        return Chart(title, lines, unit, x_unit="h", marked=marked, **how)

    load, looks = found["load"], found["looks"]
    seen = [look["at_seconds"] for look in looks]
    charts = [
        chart(
            "Load",
            [
                over_time("sent", load["at_seconds"], load["sent"], LOAD),
                over_time("of the day", load["at_seconds"], load["day"], DAY, dashed=True),
            ],
            "requests/s of the clock",
        )
    ]
    for number, role in enumerate(("prefill", "decode")):
        lines = [
            over_time("serving", seen, [look[role]["ready"] for look in looks], SERVING, steps=True, bold=True),
            over_time("there", *_steps(found["there"], "workers", number, end), THERE, steps=True),
            over_time("decided", *_steps(found["decisions"], "to", number, end), SAID, steps=True, dashed=True),
        ]
        charts.append(chart(f"{role.capitalize()} workers", lines, whole=True))
    charts.append(
        chart("GPUs", [over_time("held", seen, [look["gpus"] for look in looks], SERVING, steps=True)], whole=True)
    )
    readings = found["memory"]
    memory = over_time("resident", [r["at_seconds"] for r in readings], [r["mib"] for r in readings], SERVING)
    return [*charts, chart("Memory of the operator", [memory], "MiB")]


def _steps(items: Sequence[Json], of: str, number: int, end_seconds: float) -> tuple[list[float], list[float]]:
    """A count that holds until the next item, from the beginning of the load to its end."""
    before = [item for item in items if item["at_seconds"] <= 0][-1:]
    later = [item for item in items if 0 < item["at_seconds"] <= end_seconds]
    at = [*(0.0 for _ in before), *(item["at_seconds"] for item in later)]
    values = [float(item[of][number]) for item in (*before, *later)]
    return ([*at, end_seconds], [*values, values[-1]]) if values else ([], [])


def _faults(found: Json) -> Table:
    rows = [
        Row(
            (
                f"{fault['at_seconds'] / 60:.1f}",
                fault["kind"],
                f"{fault['seconds']:.0f} s",
                str(len(fault["own"])),
                "; ".join((fault["hit"], *sorted({request["error"] for request in fault["own"]}))),
            )
        )
        for fault in found["faults"]
    ]
    return Table(
        ("minute", "fault", "well after", "requests", "what it hit, and the errors of its requests"), rows, prose=[4]
    )


def _wrong(found: Json) -> list[pages.Part]:
    wrong = [Row((str(number), text)) for number, text in enumerate(problems(found), 1)]
    parts: list[pages.Part] = []
    if wrong:
        parts += [Heading("Not as it should be"), Table(("", "what"), wrong, prose=[1])]
    if found["agreement"]["disagreements"]:
        rows = [
            Row((f"{d['at_seconds'] / 60:.1f}", _pair(d["said"]), _pair(d["there"]), d["what"]))
            for d in found["agreement"]["disagreements"]
        ]
        parts += [Heading("Decisions and cluster"), Table(("minute", "said", "there", "what"), rows, prose=[3])]
    if found["lost"]:
        rows = [
            Row((f"{r['ended_at'] / 60:.2f}", r["outcome"], str(r["status"]), r["error"]))
            for r in found["lost"][:MOST_ROWS]
        ]
        parts += [
            Heading("Requests that were lost"),
            Table(("ended, minute", "how", "status", "error"), rows, prose=[3]),
        ]
    return parts


def _pair(workers: Sequence[int]) -> str:
    return f"{workers[0]}+{workers[1]}"
