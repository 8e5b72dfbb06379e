"""Why a target is what it is, in a word and in a sentence with the numbers."""

import math
from dataclasses import dataclass, replace

from dopd.autoscaler.decision import Cause, Decision, Reason, Together, Weighed
from dopd.autoscaler.idle import Wake
from dopd.autoscaler.outlook import Outlook
from dopd.autoscaler.records import NEAR
from dopd.autoscaler.until_start import UntilStart
from dopd.planning.bounds import Bound, Pair, apply_bounds
from dopd.planning.demand import Demand
from dopd.planning.per_role import PerRole
from dopd.planning.policy import Policy
from dopd.planning.sizing import Expected, Size
from dopd.planning.switching import Means, Remedy
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
        expected: what clients meet on the target; None where a role has none.
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
    expected: Expected | None = None
    until_start: UntilStart | None = None
    together: Together | None = None
    remedies: tuple[Remedy, ...] = ()


def weighed(
    now: int, peak: int, backlog: int, kept: int, held: int, wanted: int, target: int, leader: str = NEAR[0]
) -> Weighed:
    """The loads of a role, and which of them decided its target.

    Args:
        now: workers for what arrives now.
        peak: for the greatest load within the lead.
        backlog: for what waits.
        kept: for these and the noise of the load.
        held: the most that was needed lately.
        wanted: what came out before bounds.
        target: what came out.
        leader: the voice that raises the peak most.
    """
    if target != wanted:
        cause = Cause.BOUND
    elif target != max(peak, backlog, held):
        cause = Cause.TOGETHER
    elif held > max(peak, backlog):
        cause = Cause.HELD
    elif backlog > peak:
        cause = Cause.BACKLOG
    elif peak > now:
        cause = Cause.GROWN if leader in NEAR else Cause.FORECAST
    else:
        cause = Cause.NOW
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


def asleep(policy: Policy, planned_for: PerRole[Demand] | None) -> Decision:
    """Both roles at zero."""
    return Decision(
        prefill=0,
        decode=0,
        reason=Reason.IDLE,
        message=f"no request for {policy.idle_after_seconds:.0f} s, and none is foreseen; the first one starts workers",
        limited_by=(),
        weighed=None,
        planned_for=planned_for,
        expected=None,
        infeasible="",
        gpus=0,
        flips=0,
        next_look_seconds=policy.interval_seconds,
    )


_WOKEN = {
    Wake.REQUEST: (Reason.FIRST_REQUEST, "a request came while no worker ran"),
    Wake.FORESEEN: (Reason.FORESEEN, "the forecast expects a request before a worker that is started later serves"),
    Wake.SCHEDULE: (Reason.SCHEDULE_AHEAD, "a schedule reserves workers, now or by the time that one serves"),
    Wake.FIELD: (Reason.BOUNDS_CHANGED, "spec.scaling.idle lets no role go to zero any more"),
}


def woken(decision: Decision, cause: Wake) -> Decision:
    """The first decision after a sleep."""
    reason, words = _WOKEN[cause]
    return replace(decision, reason=reason, message=f"{words}; {decision.message}")


def decided_by(cause: Cause, lead_seconds: float, leader: str) -> str:
    """The load that decided, for people.

    Args:
        cause: which load it is.
        lead_seconds: until a decision of now takes effect.
        leader: the voice that raises the peak most.
    """
    return {
        Cause.NOW: "by what arrives now",
        Cause.GROWN: f"by the load as it moves, {lead_seconds:.0f} s on",
        Cause.FORECAST: f"by the forecast at +{lead_seconds:.0f} s ({_SAYS.get(leader, leader)})",
        Cause.BACKLOG: "by the backlog in the engines",
        Cause.HELD: "held, as it was needed lately",
        Cause.TOGETHER: "by what both roles need together until a start serves",
        Cause.BOUND: "by a bound",
    }[cause]


_SAYS = {"day": "as a day before", "week": "as a week before", "forecast": "as the forecaster expects"}


def bound_words(bound: Bound, policy: Policy) -> str:
    """A bound by the field that states it, and its value."""
    values = {
        Bound.STABILIZATION: "spec.scaling.behavior.scaleDownStabilization (needed lately)",
        Bound.STEP: f"spec.scaling.behavior.maxStep {policy.max_step}",
        Bound.PREFILL_MIN: f"spec.scaling.prefill.min {policy.prefill.min}",
        Bound.PREFILL_MAX: f"spec.scaling.prefill.max {policy.prefill.max}",
        Bound.DECODE_MIN: f"spec.scaling.decode.min {policy.decode.min}",
        Bound.DECODE_MAX: f"spec.scaling.decode.max {policy.decode.max}",
        Bound.GPU_BUDGET: f"spec.scaling.gpuBudget.max {policy.gpu_budget}",
        Bound.GPU_POOL: "the GpuPool of spec.gpuPool",
        Bound.GPU_BUDGET_MIN: f"spec.scaling.gpuBudget.min {policy.gpu_budget_min}",
    }
    if bound is Bound.RATIO and policy.ratio:
        low, high = (f"{share.numerator}:{share.denominator}" for share in (policy.ratio.min, policy.ratio.max))
        return f"spec.scaling.ratio {low} to {high}"
    return values.get(bound, bound.value)


def expectation(expected: Expected, policy: Policy) -> str:
    """What clients meet on the target, beside what the user asked for."""
    objectives = policy.objectives
    aim = f"{objectives.attainment:.4g}"
    if math.isinf(expected.ttft_seconds):
        return f"the queue grows on this target; the objective is {aim} of requests on time"
    return (
        f"expected on this target: TTFT {expected.ttft_seconds:.2g} s of {objectives.ttft_seconds:g}, ITL "
        f"{1000 * expected.itl_seconds:.3g} ms of {1000 * objectives.itl_seconds:g}, {expected.attainment:.4f} of "
        f"requests on time (objective {aim})"
    )


def message(told: Told) -> str:
    """With the numbers."""
    prefill, decode = told.outlook
    causes = [
        decided_by(role.cause, outlook.lead_seconds, outlook.leader)
        for role, outlook in zip(told.weighed, told.outlook, strict=True)
    ]
    sizes, parts = told.peak, []
    prompts, answers = sizes.prefill.load.prefill, sizes.decode.load.decode
    parts.append(
        f"prefill {told.target[0]}: {causes[0]}; {prefill.now:.2f} busy now, up to {prefill.peak:.2f} within "
        f"{prefill.lead_seconds:.0f} s ({prompts.requests_per_second:.3g} requests/s of "
        f"{prompts.mean_seconds:.3g} s each), {told.weighed.prefill.needed} needed{_spare(told.policy.prefill.spare)}"
    )
    parts.append(
        f"decode {told.target[1]}: {causes[1]}; {decode.now:.2f} full now, up to {decode.peak:.2f} within "
        f"{decode.lead_seconds:.0f} s ({answers.requests_per_second:.3g} requests/s at batch "
        f"{sizes.decode.batch_limit}, limited by {sizes.decode.batch_limited_by}), {told.weighed.decode.needed} needed"
        f"{_spare(told.policy.decode.spare)}"
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
    if told.expected:
        parts.append(expectation(told.expected, policy))
    limits = [bound_words(bound, policy) for bound in told.bit if bound is not Bound.GPU_BUDGET_MIN]
    if limits:
        parts.append(f"limited by {', '.join(limits)}")
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


def _spare(workers: int) -> str:
    return f" and {workers} spare" if workers else ""


def _said(remedy: Remedy) -> str:
    count, role, seconds = remedy.workers, remedy.role, remedy.seconds
    if remedy.means is Means.RETURN:
        return f"{count} of {role} that drain serve again"
    if remedy.means is Means.FLIP:
        return f"{count} of {role.other} change to {role} within {seconds:.0f} s"
    return f"{count} of {role} start within {seconds:.0f} s"
