"""A replay as one page: what it cost, what clients met, and when they were late."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dopd.replay import pages
from dopd.replay.pages import Bar, Bars, Boxes, Chart, Heading, Line, Row, Table, Text
from dopd.replay.policies.catalogue import HINDSIGHT
from dopd.replay.runner import Result

if TYPE_CHECKING:
    from dopd.replay.report import Report

COLOURS = 8
"""Colours of the palette that policies take in turn."""
HINDSIGHT_COLOUR = 8


def page(report: "Report") -> str:
    """The whole page."""
    results = report.policies
    colours = {name: k % COLOURS for k, name in enumerate(n for n in results if n not in HINDSIGHT)}
    colours |= dict.fromkeys(HINDSIGHT, HINDSIGHT_COLOUR)
    known = {key.replace("_", " "): value for key, value in report.facts.items() if value is not None}
    facts = ", ".join(f"{name} {value}" for name, value in known.items())
    parts: list[pages.Part] = [
        Text(facts),
        _table(report),
        Text(
            "Bold reaches the objective. Of a policy with a knob the cheapest run that reaches it is shown, or the one"
            " that comes nearest. The cheapest peer is the cheapest policy that reaches it without knowing every"
            " request in advance as the optimum does, dopd apart."
        ),
        Heading("GPU-hours"),
        *_bars(report, colours),
        Heading("Over time"),
        Boxes([(name, colours[name]) for name in results]),
        *_charts(report, colours),
        Heading("All runs"),
        _tries(report),
    ]
    return pages.page(f"{report.trace} on {report.profile}", parts)


def _charts(report: "Report", colours: dict[str, int]) -> list[Chart]:
    results, load = report.policies, report.load
    unit, unit_seconds = pages.time_axis(report.seconds)
    middles = [(k + 0.5) * load["bin_seconds"] / unit_seconds for k in range(len(load["requests_per_second"]))]

    def over_time(name: str, colour: int, values: Sequence[float | None]) -> Line:
        return Line(name, list(zip(middles, values, strict=True)), colour, dashed=name in HINDSIGHT)

    def workers(column: int) -> list[Line]:
        return [
            Line(
                name,
                [(seconds / unit_seconds, count) for seconds, count in _targets(result, column, report.seconds)],
                colours[name],
                steps=True,
                dashed=name in HINDSIGHT,
                bold=name == "dopd",
            )
            for name, result in results.items()
            if result.timeline  # engines that do both have no workers of a role
        ]

    late = [
        over_time(name, colours[name], [None if share is None else 100 * share for share in result.late_shares])
        for name, result in results.items()
        if result.late_shares
    ]
    charts = [
        Chart("Load", [over_time("requests", HINDSIGHT_COLOUR, load["requests_per_second"])], "requests/s", unit),
        Chart("Prompts", [over_time("tokens", HINDSIGHT_COLOUR, load["input_tokens_per_second"])], "tokens/s", unit),
        Chart("Prefill workers asked for", workers(1), "", unit, whole=True),
        Chart("Decode workers asked for", workers(2), "", unit, whole=True),
    ]
    return [*charts, *([Chart("Late", late, "% of the requests that arrived then", unit)] if late else [])]


def _targets(result: Result, column: int, end_seconds: float) -> list[tuple[float, float]]:
    rows = [row for row in result.timeline if row[0] <= end_seconds]
    return [*((row[0], float(row[column])) for row in rows), (end_seconds, float(rows[-1][column]))]


def _table(report: "Report") -> Table:
    titles = (
        "policy", "both objectives", "TTFT", "ITL", "GPU-hours", "of cheapest peer", "of optimum", "TTFT p90",
        "TTFT p99", "ITL p90", "changes", "reversals per hour", "lost", "knob",
    )  # fmt: skip
    peer, oracle = report.cheapest_peer_gpu_hours, report.hindsight_gpu_hours
    rows = []
    for name, r in report.policies.items():
        cells = (
            name, f"{r.attainment:.2%}",
            f"{r.attainment_ttft:.2%}", f"{r.attainment_itl:.2%}", f"{r.gpu_hours:.2f}", _ratio(r.gpu_hours, peer),
            _ratio(r.gpu_hours, oracle), f"{r.ttft_p90:.2f} s", f"{r.ttft_p99:.2f} s", f"{r.itl_p90 * 1e3:.1f} ms",
            f"{r.changes}", f"{report.reversals_per_hour(r):.1f}", f"{r.lost}", report.knobs[name],
        )  # fmt: skip
        reached = r.attainment >= report.facts["attainment"]
        rows.append(Row(cells, ours=name == "dopd", bold=[1] if reached else []))
    return Table(titles, rows, prose=[len(titles) - 1])


def _ratio(hours: float, reference: float | None) -> str:
    return f"{hours / reference:.2f}" if reference else "-"


def _bars(report: "Report", colours: dict[str, int]) -> tuple[Text, Bars]:
    peer, goal = report.cheapest_peer_gpu_hours, report.facts["attainment"]
    bars = [
        Bar(name, f"{r.gpu_hours:.2f}, {r.attainment:.2%} attained", r.gpu_hours, colours[name], r.attainment < goal)
        for name, r in report.policies.items()
    ]
    note = "No peer reaches the objective." if peer is None else "The dashed line is the cheapest peer that reaches it."
    return Text(f"Pale misses the objective. {note}"), Bars(bars, peer)


def _tries(report: "Report") -> Table:
    rows = [
        Row((name, f"{run['attainment']:.2%}", f"{run['gpu_hours']:.2f}", run["knob"]))
        for name, runs in report.tries.items()
        for run in runs
    ]
    return Table(("policy", "attained", "GPU-hours", "knob"), rows, prose=[3])
