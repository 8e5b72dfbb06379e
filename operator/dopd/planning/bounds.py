"""Bounds: from the workers that the load needs to the workers that the policy allows.

Soft bounds first, in the order in which they are applied, and hard bounds last, so that what must hold always holds:

1. step: a decision moves a role by no more than `max_step` from the previous target;
2. per-role minimum and maximum, those of the active schedules if there are any;
3. ratio and both ends of the GPU budget together: of all pairs that satisfy 2, the ratio and the upper end, the one
   that misses the lower end by least, then the one that serves the largest share of what arrives in the role that is
   served least, then in the other role, then so for all that is wanted, then the cheapest, then the one with the most
   room in the role with least.

Applying them to a pair that satisfies them changes nothing. What arrives comes before what waits: a queue is where it
is because the roles were out of balance, and workers moved after it from a role that the load keeps busy make the next
queue there. Nor is a worker moved from role to role for little, as it serves neither while it moves: a previous pair
of as many GPUs stays while it serves about as much of what arrives, or leaves about as even a room.
"""

from enum import StrEnum
from math import ceil, floor
from typing import NamedTuple

from dopd.planning.policy import Policy, RoleBounds

Pair = tuple[int, int]
"""Prefill and decode workers."""


class Bound(StrEnum):
    """What kept a target from what the load needs. Closed: metric labels and status use it."""

    STABILIZATION = "ScaleDownStabilization"
    """More was needed within the stabilisation window; the scale-down waits."""
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
    """spec.scaling.gpuBudget.max."""
    GPU_BUDGET_MIN = "GpuBudgetMin"
    """spec.scaling.gpuBudget.min: the load needs fewer GPUs than must be held."""
    GPU_POOL = "GpuPool"
    """spec.gpuPool: others have the GPUs, or an admin allows no more."""


ABOUT_AS_MUCH = 0.9
"""The previous pair stays while it serves at least this share of what the best pair of equally many GPUs would serve
of a load that the budget has no room for."""
ABOUT_AS_EVENLY = 0.8
"""The previous pair stays while it leaves its worse served role at least this share of the room that the most even
pair of equally many GPUs would."""


def apply_bounds(
    wanted: Pair, previous: Pair, policy: Policy, arriving: Pair | None = None
) -> tuple[Pair, tuple[Bound, ...]]:
    """Return the allowed pair nearest to what is wanted, and the bounds that bit, in order.

    Args:
        wanted: workers that the load needs and, while it falls, those that are not given up yet.
        previous: the last target.
        policy: the bounds.
        arriving: of what is wanted, the workers that what arrives needs; the others serve what waits. None for all.

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
    pair = (prefill, decode)
    ratio, gpus = policy.ratio, policy.gpus(*pair)
    outside_ratio = ratio is not None and not ratio.min * decode <= prefill <= ratio.max * decode
    over_budget = policy.gpu_budget is not None and gpus > policy.gpu_budget
    if outside_ratio:
        bit.append(Bound.RATIO)
    if over_budget:
        bit.append(Bound.GPU_BUDGET)
    if not (outside_ratio or over_budget or gpus < policy.gpu_budget_min):
        return pair, tuple(bit)
    first = pair if arriving is None else (min(prefill, arriving[0]), min(decode, arriving[1]))
    allowed = _best_pair(pair, first, previous, policy)
    if policy.gpu_budget is not None and not over_budget and (allowed[0] < prefill or allowed[1] < decode):
        bit.append(Bound.GPU_BUDGET)
    if gpus < policy.gpu_budget_min and allowed != pair:
        bit.append(Bound.GPU_BUDGET_MIN)
    return allowed, tuple(bit)


def with_spare(wanted: Pair, policy: Policy) -> tuple[Pair, tuple[Bound, ...]]:
    """What is wanted and the spare workers beside it, as many as the budget has room for, and the bound that bit.

    Nobody waits for less because of a spare worker: they have what the others leave. Where that is not enough for all,
    both roles get as many, up to what each asks for.
    """
    spare = (policy.prefill.spare, policy.decode.spare)
    room = policy.gpu_budget
    most = max(spare)
    for each in range(most, -1, -1):
        pair = (wanted[0] + min(spare[0], each), wanted[1] + min(spare[1], each))
        if room is None or policy.gpus(*pair) <= room:
            return pair, (() if each == most else (Bound.GPU_BUDGET,))
    return wanted, ((Bound.GPU_BUDGET,) if most else ())


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


def _best_pair(wanted: Pair, arriving: Pair, previous: Pair, policy: Policy) -> Pair:
    best: tuple[_Rank, Pair] | None = None
    for prefill in range(policy.prefill.min, policy.prefill.max + 1):
        fewest, most = _decode_range(prefill, policy)
        if fewest > most:
            continue
        to_fill = ceil((policy.gpu_budget_min - prefill * policy.prefill.gpus) / policy.decode.gpus)
        pair = (prefill, max(fewest, min(most, max(wanted[1], to_fill))))
        entry = (_rank(pair, wanted, arriving, policy), pair)
        best = min(best or entry, entry)
    if best is None:
        raise NoRoomError(_contradiction(policy))
    rank, pair = best
    fewest, most = _decode_range(previous[0], policy)
    allowed = policy.prefill.min <= previous[0] <= policy.prefill.max and fewest <= previous[1] <= most
    return previous if allowed and _about_as_good(_rank(previous, wanted, arriving, policy), rank) else pair


class _Rank(NamedTuple):
    """What makes a pair better, the most important first; less is better."""

    missing_gpus: int
    arriving: float
    arriving_elsewhere: float
    wanted: float
    wanted_elsewhere: float
    gpus: int
    room: float


def _rank(pair: Pair, wanted: Pair, arriving: Pair, policy: Policy) -> _Rank:
    gpus = policy.gpus(*pair)
    least_arriving, most_arriving = sorted(have / want for have, want in zip(pair, arriving, strict=True))
    least, most = sorted(have / want for have, want in zip(pair, wanted, strict=True))
    return _Rank(
        missing_gpus=max(0, policy.gpu_budget_min - gpus),
        arriving=-min(1.0, least_arriving),
        arriving_elsewhere=-min(1.0, most_arriving),
        wanted=-min(1.0, least),
        wanted_elsewhere=-min(1.0, most),
        gpus=gpus,
        room=-least,
    )


def _about_as_good(previous: _Rank, best: _Rank) -> bool:
    if previous.gpus != best.gpus:
        return False
    if best.arriving > -1:
        return previous.arriving <= ABOUT_AS_MUCH * best.arriving
    return previous[:-1] == best[:-1] and previous.room <= ABOUT_AS_EVENLY * best.room


def _decode_range(prefill: int, policy: Policy) -> Pair:
    """Fewest and most decode workers that may stand beside so many prefill workers; the first is greater if none."""
    low, high = policy.decode.min, policy.decode.max
    if policy.ratio is not None:
        low = max(low, ceil(prefill / policy.ratio.max))
        high = min(high, floor(prefill / policy.ratio.min))
    if policy.gpu_budget is not None:
        high = min(high, (policy.gpu_budget - prefill * policy.prefill.gpus) // policy.decode.gpus)
    return low, high


def _contradiction(policy: Policy) -> str:
    minimum = policy.gpus(policy.prefill.min, policy.decode.min)
    meanwhile = f" (while {', '.join(policy.schedules)} of spec.scaling.schedules holds)" if policy.schedules else ""
    if policy.gpu_budget is not None and policy.gpu_budget < minimum:
        return (
            f"spec.scaling.gpuBudget.max is {policy.gpu_budget} GPUs, the minimum of {policy.prefill.min} prefill and "
            f"{policy.decode.min} decode workers needs {minimum}{meanwhile}; raise the budget or lower a min"
        )
    return (
        f"spec.scaling: no number of workers satisfies prefill, decode, ratio and gpuBudget together{meanwhile}; "
        "widen ratio, raise gpuBudget.max or change a min or max"
    )
