"""One table over many replays, for the docs: what each policy reached and what it cost, losses shown too.

python -m dopd.replay.table REPORT.json ... > table.md
"""

import json
import sys
from pathlib import Path
from typing import Any

from dopd.replay.report import is_peer
from dopd.replay.trace import Within

HEADER = (
    "| trace | profile | start-up | policy | attained | GPU-hours | of cheapest peer at objective | of oracle "
    "| TTFT p90 | changes | reversals per hour |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)


def rows(report: dict[str, Any]) -> list[str]:
    """The lines of one replay, dopd first."""
    policies, goal = report["policies"], report["attainment"]
    peers = {name: p for name, p in policies.items() if is_peer(name)}
    reached = [p["gpu_hours"] for p in peers.values() if p["attainment"] >= goal]
    cheapest = min(reached, default=None)
    oracle = policies.get("oracle", {}).get("gpu_hours")
    load = _load(report)
    lines = []
    for name, p in policies.items():
        hours = p["gpu_hours"]
        lines.append(
            f"| {load} | {report['profile']} | {report['start_up_seconds']:g} s "
            f"| {name}{' (' + p['knob'] + ')' if p['knob'] else ''} | {_marked(p['attainment'], goal)} | {hours:.2f} "
            f"| {_ratio(hours, cheapest)} | {_ratio(hours, oracle)} | {p['ttft_p90']:.2f} s | {p['changes']} "
            f"| {p['reversals_per_hour']:.1f} |"
        )
    return lines


def _load(report: dict[str, Any]) -> str:
    """The trace, how much of it, which part, and whether it jumps from interval to interval."""
    start, whole = report["from_seconds"], report["to_seconds"] is None
    end = start + report["seconds"]
    part = "" if whole and not start else f", hours {round(start / 3600, 1):g} to {round(end / 3600, 1):g}"
    steps = ", in steps" if report["within"] == Within.CONSTANT else ""
    return f"{report['trace']} x{report['rate_scale']:g}{part}{steps}"


def _marked(attainment: float, goal: float) -> str:
    """The figure, bold where it reaches the objective."""
    text = f"{attainment:.2%}"
    return f"**{text}**" if attainment >= goal else text


def _ratio(hours: float, reference: float | None) -> str:
    return f"{hours / reference:.2f}" if reference else "none reached it"


def main(paths: list[str]) -> int:
    """Print the table of the given reports; 2 if one of them is no report, which is said in its place."""
    print(HEADER)
    code = 0
    for path in paths:
        try:
            lines = rows(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
            print(
                f"{path}: {why}; expected what this version's `dopd replay --json` writes: run that replay again",
                file=sys.stderr,
            )
            code = 2
            continue
        print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
