"""A run in few numbers: as JSON, and as a short table."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from e2e.endurance.plan import Kind
from e2e.endurance.run import Record
from e2e.load.client import Outcome
from e2e.load.summary import percentile, summarize

Json = dict[str, Any]


def as_json(record: Record) -> Json:
    """All that a run found; of the requests those that were lost, and a summary."""
    plain = {name: value for name, value in asdict(record).items() if name not in ("results", "began")}
    lost = [asdict(result) for result in record.results if result.outcome is not Outcome.OK]
    short = sum(r.got_tokens != r.asked_tokens for r in record.results if r.outcome is Outcome.OK)
    summary = summarize(record.results).as_json()
    return {**plain, "began": record.began.isoformat(), "lost": lost, "wrong_counts": short, "summary": summary}


def table(runs: Sequence[Json]) -> str:
    """Several runs together as Markdown."""
    lines = ["| what | times | median s | P90 s | longest s |", "|---|---|---|---|---|"]
    for kind in Kind:
        lines.append(_row(kind, [s["seconds"] for run in runs for s in run["steps"] if s["kind"] == kind]))
    lines.append(_row("scale-up between", [s for run in runs for s in run["growth_seconds"]]))
    counted = ("requests", "failed", "truncated", "sent_again")
    total = {name: sum(run["summary"][name] for run in runs) for name in counted}
    wrong = sum(run["wrong_counts"] for run in runs)
    late = max((run["summary"]["late_p99_seconds"] for run in runs), default=0.0)
    flips = [step for run in runs for step in run["steps"] if step["kind"] == Kind.FLIP]
    lines += [
        "",
        "| result | |",
        "|---|---|",
        f"| requests | {total['requests']} |",
        f"| failed | {total['failed']} |",
        f"| truncated | {total['truncated']} |",
        f"| sent again, since a kept connection was closed | {total['sent_again']} |",
        f"| with another number of tokens than asked for | {wrong} |",
        f"| most GPUs held at any event of the audit log, of the budget | {_cap(runs)} |",
        f"| creations and ends of workers in the audit log | {sum(run['events'] for run in runs)} |",
        f"| engines that still hold something 30 s after the last answer | {sum(len(run['stuck']) for run in runs)} |",
        f"| workers that changed their role; replaced instead | {_sum(flips, 'flips')}; {_sum(flips, 'replaced')} |",
        f"| seeds | {', '.join(str(run['seed']) for run in runs)} |",
        f"| load, requests/s; client late P99, s | {runs[0]['requests_per_second']:g}; {late:.3f} |",
    ]
    return "\n".join(lines) + "\n"


def passed(run: Json) -> bool:
    """Whether nothing was lost, nothing is stuck, and the cap held."""
    return not (run["lost"] or run["wrong_counts"] or run["over"] or run["stuck"] or run["broken_off"])


def _sum(steps: Sequence[Json], of: str) -> int:
    return sum(step[of] for step in steps)


def _cap(runs: Sequence[Json]) -> str:
    return ", ".join(sorted({f"{run['most_gpus']} of {run['gpus']}" for run in runs}))


def _row(what: str, seconds: Sequence[float]) -> str:
    if not seconds:
        return f"| {what} | 0 | | | |"
    median, late = percentile(seconds, 0.5), percentile(seconds, 0.9)
    return f"| {what} | {len(seconds)} | {median:.1f} | {late:.1f} | {max(seconds):.1f} |"
