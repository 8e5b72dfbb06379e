"""What somebody else's scaler asks for, within the bounds. Pure: no load, no forecast, nothing remembered."""

from dataclasses import replace

from dopd.autoscaler.decision import Decision, Reason
from dopd.planning.bounds import NoRoomError, Pair, apply_bounds
from dopd.planning.policy import Policy

_NO_STEP = 10_000
"""A scaler has behaviour of its own: spec.scaling.behavior.maxStep is of dopd's decisions."""


def as_asked(asked: Pair, before: Pair, policy: Policy) -> Decision:
    """The target where a scaler of the user's own decides.

    Args:
        asked: prefill and decode workers that it asks for.
        before: the last target.
        policy: the bounds.
    """
    words = f"a scaler asks for {asked[0]} prefill and {asked[1]} decode workers"
    try:
        target, bit = apply_bounds(asked, before, replace(policy, max_step=_NO_STEP))
        reason = Reason.EXTERNAL
    except NoRoomError as error:
        target, bit, reason, words = before, (), Reason.NO_ROOM, f"{words}; {error}"
    if target == before and reason is Reason.EXTERNAL:
        reason = Reason.STEADY
    return Decision(
        prefill=target[0],
        decode=target[1],
        reason=reason,
        message=f"{words}; limited by {', '.join(bit)}" if bit else words,
        limited_by=bit,
        weighed=None,
        planned_for=None,
        expected=None,
        infeasible="",
        gpus=policy.gpus(*target),
        flips=0,
        next_look_seconds=policy.interval_seconds,
    )
