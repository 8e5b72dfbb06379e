"""The run as one HTML page without any outside file: its figures beside those of other policies, and its course."""

import math
from collections.abc import Callable, Sequence

from dopd.replay import pages
from dopd.replay.pages import Chart, Heading, Line, Row, Table, Text
from e2e.demo.record import Run
from e2e.demo.watch import served_after_seconds
from e2e.demo.what_if import Outcome, WhatIf

OURS, FORECAST, LOAD, NEED = 0, 1, 8, 9
"""Colours of the palette."""
OTHERS = (0, 1, 2, 7)
ATTAINED_SECONDS = 10.0


def page(run: Run, other: WhatIf, trace: str) -> str:
    """The whole page.

    Args:
        run: what was recorded.
        other: what other policies would have done.
        trace: name of the trace.
    """
    parts: list[pages.Part] = [
        Text(_facts(run, trace)),
        *_comparison(run, other),
        Heading("The run"),
        *course(run),
        Heading("Beside other policies"),
        comparison(run, other),
        Heading("Decisions"),
        _decisions(run),
    ]
    return pages.page(f"dopd: {run.scenario.title[0].lower()}{run.scenario.title[1:]}", parts)


def _facts(run: Run, trace: str) -> str:
    scenario, peak, slo = run.scenario, run.peak(), run.settings.objectives(run.scenario.speedup)
    leads = ", ".join(f"{role.value} {seconds:.1f} s" for role, seconds in run.lead_seconds.items())
    if peak.ready_seconds is None:
        before = "did not all serve when it began"
    else:
        before = f"served {peak.at_seconds - peak.ready_seconds:.0f} s of the clock before it began"
    sentences = (
        f"Trace {trace}, {scenario.speedup:g} times as fast as recorded, on a kind cluster with simulated"
        " engines; Prometheus, gateway, operator and Kubernetes are real.",
        f"{len(run.results)} requests were sent, {len(run.lost)} were lost.",
        f"{scenario.lead_in_seconds:g} s of lead-in come before the trace and count in no share below.",
        f"Objectives: first token within {slo.ttft_seconds:g} s, {slo.itl_seconds * 1000:g} ms between tokens.",
        f"A worker took from its start to serving, of the clock: {leads}.",
        f"The busiest stretch needs {peak.prefill}+{peak.decode} workers, which {before}.",
    )
    return " ".join(sentences)


def _comparison(run: Run, other: WhatIf) -> tuple[Table, Text]:
    summary = run.summary()
    titles = ("", "both objectives", "first token", "between tokens", "GPU time", "of reactive")
    reference = other.reactive.gpu_seconds
    measured = (summary.attainment, summary.attainment_ttft, summary.attainment_itl)
    rows = [_row("this run, measured at the client", measured, run.gpu_seconds, reference, ours=True)]
    rows += [
        _row(o.label, (o.attainment, o.attainment_ttft, o.attainment_itl), o.gpu_seconds, reference)
        for o in other.outcomes
    ]
    return Table(titles, rows), Text(
        "All rows but the first are replayed: the same arrivals on simulated time, start-up as measured in this run."
        " How far the second row lies from the first says how far the others can be believed. The reactive rows and the"
        " static one were chosen with hindsight: of all targets tried, the cheapest that reach the objective on this"
        " load. GPU time is that of the trace; the last column is relative to the first reactive row."
    )


def _row(
    label: str, shares: Sequence[float | None], gpu_seconds: float, reference: float, *, ours: bool = False
) -> Row:
    cells = [label, *(f"{share or 0:.2%}" for share in shares)]
    return Row([*cells, f"{gpu_seconds / 3600:.2f} h", f"{gpu_seconds / reference:.2f}"], ours=ours)


def _decisions(run: Run) -> Table:
    rows = []
    for decision in run.decisions:
        after = served_after_seconds(decision, run.samples)
        cells = (
            f"{_minutes(run)(decision.at_seconds):.1f}",
            f"{decision.before} to {decision.to}",
            "superseded" if after is None else f"{after:.0f} s",
            decision.reason,
            decision.message,
        )
        rows.append(Row(cells))
    return Table(("minute", "workers", "served after", "reason", "why"), rows, prose=[4])


def course(run: Run) -> list[Chart]:
    """Load, workers, ratio and attainment over the minutes of the trace."""
    minutes, start = _minutes(run), run.lead_in_seconds
    led_in = (minutes(0.0), 0.0)
    interval = run.settings.policy.interval_seconds
    known = [(minutes(s.at_seconds), s.load.demand) for s in run.samples if s.load.demand is not None]
    ahead = [
        (minutes(s.at_seconds + max(s.load.lead_seconds.values(), default=0.0) + interval), s.load.forecast)
        for s in run.samples
        if s.load.forecast is not None
    ]
    load = [
        Line("greatest load expected, at the end of the lead that it was expected in", ahead, FORECAST),
        Line("demand, as observed", known, LOAD),
        Line("arrivals", [(minutes(t), rate) for t, rate in run.arrivals()], NEED),
    ]
    charts = [Chart("Load", load, "requests/s of the clock", shaded=led_in)]
    for role in ("prefill", "decode"):
        of_role = [(minutes(s.at_seconds), getattr(s, role)) for s in run.samples]
        lines = [
            Line("serving", [(at, workers.ready) for at, workers in of_role], OURS, steps=True, bold=True),
            Line("wanted", [(at, workers.desired) for at, workers in of_role], FORECAST, steps=True),
            Line(
                "needed, with hindsight",
                [(minutes(n.at_seconds + start), getattr(n, role)) for n in run.needs],
                NEED,
                steps=True,
            ),
        ]
        charts.append(Chart(f"{role.capitalize()} workers", lines, whole=True, shaded=led_in))
    ratio = [
        (minutes(s.at_seconds), math.log2(s.prefill.ready / s.decode.ready))
        for s in run.samples
        if s.prefill.ready and s.decode.ready
    ]
    charts.append(Chart("Ratio", [Line("P:D that serve", ratio, OURS, steps=True)], ratio=True, shaded=led_in))
    stretches = run.attained(ATTAINED_SECONDS)
    middles = [minutes(a.at_seconds + ATTAINED_SECONDS / 2) for a in stretches]
    attained = [
        Line("first token", [(at, 100 * a.ttft) for at, a in zip(middles, stretches, strict=True)], OURS),
        Line("between tokens", [(at, 100 * a.itl) for at, a in zip(middles, stretches, strict=True)], FORECAST),
    ]
    return [*charts, Chart("In time", attained, "% of the requests", bottom=None, shaded=led_in)]


def comparison(run: Run, other: WhatIf) -> Chart:
    """GPUs that pods held in the run, and targets of the other policies."""
    minutes, policy, end = _minutes(run), run.settings.policy, run.schedule.seconds
    held = [(minutes(s.at_seconds), float(s.gpus)) for s in run.samples if s.at_seconds <= end]
    lines = [Line("this run", held, OURS, steps=True, bold=True)]
    for outcome, colour in zip(other.outcomes, OTHERS, strict=True):
        points = [(minutes(at), float(gpus)) for at, gpus in _gpus(outcome, policy.gpus, end)]
        lines.append(Line(outcome.label, points, colour, steps=True, dashed=outcome is other.dopd))
    return Chart("GPUs", lines, whole=True, shaded=(minutes(0.0), 0.0))


def _gpus(outcome: Outcome, gpus: Callable[[int, int], int], end_seconds: float) -> list[tuple[float, int]]:
    counts = [(seconds, gpus(prefill, decode)) for seconds, prefill, decode in outcome.timeline]
    return [*counts, (end_seconds, counts[-1][1])]


def _minutes(run: Run) -> Callable[[float], float]:
    """From seconds of the clock since the load began to minutes of the trace."""
    return lambda seconds: (seconds - run.lead_in_seconds) * run.scenario.speedup / 60
