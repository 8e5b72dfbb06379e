"""Why a target is what it is, in a word and in a sentence with the numbers."""

from dataclasses import dataclass

from dopd.autoscaler.decision import Cause, Reason, Together, Weighed
from dopd.autoscaler.outlook import Outlook
from dopd.autoscaler.until_start import UntilStart
from dopd.planning.bounds import Bound, Pair, apply_bounds
from dopd.planning.per_role import PerRole
from dopd.planning.policy import Policy
from dopd.planning.sizing import Size
from dopd.planning.switching import Means, Remedy, other
from dopd.planning.workers import Workers


@dataclass(frozen=True)
class Told:
    """What a message tells of.

    Attributes:
        weighed: the loads of each role.
        peak: what each role was sized for.
        outlook: what is expected of each role.
        workers: of each role now.
        target: what came out.
        policy: objectives and bounds.
        bit: bounds that bit.
        miss: share of the leads in which the load may exceed what is held.
        until_start: what is expected until a start serves; None without role switching.
        together: what both need together; None likewise.
        remedies: by what each role gets the workers that it lacks.
    """

    weighed: PerRole[Weighed]
    peak: PerRole[Size]
    outlook: PerRole[Outlook]
    workers: PerRole[Workers]
    target: Pair
    policy: Policy
    bit: tuple[Bound, ...]
    miss: float
    until_start: UntilStart | None = None
    together: Together | None = None
    remedies: tuple[Remedy, ...] = ()


def weighed(now: int, peak: int, backlog: int, kept: int, held: int, wanted: int, target: int) -> Weighed:
    """The loads of a role, and which of them decided its target; `wanted` is what came out before bounds."""
    if target != wanted:
        cause = Cause.BOUND
    elif target != max(peak, backlog, held):
        cause = Cause.TOGETHER
    elif held > max(peak, backlog):
        cause = Cause.HELD
    elif backlog > peak:
        cause = Cause.BACKLOG
    else:
        cause = Cause.PEAK if peak > now else Cause.NOW
    return Weighed(now, peak, backlog, kept, held, cause)


def soft_bounds(needed: Pair, held: Pair) -> tuple[Bound, ...]:
    """Whether workers are held that are not needed now."""
    return (Bound.STABILIZATION,) if any(h > n for h, n in zip(held, needed, strict=True)) else ()


def reason(before: Pair, target: Pair, loads: PerRole[Weighed], policy: Policy) -> Reason:
    """In one word."""
    changes = [after - had for after, had in zip(target, before, strict=True)]
    if not any(changes):
        return Reason.STEADY
    if apply_bounds(before, before, policy)[0] == target:
        return Reason.BOUNDS_CHANGED
    if min(changes) < 0 < max(changes):
        return Reason.MIX_SHIFTED
    if max(changes) > 0:
        return Reason.BACKLOG if any(role.backlog > role.peak for role in loads) else Reason.DEMAND_ROSE
    return Reason.DEMAND_FELL


def message(told: Told) -> str:
    """With the numbers."""
    prefill, decode = told.outlook
    sizes, parts = told.peak, []
    prompts, answers = sizes.prefill.load.prefill, sizes.decode.load.decode
    parts.append(
        f"prefill {told.target[0]}: {prefill.now:.2f} busy now, up to {prefill.peak:.2f} within "
        f"{prefill.lead_seconds:.0f} s ({prompts.requests_per_second:.3g} requests/s of "
        f"{prompts.mean_seconds:.3g} s each), {told.weighed.prefill.needed} needed"
    )
    parts.append(
        f"decode {told.target[1]}: {decode.now:.2f} full now, up to {decode.peak:.2f} within "
        f"{decode.lead_seconds:.0f} s ({answers.requests_per_second:.3g} requests/s at batch "
        f"{sizes.decode.batch_limit}, limited by {sizes.decode.batch_limited_by}), {told.weighed.decode.needed} needed"
    )
    together = told.together
    if told.until_start is not None and together is not None:
        both = told.until_start.both
        parts.append(
            f"both together {sum(told.target)}: {both.now:.2f} busy now, up to {both.peak:.2f} within "
            f"{both.lead_seconds:.0f} s, {together.needed} needed"
        )
    parts.append(f"more than that comes in {told.miss:.1%} of such times")
    parts += [_said(remedy) for remedy in told.remedies]
    if any(role.backlog > role.peak for role in told.weighed):
        tokens = told.workers.prefill.waiting_tokens or 0.0
        requests = told.workers.decode.waiting_requests or 0.0
        parts.append(f"{tokens:.0f} prompt tokens wait for prefill and {requests:.0f} requests for decode")
    policy = told.policy
    if Bound.GPU_BUDGET_MIN in told.bit:
        gpus = policy.gpus(*told.target)
        parts.append(f"filled up to {gpus} GPUs, spec.scaling.gpuBudget.min is {policy.gpu_budget_min}")
    if policy.schedules:
        parts.append(f"within the limits of {', '.join(policy.schedules)} (spec.scaling.schedules)")
    waiting = told.workers.prefill.unschedulable + told.workers.decode.unschedulable
    if waiting:
        parts.append(f"{waiting} workers find no node with free GPUs")
    parts += [beyond for beyond in (prompts.beyond, answers.beyond) if beyond]
    infeasible = sizes.prefill.infeasible or sizes.decode.infeasible
    if infeasible:
        parts.append(f"objectives can not be met: {infeasible}")
    return "; ".join(parts)


def _said(remedy: Remedy) -> str:
    count, role, seconds = remedy.workers, remedy.role, remedy.seconds
    if remedy.means is Means.RETURN:
        return f"{count} of {role} that drain serve again"
    if remedy.means is Means.FLIP:
        return f"{count} of {other(role)} change to {role} within {seconds:.0f} s"
    return f"{count} of {role} start within {seconds:.0f} s"
