"""A run in figures: as JSON, as a short table, and what is wrong with it. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from e2e.load.client import Result
from e2e.load.summary import percentile, summarize
from e2e.soak.agreement import STAND_SECONDS, agreement, workers_there
from e2e.soak.day import rate_at
from e2e.soak.losses import ended_at_seconds, losses
from e2e.soak.memory import FLAT_SHARE_PER_HOUR, JUDGED_SECONDS, WARM_UP_SECONDS, restarts, trends
from e2e.soak.plan import CALM_SECONDS, TRAITS, Kind
from e2e.soak.run import Record

Json = dict[str, Any]
BIN_SECONDS = 10.0
KINDS_HEAD = ("fault", "times", "well again, median s", "longest s", "requests that it cost")
RESTART_SECONDS = 60.0
"""So long after a fault that may end the operator it may still do so: its Lease runs out, say."""


def as_json(record: Record) -> Json:
    """All that a run found, for JSON; of the requests those that were not whole, and counts by time."""
    lost = losses(record.results, record.faults)
    there = workers_there(record.held, record.name, record.began)
    disturbed = [(fault.at_seconds, fault.well_at_seconds) for fault in record.faults]
    agreed = agreement(record.decisions, there, disturbed, record.ended_at)
    during = [each for each in record.held if each.at >= record.began]
    summary = summarize(record.results).as_json()
    return {
        "seed": record.seed,
        "began": record.began.isoformat(timespec="seconds"),
        "hours": record.hours,
        "seconds": record.seconds,
        "ended_at": round(record.ended_at, 1),
        "broken_off": record.broken_off,
        "summary": summary,
        "load": _load(record),
        "planned": len(record.planned),
        "faults": [
            {
                "kind": str(fault.kind),
                "at_seconds": round(fault.at_seconds, 1),
                "seconds": round(fault.well_at_seconds - fault.at_seconds, 1),
                "hit": fault.hit,
                "own": [_of(result) for result in lost.own.get(number, [])],
            }
            for number, fault in enumerate(record.faults)
        ],
        "lost": [_of(result) for result in lost.lost],
        "gpus": record.gpus,
        "most_gpus": max((each.gpus for each in during), default=0),
        "events": len(during),
        "over": [f"{each.at:%H:%M:%S.%f} {each.pod}: {each.gpus}" for each in during if each.gpus > record.gpus],
        "stuck": record.stuck,
        "looks": [asdict(look) for look in record.looks],
        "missed": record.missed,
        "decisions": [asdict(decision) for decision in record.decisions],
        "there": [asdict(each) for each in there],
        "agreement": asdict(agreed),
        "memory": [asdict(reading) for reading in record.readings],
        "trends": [
            {**asdict(trend), "share_per_hour": trend.share_per_hour, "flat": trend.flat}
            for trend in trends(record.readings)
        ],
        "long": record.seconds / 2 >= CALM_SECONDS,
        "unasked_restarts": _unasked_restarts(record),
    }


def problems(found: Json) -> list[str]:
    """What is wrong with a run, in words; nothing when it passed."""
    return list(_problems(found))


def _problems(found: Json) -> Iterator[str]:
    if found["broken_off"]:
        yield f"broken off after {found['ended_at']:.0f} of {found['seconds']:.0f} s: {found['broken_off']}"
    if lost := found["lost"]:
        yield f"{len(lost)} requests were lost, the first at {lost[0]['ended_at']:.0f} s: {lost[0]['error']}"
    if over := found["over"]:
        yield f"more than {found['gpus']} GPUs were held at {len(over)} events, the first: {over[0]}"
    if stuck := found["stuck"]:
        yield f"engines still held something half a minute after the last answer: {', '.join(stuck)}"
    agreed = found["agreement"]
    if others := agreed["disagreements"]:
        first = others[0]
        yield (
            f"decisions and cluster disagreed {len(others)} times, the first at {first['at_seconds']:.0f} s:"
            f" said {_pair(first['said'])}, there {_pair(first['there'])} ({first['what']})"
        )
    if found["unasked_restarts"]:
        yield f"the operator's process changed without a fault that ends it: {', '.join(found['unasked_restarts'])}"
    for trend in found["trends"]:
        if not trend["flat"]:
            yield f"memory of {trend['process']} grew by {_growth(trend)}; flat is less than {FLAT_SHARE_PER_HOUR:.0%}"
    if found["long"] and not found["trends"]:
        least = WARM_UP_SECONDS + JUDGED_SECONDS
        yield f"memory could not be judged: no process of the operator was seen for {least:.0f} s"
    if found["long"] and not agreed["checked"]:
        yield f"no decision stood {STAND_SECONDS:.0f} s undisturbed, so none was compared with the cluster"


def verdict(found: Json) -> str:
    """One line: passed or not, and what a short run can not tell."""
    wrong = problems(found)
    if wrong:
        return f"not passed: {'; '.join(wrong)}"
    return "passed" if found["trends"] else "passed; too short to judge memory"


def figures(found: Json) -> list[tuple[str, str]]:
    """What was found, each with its name."""
    summary, agreed = found["summary"], found["agreement"]
    speed = 3600 * found["hours"] / found["seconds"]
    rows = [
        (
            "simulated hours",
            f"{found['hours']:g}, {speed:g} times as fast; {found['ended_at'] / 60:.1f} min were played",
        ),
        ("faults that came, of those planned", f"{len(found['faults'])} of {found['planned']}"),
        ("requests, streamed tokens", f"{summary['requests']}, {summary['output_tokens']}"),
        ("requests lost", f"{len(found['lost'])}"),
        ("requests sent again, since a kept connection was closed", f"{summary['sent_again']}"),
        ("requests that a fault may cost, and did", f"{sum(len(fault['own']) for fault in found['faults'])}"),
        ("most GPUs held at any event of the audit log", f"{found['most_gpus']} of {found['gpus']}"),
        ("creations and ends of workers in the audit log", f"{found['events']}"),
        ("engines that still held something 30 s after the last answer", f"{len(found['stuck'])}"),
        ("decisions in the log", f"{agreed['decisions']}"),
        (
            f"decisions that stood {STAND_SECONDS:.0f} s undisturbed; compared for; not what was there",
            f"{agreed['checked']}; {agreed['checked_seconds']:.0f} s; {len(agreed['disagreements'])}",
        ),
    ]
    rows += [(f"memory of the operator, {trend['process']}", _trend(trend)) for trend in found["trends"]]
    if not found["trends"]:
        rows.append(("memory of the operator", "not judged"))
    rows += [
        ("restarts of the operator without a fault that ends it", f"{len(found['unasked_restarts'])}"),
        ("looks that failed", f"{len(found['missed'])}"),
        ("client late, P99", f"{summary['late_p99_seconds']:.2f} s"),
        ("seed", f"{found['seed']}"),
    ]
    return rows


def by_kind(found: Json) -> list[tuple[str, str, str, str, str]]:
    """Each kind of fault: times, median and longest seconds until all was well again, requests that it cost."""
    rows = []
    for kind, times in Counter(fault["kind"] for fault in found["faults"]).items():
        own = [fault for fault in found["faults"] if fault["kind"] == kind]
        took = sorted(fault["seconds"] for fault in own)
        cost = str(sum(len(fault["own"]) for fault in own)) if TRAITS[Kind(kind)].costs else "none allowed"
        rows.append((kind, str(times), f"{percentile(took, 0.5):.1f}", f"{took[-1]:.1f}", cost))
    return rows


def table(found: Json) -> str:
    """A run as Markdown."""
    lines = [f"| {' | '.join(KINDS_HEAD)} |", "|" + "---|" * len(KINDS_HEAD)]
    lines += [f"| {' | '.join(row)} |" for row in by_kind(found)]
    lines += ["", "| result | |", "|---|---|", *(f"| {name} | {value} |" for name, value in figures(found))]
    return "\n".join(lines) + f"\n\n{verdict(found)}\n"


def _load(record: Record) -> Json:
    """Requests a second, by the time at which they were due: as the day says, and as they were sent."""
    bins = range(int(record.seconds // BIN_SECONDS) + 1)
    sent = Counter(int(result.at_seconds // BIN_SECONDS) for result in record.results)
    middles = [(number + 0.5) * BIN_SECONDS for number in bins]
    return {
        "at_seconds": middles,
        "day": [round(rate_at(at / record.seconds), 3) for at in middles],
        "sent": [sent[number] / BIN_SECONDS for number in bins],
    }


def _unasked_restarts(record: Record) -> list[str]:
    ends = [fault for fault in record.faults if TRAITS[fault.kind].ends_operator]
    return [
        f"between {left:.0f} and {right:.0f} s"
        for left, right in restarts(record.readings)
        if not any(left <= f.well_at_seconds + RESTART_SECONDS and f.at_seconds <= right for f in ends)
    ]


def _of(result: Result) -> Json:
    return {**asdict(result), "ended_at": round(ended_at_seconds(result), 2)}


def _trend(trend: Json) -> str:
    return (
        f"{trend['mean_mib']:.1f} MiB in the mean, {_growth(trend)} over {trend['seconds'] / 60:.0f} min:"
        f" {'flat' if trend['flat'] else 'not flat'}"
    )


def _growth(trend: Json) -> str:
    return f"{trend['mib_per_hour']:+.2f} MiB an hour ({trend['share_per_hour']:+.1%} of the mean)"


def _pair(workers: Sequence[int]) -> str:
    return f"{workers[0]}+{workers[1]}"
