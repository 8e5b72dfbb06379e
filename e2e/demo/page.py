"""The run as one HTML page without any outside file: its figures beside those of other policies, and its course."""

import io
import re
from collections.abc import Callable, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dopd.api.text import escaped
from dopd.replay.page import PAGE
from e2e.demo.record import Run
from e2e.demo.watch import served_after_seconds
from e2e.demo.what_if import Outcome, WhatIf

mpl.use("Agg")
OURS, LOAD, FORECAST, NEED = "#0b6e99", "#444444", "#c84c09", "#b0b7bf"
OTHERS = ("#0b6e99", "#c84c09", "#8d5b9e", "#6b7280")
ATTAINED_SECONDS = 10.0


def page(run: Run, other: WhatIf, trace: str) -> str:
    """The whole page.

    Args:
        run: what was recorded.
        other: what other policies would have done.
        trace: name of the trace.
    """
    body = "".join(
        (
            _facts(run, trace),
            _comparison(run, other),
            "<h2>The run</h2>",
            _svg(course(run)),
            "<h2>Workers, beside other policies</h2>",
            _svg(comparison(run, other)),
            "<h2>Decisions</h2>",
            _decisions(run),
        )
    )
    return PAGE.format(title=escaped(f"dopd: {run.scenario.title[0].lower()}{run.scenario.title[1:]}"), body=body)


def _facts(run: Run, trace: str) -> str:
    scenario, peak, slo = run.scenario, run.peak(), run.settings.objectives(run.scenario.speedup)
    leads = ", ".join(f"{role.value} {seconds:.1f} s" for role, seconds in run.lead_seconds.items())
    if peak.ready_seconds is None:
        before = "did not all serve when it began"
    else:
        before = f"served {peak.at_seconds - peak.ready_seconds:.0f} s of the clock before it began"
    sentences = (
        f"Trace {escaped(trace)}, {scenario.speedup:g} times as fast as recorded, on a kind cluster with simulated"
        " engines; Prometheus, gateway, operator and Kubernetes are real.",
        f"{len(run.results)} requests were sent, {len(run.lost)} were lost.",
        f"{scenario.lead_in_seconds:g} s of lead-in come before the trace and count in no share below.",
        f"Objectives: first token within {slo.ttft_seconds:g} s, {slo.itl_seconds * 1000:g} ms between tokens.",
        f"A worker took from its start to serving, of the clock: {leads}.",
        f"The busiest stretch needs {peak.prefill}+{peak.decode} workers, which {before}.",
    )
    return f"<p>{' '.join(sentences)}</p>"


def _comparison(run: Run, other: WhatIf) -> str:
    summary = run.summary()
    titles = ("", "both objectives", "first token", "between tokens", "GPU time", "")
    head = f"<tr>{''.join(f'<th>{title}</th>' for title in titles)}</tr>"
    reference = other.reactive.gpu_seconds
    rows = [
        _row(
            "this run, measured at the client",
            (summary.attainment, summary.attainment_ttft, summary.attainment_itl),
            run.gpu_seconds,
            reference,
            " class='run'",
        )
    ]
    rows += [
        _row(o.label, (o.attainment, o.attainment_ttft, o.attainment_itl), o.gpu_seconds, reference)
        for o in other.outcomes
    ]
    return (
        f"<table>{head}{''.join(rows)}</table>"
        "<p>All rows but the first are replayed: the same arrivals on simulated time, start-up as measured in this run."
        " How far the second row lies from the first says how far the others can be believed. The reactive rows and the"
        " static one were chosen with hindsight: of all targets tried, the cheapest that reach the objective on this"
        " load. GPU time is that of the trace; the last column is relative to the first reactive row.</p>"
    )


def _row(label: str, shares: Sequence[float | None], gpu_seconds: float, reference: float, kind: str = "") -> str:
    cells = "".join(f"<td>{share or 0:.2%}</td>" for share in shares)
    return (
        f"<tr{kind}><td>{escaped(label)}</td>{cells}<td>{gpu_seconds / 3600:.2f} h</td>"
        f"<td>{gpu_seconds / reference:.2f}</td></tr>"
    )


def _decisions(run: Run) -> str:
    rows = []
    for decision in run.decisions:
        after = served_after_seconds(decision, run.samples)
        workers = escaped(f"{decision.before} to {decision.to}")
        rows.append(
            f"<tr><td>{_minutes(run)(decision.at_seconds):.1f}</td><td>{workers}</td>"
            f"<td>{'superseded' if after is None else f'{after:.0f} s'}</td>"
            f"<td class='text'><b>{escaped(decision.reason)}</b> {escaped(decision.message)}</td></tr>"
        )
    head = "<tr><th>minute</th><th>workers</th><th>served after</th><th>why</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def course(run: Run) -> Figure:
    """Load, workers, ratio and attainment over the minutes of the trace."""
    figure = Figure(figsize=(10, 12), layout="constrained")
    load, prefill, decode, ratio, attained = figure.subplots(
        5, 1, sharex=True, gridspec_kw={"height_ratios": [3, 2, 2, 1.2, 1.5]}
    )
    minutes = _minutes(run)
    arrivals = run.arrivals()
    _line(load, [minutes(t) for t, _ in arrivals], [rate for _, rate in arrivals], "arrivals", NEED)
    known = [(s.at_seconds, s.load.demand) for s in run.samples if s.load.demand is not None]
    _line(load, [minutes(t) for t, _ in known], [rate for _, rate in known], "demand, as observed", LOAD)
    interval = run.settings.policy.interval_seconds
    ahead = [
        (s.at_seconds + max(s.load.lead_seconds.values(), default=0.0) + interval, s.load.forecast)
        for s in run.samples
        if s.load.forecast is not None
    ]
    name = "greatest load expected, at the end of the lead that it was expected in"
    _line(load, [minutes(t) for t, _ in ahead], [rate for _, rate in ahead], name, FORECAST, gid="forecast")
    load.set(ylabel="requests/s of the clock", ylim=(0, None))
    for axes, role, need in (
        (prefill, "prefill", [n.prefill for n in run.needs]),
        (decode, "decode", [n.decode for n in run.needs]),
    ):
        at = [minutes(s.at_seconds) for s in run.samples]
        workers = [getattr(s, role) for s in run.samples]
        starts = [minutes(n.at_seconds + run.lead_in_seconds) for n in run.needs]
        _line(axes, starts, need, "needed, with hindsight", NEED, gid=f"{role}-needed", steps=True)
        _line(axes, at, [w.desired for w in workers], "wanted", FORECAST, gid=f"{role}-wanted", steps=True)
        _line(axes, at, [w.ready for w in workers], "serving", OURS, gid=f"{role}-serving", steps=True)
        axes.set(ylabel=f"{role} workers", ylim=(0, run.settings.policy.prefill.max + 0.5))
    both = [s for s in run.samples if s.prefill.ready and s.decode.ready]
    shares = [s.prefill.ready / s.decode.ready for s in both]
    _line(ratio, [minutes(s.at_seconds) for s in both], shares, "P per D", OURS, gid="ratio", steps=True)
    ratio.set(
        ylabel="P per D", yscale="log", yticks=[0.25, 0.5, 1, 2, 4], yticklabels=["1:4", "1:2", "1:1", "2:1", "4:1"]
    )
    ratio.minorticks_off()
    stretches = run.attained(ATTAINED_SECONDS)
    middles = [minutes(a.at_seconds + ATTAINED_SECONDS / 2) for a in stretches]
    _line(attained, middles, [100 * a.ttft for a in stretches], "first token in time", OURS, gid="ttft")
    _line(attained, middles, [100 * a.itl for a in stretches], "between tokens in time", FORECAST, gid="itl")
    attained.set(ylabel="% of requests", xlabel="minute of the trace", ylim=(None, 101))
    for axes in (load, prefill, decode, ratio, attained):
        axes.axvspan(minutes(0.0), 0.0, color="#f3f3f3", zorder=0)
        axes.set_xlim(minutes(0.0), minutes(run.schedule.seconds))
        axes.legend(fontsize="small", loc="lower left" if axes is attained else "upper left")
    return figure


def comparison(run: Run, other: WhatIf) -> Figure:
    """GPUs that pods held in the run, and targets of the other policies."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    minutes, policy, end = _minutes(run), run.settings.policy, run.schedule.seconds
    for outcome, colour in zip(other.outcomes, OTHERS, strict=True):
        at, gpus = _gpus(outcome, policy.gpus, end)
        first = outcome is other.dopd
        _line(
            axes,
            [minutes(t) for t in at],
            gpus,
            outcome.label,
            colour,
            steps=True,
            style=":" if first else "-",
            width=1.2,
        )
    at = [s.at_seconds for s in run.samples if s.at_seconds <= end]
    gpus = [s.gpus for s in run.samples if s.at_seconds <= end]
    _line(axes, [minutes(t) for t in at], gpus, "this run", OURS, gid="gpus", steps=True, width=2.5)
    axes.set(ylabel="GPUs", xlabel="minute of the trace", ylim=(0, None), xlim=(minutes(0.0), minutes(end)))
    axes.legend(fontsize="small", loc="upper left")
    return figure


def _gpus(outcome: Outcome, gpus: Callable[[int, int], int], end_seconds: float) -> tuple[list[float], list[int]]:
    at = [seconds for seconds, _, _ in outcome.timeline]
    counts = [gpus(prefill, decode) for _, prefill, decode in outcome.timeline]
    return [*at, end_seconds], [*counts, counts[-1]]


def _minutes(run: Run) -> Callable[[float], float]:
    """From seconds of the clock since the load began to minutes of the trace."""
    return lambda seconds: (seconds - run.lead_in_seconds) * run.scenario.speedup / 60


def _line(
    axes: Axes,
    x: Sequence[float],
    y: Sequence[float],
    label: str,
    colour: str,
    *,
    gid: str = "",
    steps: bool = False,
    style: str = "-",
    width: float = 1.5,
) -> None:
    name = gid or re.sub(r"\W+", "-", label)
    axes.plot(
        x, y, label=label, color=colour, gid=name, lw=width, ls=style, drawstyle="steps-post" if steps else "default"
    )


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "dopd"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
