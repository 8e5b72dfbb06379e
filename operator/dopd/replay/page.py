"""A replay as one HTML page without any outside file: what it cost, what clients met, and when they were late."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dopd.api.text import escaped
from dopd.replay.charts import Bar, Line, bar_chart, line_chart
from dopd.replay.policies.catalogue import HINDSIGHT
from dopd.replay.runner import Result

if TYPE_CHECKING:
    from dopd.replay.report import Report

COLOURS = ("#0b6e99", "#c84c09", "#8d5b9e", "#2e7d32", "#b58900", "#9a1f40", "#d4659f", "#6b7280")
HINDSIGHT_COLOUR = "#444444"

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0 }}
th, td {{ padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd; vertical-align: top }}
th:first-child, td:first-child, td.text {{ text-align: left }} tr.run {{ font-weight: 600; background: #eef7fb }}
svg {{ max-width: 100%; height: auto }} td.text {{ font-size: 13px }}
</style></head><body><h1>{title}</h1>{body}</body></html>
"""
"""Frame and style of a page; the demo's page has them too."""

SHOW = """<script>
for (const box of document.querySelectorAll('input[data-name]'))
  box.onchange = () => document.querySelectorAll('path.line').forEach(line => {
    if (line.dataset.name === box.dataset.name) line.style.display = box.checked ? '' : 'none'
  })
</script>"""


def page(report: "Report") -> str:
    """The whole page."""
    results = report.policies
    colours = {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(n for n in results if n not in HINDSIGHT)}
    colours |= dict.fromkeys(HINDSIGHT, HINDSIGHT_COLOUR)
    on_top = dict(reversed(results.items()))  # what is drawn last, the first of the policies, hides the others
    end = report.seconds
    load = report.load
    middles = [(k + 0.5) * load["bin_seconds"] for k in range(len(load["requests_per_second"]))]

    def over_time(name: str, colour: str, values: Sequence[float | None]) -> Line:
        return Line(name, colour, list(zip(middles, values, strict=True)))

    def workers(column: int) -> list[Line]:
        return [
            Line(name, colours[name], _targets(result, column, end), steps=True, dashed=name in HINDSIGHT)
            for name, result in on_top.items()
            if result.timeline  # engines that do both have no workers of a role
        ]

    late = [
        over_time(name, colours[name], [None if share is None else 100 * share for share in result.late_shares])
        for name, result in on_top.items()
        if result.late_shares
    ]
    late_part = (
        f"<h3>Late requests, % of those that arrived then</h3>{line_chart('late share', late, end)}" if late else ""
    )
    facts = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in report.facts.items() if value is not None)
    boxes = " ".join(
        f"<label style='color:{colours[name]};margin-right:1rem'><input type='checkbox' checked "
        f"data-name='{escaped(name)}'> {escaped(name)}</label>"
        for name in results
    )
    body = "".join(
        (
            f"<p>{escaped(facts)}</p>",
            _table(report),
            "<h2>GPU-hours</h2>",
            _bars(report, colours),
            f"<h2>Over time</h2><p>{boxes}</p>",
            "<h3>Load: requests per second</h3>",
            line_chart("requests", [over_time("load", HINDSIGHT_COLOUR, load["requests_per_second"])], end),
            "<h3>Load: prompt tokens per second</h3>",
            line_chart("prompt tokens", [over_time("load", HINDSIGHT_COLOUR, load["input_tokens_per_second"])], end),
            f"<h3>Prefill workers asked for</h3>{line_chart('prefill workers', workers(1), end)}",
            f"<h3>Decode workers asked for</h3>{line_chart('decode workers', workers(2), end)}",
            late_part,
            f"<h2>All runs</h2>{_tries(report)}",
            SHOW,
        )
    )
    return PAGE.format(title=escaped(f"{report.trace} on {report.profile}"), body=body)


def _targets(result: Result, column: int, end_seconds: float) -> list[tuple[float, float | None]]:
    rows = [row for row in result.timeline if row[0] <= end_seconds]
    return [*((row[0], row[column]) for row in rows), (end_seconds, rows[-1][column])]


def _table(report: "Report") -> str:
    titles = (
        "policy", "both objectives", "TTFT", "ITL", "GPU-hours", "of cheapest peer", "of optimum", "TTFT p90",
        "TTFT p99", "ITL p90", "changes", "reversals per hour", "lost", "knob",
    )  # fmt: skip
    peer, oracle = report.cheapest_peer_gpu_hours, report.hindsight_gpu_hours
    rows = []
    for name, r in report.policies.items():
        reached = r.attainment >= report.facts["attainment"]
        cells = (
            f"<b>{r.attainment:.2%}</b>" if reached else f"{r.attainment:.2%}",
            f"{r.attainment_ttft:.2%}", f"{r.attainment_itl:.2%}", f"{r.gpu_hours:.2f}", _ratio(r.gpu_hours, peer),
            _ratio(r.gpu_hours, oracle), f"{r.ttft_p90:.2f} s", f"{r.ttft_p99:.2f} s", f"{r.itl_p90 * 1e3:.1f} ms",
            f"{r.changes}", f"{report.reversals_per_hour(r):.1f}", f"{r.lost}",
        )  # fmt: skip
        kind = " class='run'" if name == "dopd" else ""
        rows.append(
            f"<tr{kind}><td>{escaped(name)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}"
            f"<td class='text'>{escaped(report.knobs[name])}</td></tr>"
        )
    head = "".join(f"<th>{title}</th>" for title in titles)
    return (
        f"<div style='overflow-x:auto'><table><tr>{head}</tr>{''.join(rows)}</table></div>"
        "<p>Bold reaches the objective. Of a policy with a knob the cheapest run that reaches it is shown, or the one "
        "that comes nearest. The cheapest peer is the cheapest policy that reaches it without knowing every request in "
        "advance as the optimum does, dopd apart.</p>"
    )


def _ratio(hours: float, reference: float | None) -> str:
    return f"{hours / reference:.2f}" if reference else "-"


def _bars(report: "Report", colours: dict[str, str]) -> str:
    peer, goal = report.cheapest_peer_gpu_hours, report.facts["attainment"]
    bars = [
        Bar(name, f"{r.gpu_hours:.2f}, {r.attainment:.2%} attained", r.gpu_hours, colours[name], r.attainment < goal)
        for name, r in report.policies.items()
    ]
    note = "no peer reaches the objective" if peer is None else "the dashed line is the cheapest peer that reaches it"
    return f"<p>Pale misses the objective; {note}.</p>{bar_chart('GPU-hours by policy', bars, peer)}"


def _tries(report: "Report") -> str:
    rows = "".join(
        f"<tr><td>{escaped(name)}</td><td>{run['attainment']:.2%}</td><td>{run['gpu_hours']:.2f}</td>"
        f"<td class='text'>{escaped(run['knob'])}</td></tr>"
        for name, runs in report.tries.items()
        for run in runs
    )
    head = "<tr><th>policy</th><th>attained</th><th>GPU-hours</th><th>knob</th></tr>"
    return f"<table>{head}{rows}</table>"
