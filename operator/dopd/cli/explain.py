"""`dopd explain`: why a resource has so many workers.

Each load that was weighed and which of them decided; the formulas of the plan with their values; the bounds that bit;
and what one worker less would do. The loads are those of the operator's plan (status.plan); the formulas are worked out
here from the same profile, load and objectives.
"""

import math
from collections.abc import Iterator
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import click

from dopd.api.status import PlanStatus
from dopd.autoscaler.explain import bound_words
from dopd.cli import resource
from dopd.cli.around_plan import asleep_lines, not_planned
from dopd.cli.clusters import cluster_options, namespace_option
from dopd.cli.errors import DONE
from dopd.cli.output import columns, facts, format_option, painted, show, structured
from dopd.cli.resource import Found, age
from dopd.planning import Bound, Policy
from dopd.planning.bounds import Pair
from dopd.planning.workings import PairRow, Workings, work_out
from dopd.reconcile.plan_status import percent


@click.command("explain", help=__doc__)
@click.argument("name", type=resource.Name(), metavar="RESOURCE")
@namespace_option
@format_option("table", "json", "yaml")
@cluster_options
def command(**given: Any) -> int:
    """Arguments of `dopd explain`."""
    options = SimpleNamespace(**given)
    found, at = resource.found(options, options.name), resource.now()
    if found.asleep:
        told = {"namespace": found.key.namespace, "name": found.key.name, "asleep": True, "message": found.asleep}
        show(asleep_lines(found, at) if options.form == "table" else structured(told, options.form).splitlines())
        return DONE
    planned = resource.demands(found)
    engine, policy = resource.engine_and_policy(found, at)
    plan = found.status.plan
    assert plan
    worked = work_out(planned, engine, policy, pair(plan.target))
    if options.form == "table":
        show(lines(found, plan, worked, policy, at))
    else:
        show(structured(content(found, plan, worked), options.form).splitlines())
    return DONE


def pair(text: str) -> Pair:
    """Workers as `3+4`."""
    prefill, _, decode = text.partition("+")
    return int(prefill), int(decode)


def lines(found: Found, plan: PlanStatus, worked: Workings, policy: Policy, at: datetime) -> Iterator[str]:
    """What a person is shown.

    Args:
        found: the resource.
        plan: of its status.
        worked: the same, worked out.
        policy: objectives and bounds.
        at: the time.
    """
    prefill, decode = pair(plan.target)
    told = f"{prefill} prefill + {decode} decode workers, {policy.gpus(prefill, decode)} GPUs"
    yield f"{painted(str(found.key), bold=True)}: {told}, planned {age(plan.time, at)} ago"
    if found.status.decisions:
        last = found.status.decisions[0]
        yield f"last change: {last.from_} to {last.to} {age(last.time, at)} ago, {last.reason}"
    yield ""
    yield painted("Loads that were weighed, as workers that they need", bold=True)
    yield from columns(list(_loads(plan, policy)))
    bit = [bound_words(Bound(name), policy) for name in plan.limited_by if name in set(Bound)]
    yield f"bounds that bit: {'; '.join(bit) or 'none'}"
    yield from not_planned(found)
    yield ""
    yield from _prefill(worked, policy, prefill)
    yield ""
    yield from _decode(worked, policy, decode)
    yield ""
    yield from together(worked, policy)
    if _differs(worked.needed, plan):
        now = f"{worked.needed[0]}+{worked.needed[1]}"
        yield f"worked out here, the greatest load needs {now}: spec, profile or prefix cache changed since that plan"
    if worked.infeasible:
        yield painted(f"no number of workers meets the objectives: {worked.infeasible}", fg="red")


def _differs(needed: Pair, plan: PlanStatus) -> bool:
    """Whether the plan was made from other things; a role that the load of now decides may be below it."""
    roles = zip(needed, (plan.prefill, plan.decode), strict=True)
    return any(here > role.peak or here < role.peak != role.now for here, role in roles)


def _loads(plan: PlanStatus, policy: Policy) -> Iterator[list[str]]:
    roles = (plan.prefill, plan.decode)
    spare = (policy.prefill.spare, policy.decode.spare)
    leads = " / ".join(f"{role.lead_seconds:.0f} s" for role in roles)
    yield ["LOAD", "PREFILL", "DECODE"]
    yield ["what arrives now", *(f"{role.now} ({role.busy_now:.2f} busy)" for role in roles)]
    yield [f"greatest within {leads}", *(f"{role.peak} ({role.busy_peak:.2f} busy)" for role in roles)]
    if any(spare):
        yield ["spare, beside them", *(str(workers or "-") for workers in spare)]
    yield ["backlog in the engines", *(str(role.backlog or "-") for role in roles)]
    yield ["held, as needed lately", *(str(role.held) for role in roles)]
    yield ["decided by", *(_WORDS.get(role.decided_by, role.decided_by) for role in roles)]
    yield ["target", *(str(workers) for workers in pair(plan.target))]


_WORDS = {
    "Now": "what arrives now",
    "Grown": "how the load moves",
    "Forecast": "the forecast",
    "Backlog": "the backlog",
    "Held": "what was needed lately",
    "Bound": "a bound",
}


def _prefill(worked: Workings, policy: Policy, target: int) -> Iterator[str]:
    work, demand = worked.load.prefill, worked.demands.prefill
    rate, mean = work.requests_per_second, work.mean_seconds
    yield painted("Prefill: a queue; a prompt that waits too long is late", bold=True)
    yield from facts(
        [
            ("  arrivals", f"λ = {rate:.4g} requests/s"),
            (
                "  one prompt",
                f"S = {mean:.4g} s of a busy worker for {demand.input_tokens:.0f} tokens in the mean, "
                f"{demand.uncached_share:.0%} of them not cached; c² = {work.squared_cv:.3g}",
            ),
            ("  busy workers", f"a = λ·S = {rate:.4g} · {mean:.4g} = {work.busy_workers:.3f}"),
            (
                "  no wait",
                f"TTFT {work.idle_ttft_seconds:.3g} s in the mean with the transfer; "
                f"objective {policy.objectives.ttft_seconds:g} s",
            ),
            ("  order", "OnTimeFirst: those that can not be on time step aside" if work.on_time_first else ""),
        ]
    )
    rows = [["  WORKERS", "USE a/P", "CHANCE TO WAIT", "MEAN WAIT", "LATE", ""]]
    for row in worked.prefill:
        rows.append(
            [
                f"  {row.workers}",
                f"{row.use:.0%}",
                f"{row.waiting:.1%}",
                "grows" if math.isinf(row.wait_seconds) else f"{row.wait_seconds:.3g} s",
                f"{row.late_share:.2%}",
                _mark(row.workers, target),
            ]
        )
    yield from columns_indented(rows)
    if work.beyond:
        yield f"  {work.beyond}"


def _decode(worked: Workings, policy: Policy, target: int) -> Iterator[str]:
    work, demand = worked.load.decode, worked.demands.decode
    limit, seconds = work.batch_limit, work.curve[-1][1]
    limits = ", ".join(f"{name} {worked.limits[name]}" for name in ("kv", "itl", "engine"))
    yield painted("Decode: slots; a worker that runs more than its limit is late", bold=True)
    yield from facts(
        [
            ("  arrivals", f"λ = {work.requests_per_second:.4g} requests/s"),
            (
                "  steps",
                f"s = λ·(O - 1) = {work.requests_per_second:.4g} · {work.steps:.4g} = {work.steps_per_second:.4g}/s",
            ),
            (
                "  batch limit",
                f"b = min({limits}) = {limit}, set by {work.limited_by}; ITL(b) = {1000 * seconds:.3g} ms at "
                f"{demand.running_context_tokens:.0f} tokens of context; objective "
                f"{1000 * policy.objectives.itl_seconds:g} ms",
            ),
            (
                "  full workers",
                f"D = s·ITL(b)/b = {work.steps_per_second:.4g} · {seconds:.4g} / {limit} = {work.busy_workers:.3f}",
            ),
        ]
    )
    rows = [["  WORKERS", "RUNNING EACH", "ITL", "LATE", ""]]
    for row in worked.decode:
        endless = math.isinf(row.running)
        rows.append(
            [
                f"  {row.workers}",
                "grows" if endless else f"{row.running:.1f} of {limit}",
                "-" if endless else f"{1000 * row.itl_seconds:.3g} ms",
                f"{row.late_share:.2%}",
                _mark(row.workers, target),
            ]
        )
    yield from columns_indented(rows)
    if work.beyond:
        yield f"  {work.beyond}"


def together(worked: Workings, policy: Policy) -> Iterator[str]:
    """Both roles: the target, and what one worker less would do."""
    aim = policy.objectives.attainment
    yield painted(f"Together: {percent(aim)} of requests must be on time", bold=True)
    rows = [["  WORKERS", "GPUS", "TTFT", "ITL", "ON TIME", ""]]
    for index, row in enumerate(worked.pairs):
        short = "" if row.expected.attainment >= aim else "misses the objective"
        note = "the target" + (f", {short}" if short else "") if index == 0 else short or "would do, too"
        rows.append([f"  {row.pair[0]}+{row.pair[1]}", str(row.gpus), *pair_cells(row), note])
    if not worked.pairs:
        yield "  a role has no worker, so no request is served"
        return
    yield from columns_indented(rows)


def pair_cells(row: PairRow) -> list[str]:
    """TTFT, ITL and the share on time."""
    expected = row.expected
    ttft = "grows" if math.isinf(expected.ttft_seconds) else f"{expected.ttft_seconds:.3g} s"
    return [ttft, f"{1000 * expected.itl_seconds:.3g} ms", percent(expected.attainment)]


def columns_indented(rows: list[list[str]]) -> list[str]:
    """Columns with the first cell's indentation kept."""
    return [f"  {line}" for line in columns([[cell.strip() for cell in row] for row in rows])]


def _mark(workers: int, target: int) -> str:
    return "the target" if workers == target else "one less" if workers < target else "one more"


def content(found: Found, plan: PlanStatus, worked: Workings) -> dict[str, Any]:
    """What `-o json` holds; a number without end is null."""
    load = worked.load
    return {
        "namespace": found.key.namespace,
        "name": found.key.name,
        "plan": plan.model_dump(mode="json", by_alias=True, exclude_none=True),
        "prefill": {
            "requestsPerSecond": load.prefill.requests_per_second,
            "serviceSeconds": load.prefill.mean_seconds,
            "squaredCV": load.prefill.squared_cv,
            "busyWorkers": load.prefill.busy_workers,
            "workers": [
                {
                    "workers": row.workers,
                    "use": row.use,
                    "chanceToWait": row.waiting,
                    "waitSeconds": _finite(row.wait_seconds),
                    "lateShare": row.late_share,
                }
                for row in worked.prefill
            ],
        },
        "decode": {
            "requestsPerSecond": load.decode.requests_per_second,
            "stepsPerSecond": load.decode.steps_per_second,
            "batchLimits": dict(worked.limits),
            "batchLimit": load.decode.batch_limit,
            "limitedBy": load.decode.limited_by,
            "busyWorkers": load.decode.busy_workers,
            "workers": [
                {
                    "workers": row.workers,
                    "running": _finite(row.running),
                    "itlSeconds": row.itl_seconds,
                    "lateShare": row.late_share,
                }
                for row in worked.decode
            ],
        },
        "pairs": [pair_content(row) for row in worked.pairs],
        "infeasible": worked.infeasible,
    }


def pair_content(row: PairRow) -> dict[str, Any]:
    """A pair in JSON."""
    return {
        "prefill": row.pair[0],
        "decode": row.pair[1],
        "gpus": row.gpus,
        "ttftSeconds": _finite(row.expected.ttft_seconds),
        "itlSeconds": row.expected.itl_seconds,
        "attainment": row.expected.attainment,
    }


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
