"""Results as JSON, as a table for a terminal, and as one HTML page without any outside file."""

import html
import json
from dataclasses import asdict, dataclass
from typing import Any

from dopd.replay.runner import Result

COLOURS = ("#0b6e4f", "#c84c09", "#31497c", "#8d5b9e", "#6b7280", "#b58900", "#9a1f40", "#2a9d8f")


@dataclass(frozen=True)
class Report:
    """All policies on one trace.

    Attributes:
        trace: name of the trace.
        profile: name of the profile.
        facts: what else was the same for all: requests, objectives, start-up time, arrival process, simulator.
        policies: the chosen run of each policy.
        knobs: value of the knob of the chosen run, by policy.
        tries: attainment and GPU-hours of every run, by policy.
    """

    trace: str
    profile: str
    facts: dict[str, Any]
    policies: dict[str, Result]
    knobs: dict[str, str]
    tries: dict[str, list[dict[str, Any]]]

    def as_json(self) -> str:
        """The report as JSON."""
        policies = {name: asdict(result) | {"knob": self.knobs[name]} for name, result in self.policies.items()}
        content = {
            "trace": self.trace,
            "profile": self.profile,
            **self.facts,
            "policies": policies,
            "tries": self.tries,
        }
        return json.dumps(content, indent=1)

    def as_text(self) -> str:
        """The report as a table."""
        facts = ", ".join(f"{key} {value}" for key, value in self.facts.items())
        lines = [
            f"{self.trace} on {self.profile}: {facts}",
            "policy         attained    TTFT     ITL    GPU-h  TTFT p90  ITL p90 changes cached  knob",
        ]
        for name, r in self.policies.items():
            lines.append(
                f"{name:<14}{r.attainment:>9.2%}{r.attainment_ttft:>8.1%}{r.attainment_itl:>8.1%}{r.gpu_hours:>9.2f}"
                f"{r.ttft_p90:>9.2f}s{r.itl_p90 * 1e3:>7.1f}ms{r.changes:>8}{r.cached_share:>7.0%}  {self.knobs[name]}"
            )
        return "\n".join(lines)

    def as_html(self) -> str:
        """The report as a page: the table, and the workers of each policy over time."""
        rows = "".join(
            f"<tr><td style='color:{COLOURS[i % len(COLOURS)]}'>{html.escape(name)}</td><td>{r.attainment:.2%}</td>"
            f"<td>{r.gpu_hours:.2f}</td><td>{r.ttft_p90:.2f} s</td><td>{r.itl_p90 * 1e3:.1f} ms</td>"
            f"<td>{r.changes}</td><td>{html.escape(self.knobs[name])}</td></tr>"
            for i, (name, r) in enumerate(self.policies.items())
        )
        facts = ", ".join(f"{html.escape(str(k))} {html.escape(str(v))}" for k, v in self.facts.items())
        return (
            "<!doctype html><meta charset='utf-8'><title>dopd replay</title>"
            "<style>body{font:15px/1.5 system-ui;margin:2em auto;max-width:62em;padding:0 1em}"
            "table{border-collapse:collapse}td,th{padding:.25em .8em;text-align:right;border-bottom:1px solid #ddd}"
            "td:first-child,th:first-child,td:last-child{text-align:left}</style>"
            f"<h1>{html.escape(self.trace)} on {html.escape(self.profile)}</h1><p>{facts}</p>"
            "<table><tr><th>policy</th><th>attained</th><th>GPU-hours</th><th>TTFT p90</th><th>ITL p90</th>"
            f"<th>changes</th><th>knob</th></tr>{rows}</table>"
            f"<h2>Prefill workers</h2>{self._chart(1)}<h2>Decode workers</h2>{self._chart(2)}"
        )

    def _chart(self, column: int) -> str:
        """Targets over time, one stepped line per policy, as SVG."""
        end = max(float(self.facts["seconds"]), 1.0)
        top = max((row[column] for r in self.policies.values() for row in r.timeline), default=1)
        lines = []
        for i, (name, result) in enumerate(self.policies.items()):
            points, previous = [], None
            for row in (*result.timeline, (end, *result.timeline[-1][1:])):
                x, y = 40 + 900 * row[0] / end, 200 - 180 * row[column] / top
                if previous is not None:
                    points.append(f"{x:.1f},{previous:.1f}")
                points.append(f"{x:.1f},{y:.1f}")
                previous = y
            lines.append(
                f"<polyline fill='none' stroke='{COLOURS[i % len(COLOURS)]}' stroke-width='1.5' "
                f"points='{' '.join(points)}'><title>{html.escape(name)}</title></polyline>"
            )
        return (
            f"<svg viewBox='0 0 960 220' role='img'><text x='4' y='24'>{top}</text><text x='4' y='204'>0</text>"
            f"<text x='880' y='218'>{end / 3600:.1f} h</text>{''.join(lines)}</svg>"
        )
