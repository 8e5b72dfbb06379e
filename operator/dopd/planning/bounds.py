"""Bounds: from the workers that the load needs to the workers that the policy allows.

Soft bounds first, in the order in which they are applied, and hard bounds last, so that what must hold always holds:

1. step: a decision moves a role by no more than `max_step` from the previous target;
2. per-role minimum and maximum;
3. ratio and GPU budget together: of all pairs that satisfy 2 and both of these, the one that serves the largest
   share of the need of the role that is served least, then of the other role, then the cheapest.

Applying them to a pair that satisfies them changes nothing.
"""

from enum import StrEnum
from math import ceil, floor

from dopd.planning.policy import Policy, RoleBounds

Pair = tuple[int, int]
"""Prefill and decode workers."""


class Bound(StrEnum):
    """What kept a target from what the load needs. Closed: metric labels and status use it."""

    STABILIZATION = "ScaleDownStabilization"
    """A recent plan needed more; the scale-down waits."""
    HYSTERESIS = "ScaleDownHysteresis"
    """The load would fit on fewer workers, yet not with headroom."""
    STEP = "MaxStep"
    """spec.scaling.behavior.maxStep."""
    PREFILL_MIN = "PrefillMin"
    """spec.scaling.prefill.min."""
    PREFILL_MAX = "PrefillMax"
    """spec.scaling.prefill.max."""
    DECODE_MIN = "DecodeMin"
    """spec.scaling.decode.min."""
    DECODE_MAX = "DecodeMax"
    """spec.scaling.decode.max."""
    RATIO = "Ratio"
    """spec.scaling.ratio."""
    GPU_BUDGET = "GpuBudget"
    """spec.scaling.gpuBudget."""


def apply_bounds(wanted: Pair, previous: Pair, policy: Policy) -> tuple[Pair, tuple[Bound, ...]]:
    """Return the allowed pair nearest to what is wanted, and the bounds that bit, in order.

    Raises:
        NoRoomError: no pair satisfies the minima, the ratio and the budget together.
    """
    bit: list[Bound] = []
    stepped = tuple(
        max(before - policy.max_step, min(before + policy.max_step, want))
        for want, before in zip(wanted, previous, strict=True)
    )
    if stepped != wanted:
        bit.append(Bound.STEP)
    prefill = _clamp(stepped[0], policy.prefill, Bound.PREFILL_MIN, Bound.PREFILL_MAX, bit)
    decode = _clamp(stepped[1], policy.decode, Bound.DECODE_MIN, Bound.DECODE_MAX, bit)
    ratio, budget = policy.ratio, policy.gpu_budget
    outside_ratio = ratio is not None and not ratio.min * decode <= prefill <= ratio.max * decode
    over_budget = budget is not None and policy.gpus(prefill, decode) > budget
    if outside_ratio:
        bit.append(Bound.RATIO)
    if over_budget:
        bit.append(Bound.GPU_BUDGET)
    if not (outside_ratio or over_budget):
        return (prefill, decode), tuple(bit)
    allowed = _best_pair((prefill, decode), policy)
    if budget is not None and Bound.GPU_BUDGET not in bit and (allowed[0] < prefill or allowed[1] < decode):
        bit.append(Bound.GPU_BUDGET)
    return allowed, tuple(bit)


class NoRoomError(ValueError):
    """The policy allows no pair at all: its bounds contradict each other."""


def _clamp(want: int, bounds: RoleBounds, lower: Bound, upper: Bound, bit: list[Bound]) -> int:
    if want < bounds.min:
        bit.append(lower)
        return bounds.min
    if want > bounds.max:
        bit.append(upper)
        return bounds.max
    return want


def _best_pair(wanted: Pair, policy: Policy) -> Pair:
    best: tuple[float, float, int, Pair] | None = None
    for prefill in range(policy.prefill.min, policy.prefill.max + 1):
        low, high = policy.decode.min, policy.decode.max
        if policy.ratio is not None:
            low = max(low, ceil(prefill / policy.ratio.max))
            high = min(high, floor(prefill / policy.ratio.min))
        if policy.gpu_budget is not None:
            high = min(high, (policy.gpu_budget - prefill * policy.prefill.gpus) // policy.decode.gpus)
        if low > high:
            continue
        pair = (prefill, max(low, min(high, wanted[1])))
        served = sorted(min(1.0, have / want) for have, want in zip(pair, wanted, strict=True))
        rank = (-served[0], -served[1], policy.gpus(*pair), pair)
        best = min(best or rank, rank)
    if best is None:
        raise NoRoomError(_contradiction(policy))
    return best[3]


def _contradiction(policy: Policy) -> str:
    minimum = policy.gpus(policy.prefill.min, policy.decode.min)
    if policy.gpu_budget is not None and policy.gpu_budget < minimum:
        return (
            f"spec.scaling.gpuBudget.max is {policy.gpu_budget} GPUs, the minimum of {policy.prefill.min} prefill and "
            f"{policy.decode.min} decode workers needs {minimum}; raise the budget or lower a min"
        )
    return (
        "spec.scaling: no number of workers satisfies prefill, decode, ratio and gpuBudget together; widen ratio, "
        "raise gpuBudget.max or change a min or max"
    )
