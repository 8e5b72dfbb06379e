"""What is decided while the load is not known. Pure."""

from dopd.autoscaler.decision import Decision, Reason
from dopd.perf import EngineModel
from dopd.planning.backlog import decode_for_backlog, prefill_for_backlog
from dopd.planning.bounds import NoRoomError, Pair, apply_bounds
from dopd.planning.per_role import PerRole
from dopd.planning.policy import Policy
from dopd.planning.queueing import PrefillLoad
from dopd.planning.sizing import size
from dopd.planning.workers import Workers


def blind(
    workers: PerRole[Workers],
    before: Pair,
    since_seconds: float | None,
    now_seconds: float,
    engine: EngineModel,
    policy: Policy,
    last: Decision | None,
) -> Decision:
    """Keep the target while the load is unknown, but for what needs no load to be known.

    A queue in the engines still adds workers, a user who changes a bound is still obeyed, and once the load has
    been unknown for long the fallback holds. Nothing is taken away.

    Args:
        workers: of each role now.
        before: the last target.
        since_seconds: when the load was found unknown; None for now.
        now_seconds: time.
        engine: the profile with what is known of the engines.
        policy: objectives and bounds.
        last: the last decision; None before the first.
    """
    since = now_seconds if since_seconds is None else since_seconds
    fallback = policy.fallback
    falls_back = fallback is not None and now_seconds - since >= fallback.after_seconds
    wanted, reason, message = before, Reason.TELEMETRY_FAILED, "the load is not known since telemetry failed"
    backlog = _backlog(workers, engine, policy, last)
    if backlog[0] > wanted[0] or backlog[1] > wanted[1]:
        wanted = (max(wanted[0], backlog[0]), max(wanted[1], backlog[1]))
        reason, message = Reason.BACKLOG, f"{message}, and what waits in the engines needs more workers"
    elif falls_back and fallback and (fallback.prefill > wanted[0] or fallback.decode > wanted[1]):
        wanted = (max(wanted[0], fallback.prefill), max(wanted[1], fallback.decode))
        reason, message = Reason.FALLBACK, f"{message} {now_seconds - since:.0f} s ago; the fallback holds"
    else:
        message = f"{message}; the previous target is held"
    try:
        target, hard = apply_bounds(wanted, before, policy)
    except NoRoomError as error:
        target, hard, message = before, (), f"{message}; {error}"
    if target == before:
        reason = Reason.TELEMETRY_FAILED
    elif wanted == before:  # a new resource, too: it has no worker yet, and nobody scrapes it
        reason = Reason.BOUNDS_CHANGED
        message = "the load is not known yet; the workers are brought within their bounds"
    return Decision(
        prefill=target[0],
        decode=target[1],
        reason=reason,
        message=message,
        limited_by=hard,
        weighed=None,
        planned_for=last.planned_for if last else None,
        expected=None,
        infeasible=last.infeasible if last else "",
        gpus=policy.gpus(*target),
        flips=0,
        next_look_seconds=policy.interval_seconds,
    )


def _backlog(workers: PerRole[Workers], engine: EngineModel, policy: Policy, last: Decision | None) -> Pair:
    """Workers for what waits, taking requests to be as they were when the load was last known."""
    if last is None or last.planned_for is None:
        return 0, 0
    prompts, answers = last.planned_for
    needed = size(answers, engine, policy.objectives, policy.prefill.gpus, policy.decode.gpus)
    return (
        prefill_for_backlog(workers.prefill, prompts, PrefillLoad.of(prompts, engine), engine, policy),
        decode_for_backlog(workers.decode, needed.load.decode, policy),
    )
