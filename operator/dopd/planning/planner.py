"""plan(): one look at the load and the workers, one explained target for both roles.

Two layers meet here. The slow one sizes each role for the demand that it will meet when a worker started now would
serve (the forecast at the role's lead time), and for the demand of now, since a worker that is given up stops
serving at once: the greater need counts. The fast one adds workers for what already waits, which no forecast knows.
Growth is immediate. Shrinking is slow: it needs headroom, and the agreement of every plan of the stabilisation
window.

Margin and room shrink as an error budget fills (`error_budget`): late requests that were allowed and did not come. They
grow while it is a debt.

Nothing is remembered but `previous`, the last decision. After a restart there is none: the workers that exist then
are the previous target, and the window begins anew. What was learnt from late requests may be handed over by itself.
"""

from dataclasses import dataclass, replace
from functools import cache

from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.planning.ahead import Ahead, ahead, load_sample
from dopd.planning.backlog import decode_for_backlog, prefill_for_backlog
from dopd.planning.bounds import Bound, NoRoomError, Pair, apply_bounds
from dopd.planning.decision import Decision, Forecast, Learnt, Observation, Reason, Want
from dopd.planning.demand import Demand
from dopd.planning.error_budget import allowed_late, earned, trust
from dopd.planning.policy import Policy
from dopd.planning.queueing import PrefillLoad
from dopd.planning.shrinking import slow_to_shrink, window_of, within
from dopd.planning.sizing import Load, Size, size
from dopd.planning.surprise import adapted, remember

LEARNING_USE = (0.3, 0.9)
"""Shares of busy prefill workers between which the wait is compared with the model."""
WAIT_FACTORS = (1.0, 12.0)
WAIT_SMOOTHING = 0.05


def plan(
    observation: Observation,
    forecast: Forecast | None,
    model: EngineModel,
    policy: Policy,
    previous: Decision | None,
    now_seconds: float,
    restored: Learnt | None = None,
) -> Decision:
    """Decide how many prefill and decode workers there should be.

    Args:
        observation: load and workers now.
        forecast: demand at each role's lead time; None if there is none to be trusted.
        model: performance of one engine.
        policy: objectives and bounds.
        previous: the last decision; None after a restart.
        now_seconds: time, on any clock that does not jump.
        restored: what plans had learnt before a restart; counts where there is no `previous`.
    """
    before = (
        (previous.prefill, previous.decode) if previous else (observation.prefill.supply, observation.decode.supply)
    )
    known = previous.learnt if previous else restored or Learnt()
    if observation.demand is None:
        return _held(before, observation, previous, known, model, policy, now_seconds)
    load = Load.of(observation.demand, model, policy.objectives)
    learnt = _learn(known, observation, load, model, policy, now_seconds)
    trusted = trust(learnt.error_budget)
    loads_ahead = tuple(ahead(role, observation, load, forecast, learnt, trusted, model, policy) for role in Role)
    late = allowed_late(1 - policy.objectives.attainment, trusted)
    need = _need(observation, load.with_wait_factor(learnt.wait_factor), loads_ahead, model, policy, late)
    since = previous.watching_since_seconds if previous else now_seconds
    windows = [window_of(role, model, policy, trusted, now_seconds) for role in Role]
    recent = within(windows, previous.recent if previous else ())
    recent += (Want(now_seconds, need.with_headroom, need.held),)
    wanted, soft = slow_to_shrink(need.pair, before, recent, windows, since)
    try:
        target, hard = apply_bounds(wanted, before, policy, need.by_demand)
        reason = _reason(before, target, need, policy)
        message = _message(need, target, observation, policy, hard, learnt.error_budget, late)
    except NoRoomError as error:
        target, hard, reason, message = before, (), Reason.NO_ROOM, str(error)
    return Decision(
        prefill=target[0],
        decode=target[1],
        reason=reason,
        message=message,
        limited_by=soft + hard,
        needed=need.pair,
        forecast_used=need.forecast_used,
        demand_prefill=need.demand_prefill,
        demand_decode=need.demand_decode,
        expected=need.load.expect(*target) if min(target) else None,
        infeasible=need.infeasible,
        gpus=policy.gpus(*target),
        flips=_flips(target, observation, model, policy),
        next_look_seconds=policy.interval_seconds / 2 if need.backlogged else policy.interval_seconds,
        watching_since_seconds=since,
        recent=recent,
        learnt=learnt,
    )


@dataclass(frozen=True)
class _Need:
    """What the load needs before any bound.

    Attributes:
        pair: workers needed.
        by_demand: workers needed for what arrives alone.
        with_headroom: workers needed if the load of now were greater by its headroom.
        held: workers needed for the load of now and the least headroom, without margin and backlog.
        demand_prefill: demand that decided the prefill workers.
        demand_decode: demand that decided the decode workers.
        size_prefill: sizing for demand_prefill.
        size_decode: sizing for demand_decode.
        forecast_used: whether the forecast asked for more workers of a role than the load of now and its margin.
    """

    pair: Pair
    by_demand: Pair
    with_headroom: Pair
    held: Pair
    demand_prefill: Demand
    demand_decode: Demand
    size_prefill: Size
    size_decode: Size
    forecast_used: bool

    @property
    def backlogged(self) -> bool:
        """Whether what waits needs more workers than what arrives."""
        return self.pair != self.by_demand

    @property
    def load(self) -> Load:
        """The prompts that prefill and the answers that decode was planned for."""
        prefill, decode = self.size_prefill.load, self.size_decode.load
        feasible = replace(prefill.feasible, itl_seconds=decode.feasible.itl_seconds)
        return replace(prefill, decode=decode.decode, feasible=feasible)

    @property
    def infeasible(self) -> str:
        """Why no number of workers meets the objectives; "" if some number does."""
        return self.size_prefill.infeasible or self.size_decode.infeasible


def _learn(
    known: Learnt,
    observation: Observation,
    load: Load,
    model: EngineModel,
    policy: Policy,
    now_seconds: float,
) -> Learnt:
    """What was known, and what this look adds: nothing if an earlier one was at the same measurement."""
    measured_at = now_seconds if observation.measured_at_seconds is None else observation.measured_at_seconds
    if known.measured_at_seconds is None:
        apart = 0.0
    elif measured_at > known.measured_at_seconds:  # of a longer gap than that nobody knows what was late
        apart = min(measured_at - known.measured_at_seconds, 2 * policy.interval_seconds)
    else:
        return known
    allowed = 1 - policy.objectives.attainment
    lead = max(model.startup_seconds.values()) + policy.interval_seconds
    budget = earned(known.error_budget, observation.late_share, allowed, apart, lead)
    return Learnt(
        history=remember(known.history, load_sample(load, measured_at)),
        wait_factor=_wait_factor(observation, known.wait_factor, load.prefill),
        caution=adapted(known.caution, observation.late_share, allowed, trust(budget)),
        error_budget=budget,
        measured_at_seconds=measured_at,
    )


def _need(
    observation: Observation,
    load: Load,
    loads_ahead: tuple[Ahead, ...],
    model: EngineModel,
    policy: Policy,
    late: float,
) -> _Need:
    assert observation.demand is not None
    now = observation.demand

    @cache  # both roles mostly ask for the same loads
    def sized(demand: Demand) -> Size:
        rate, factor = demand.requests_per_second, load.prefill.wait_factor
        same_requests = demand == now.at(rate)
        then = load.at(rate) if same_requests else Load.of(demand, model, policy.objectives, factor)
        return then.size(policy.prefill.gpus, policy.decode.gpus, late)

    prefill, decode = loads_ahead
    for_prefill = max(prefill.all, key=lambda demand: sized(demand).prefill)
    for_decode = max(decode.all, key=lambda demand: sized(demand).decode)
    by_demand = (sized(for_prefill).prefill, sized(for_decode).decode)
    by_backlog = (
        prefill_for_backlog(observation.prefill, now, load.prefill, model, policy),
        decode_for_backlog(observation.decode, sized(for_decode).load.decode, policy),
    )
    pair = (max(by_demand[0], by_backlog[0]), max(by_demand[1], by_backlog[1]))
    with_headroom = (
        max(pair[0], sized(prefill.roomy).prefill),
        max(pair[1], sized(decode.roomy).decode),
    )
    return _Need(
        pair=pair,
        by_demand=by_demand,
        with_headroom=with_headroom,
        held=(sized(prefill.held).prefill, sized(decode.held).decode),
        demand_prefill=for_prefill,
        demand_decode=for_decode,
        size_prefill=sized(for_prefill),
        size_decode=sized(for_decode),
        forecast_used=for_prefill is prefill.forecast or for_decode is decode.forecast,
    )


def _wait_factor(observation: Observation, known: float, modelled: PrefillLoad) -> float:
    """Smoothed ratio of the measured wait for prefill to the modelled one.

    It gives more room to an engine or a gateway that queues worse than the model. Needed only where nobody measures
    how many requests are late: then the mean wait is all there is. Learnt where the model has something to say:
    neither idle nor overloaded.
    """
    measured, serving = observation.ttft_seconds, observation.prefill.serving
    if observation.late_share is not None or measured is None or not serving:
        return known
    if not LEARNING_USE[0] <= modelled.busy_workers / serving <= LEARNING_USE[1]:
        return known
    ratio = (measured - modelled.idle_ttft_seconds) / modelled.mean_wait_seconds(serving)
    ratio = min(WAIT_FACTORS[1], max(WAIT_FACTORS[0], ratio))
    return known + WAIT_SMOOTHING * (ratio - known)


def _held(
    before: Pair,
    observation: Observation,
    previous: Decision | None,
    known: Learnt,
    model: EngineModel,
    policy: Policy,
    now_seconds: float,
) -> Decision:
    """Keep the target while the load is unknown, but for what needs no load to be known.

    A queue in the engines still adds workers, a user who changes a bound is still obeyed, and once the load has been
    unknown for long the fallback holds. Nothing is taken away.
    """
    blind_since = now_seconds
    if previous is not None and previous.blind_since_seconds is not None:
        blind_since = previous.blind_since_seconds
    fallback = policy.fallback
    falls_back = fallback is not None and now_seconds - blind_since >= fallback.after_seconds
    wanted, reason, message = before, Reason.TELEMETRY_FAILED, "the load is not known since telemetry failed"
    backlog = _backlog_without_demand(observation, previous, model, policy)
    if backlog[0] > wanted[0] or backlog[1] > wanted[1]:
        wanted = (max(wanted[0], backlog[0]), max(wanted[1], backlog[1]))
        reason, message = Reason.BACKLOG, f"{message}, and what waits in the engines needs more workers"
    elif falls_back and fallback and (fallback.prefill > wanted[0] or fallback.decode > wanted[1]):
        wanted = (max(wanted[0], fallback.prefill), max(wanted[1], fallback.decode))
        reason, message = Reason.FALLBACK, f"{message} {now_seconds - blind_since:.0f} s ago; the fallback holds"
    else:
        message = f"{message}; the previous target is held"
    try:
        target, hard = apply_bounds(wanted, before, policy)
    except NoRoomError as error:
        target, hard, message = before, (), f"{message}; {error}"
    if target == before:
        reason = Reason.TELEMETRY_FAILED
    elif wanted == before:  # a new resource, too: it has no worker yet, and nobody scrapes it
        reason, message = (
            Reason.BOUNDS_CHANGED,
            "the load is not known yet; the workers are brought within their bounds",
        )
    return Decision(
        prefill=target[0],
        decode=target[1],
        reason=reason,
        message=message,
        limited_by=hard,
        needed=None,
        forecast_used=False,
        demand_prefill=previous.demand_prefill if previous else None,
        demand_decode=previous.demand_decode if previous else None,
        expected=None,
        infeasible=previous.infeasible if previous else "",
        gpus=policy.gpus(*target),
        flips=0,
        next_look_seconds=policy.interval_seconds,
        watching_since_seconds=now_seconds,
        recent=(),
        learnt=known,
        blind_since_seconds=blind_since,
    )


def _backlog_without_demand(
    observation: Observation, previous: Decision | None, model: EngineModel, policy: Policy
) -> Pair:
    """Workers for what waits, taking requests to be as they were when the load was last known."""
    if previous is None or previous.demand_prefill is None or previous.demand_decode is None:
        return 0, 0
    known = previous.demand_decode
    needed = size(known, model, policy.objectives, policy.prefill.gpus, policy.decode.gpus, previous.learnt.wait_factor)
    prompts = previous.demand_prefill
    return (
        prefill_for_backlog(observation.prefill, prompts, PrefillLoad.of(prompts, model), model, policy),
        decode_for_backlog(observation.decode, needed.load.decode, policy),
    )


def _flips(target: Pair, observation: Observation, model: EngineModel, policy: Policy) -> int:
    """Workers that can change from decode to prefill (negative: the other way) instead of a stop and a start.

    Only where both roles hold the same GPUs and a flip serves sooner than a start.
    """
    if not policy.role_switching or policy.prefill.gpus != policy.decode.gpus:
        return 0
    if model.flip_seconds >= min(model.startup_seconds.values()):
        return 0
    prefill_gap, decode_gap = target[0] - observation.prefill.supply, target[1] - observation.decode.supply
    if prefill_gap > 0 > decode_gap:
        return min(prefill_gap, -decode_gap)
    if decode_gap > 0 > prefill_gap:
        return -min(decode_gap, -prefill_gap)
    return 0


def _reason(before: Pair, target: Pair, need: _Need, policy: Policy) -> Reason:
    changes = [after - had for after, had in zip(target, before, strict=True)]
    if not any(changes):
        return Reason.STEADY
    if apply_bounds(before, before, policy)[0] == target:
        return Reason.BOUNDS_CHANGED
    if min(changes) < 0 < max(changes):
        return Reason.MIX_SHIFTED
    if max(changes) > 0:
        return Reason.BACKLOG if need.backlogged else Reason.DEMAND_ROSE
    return Reason.DEMAND_FELL


def _message(
    need: _Need,
    target: Pair,
    observation: Observation,
    policy: Policy,
    hard: tuple[Bound, ...],
    budget: float,
    late: float,
) -> str:
    prefill, decode = need.demand_prefill, need.demand_decode
    parts = [
        f"prefill {target[0]}: {prefill.requests_per_second:.3g} requests/s of {prefill.uncached_tokens:.0f} uncached "
        f"tokens keep {need.size_prefill.prefill_exact:.2f} busy, {need.pair[0]} needed",
        f"decode {target[1]}: {decode.requests_per_second:.3g} requests/s of {decode.output_tokens:.0f} tokens fill "
        f"{need.size_decode.decode_exact:.2f} at batch {need.size_decode.batch_limit} "
        f"(limited by {need.size_decode.batch_limited_by}), {need.pair[1]} needed",
    ]
    if need.backlogged:
        tokens, requests = observation.prefill.waiting_tokens or 0.0, observation.decode.waiting_requests or 0.0
        parts.append(f"{tokens:.0f} prompt tokens wait for prefill and {requests:.0f} requests for decode")
    if Bound.GPU_BUDGET_MIN in hard:
        parts.append(f"filled up to {policy.gpus(*target)} GPUs, spec.scaling.gpuBudget.min is {policy.gpu_budget_min}")
    if policy.schedules:
        parts.append(f"within the limits of {', '.join(policy.schedules)} (spec.scaling.schedules)")
    waiting = observation.prefill.unschedulable + observation.decode.unschedulable
    if waiting:
        parts.append(f"{waiting} workers find no node with free GPUs")
    beyond = need.size_prefill.load.prefill.beyond, need.size_decode.load.decode.beyond
    parts += [part for part in beyond if part]
    if need.infeasible:
        parts.append(f"objectives can not be met: {need.infeasible}")
    if late > 1.1 * (1 - policy.objectives.attainment):
        parts.append(f"an error budget of {budget:.0%} lets {late:.1%} be late at one moment")
    return "; ".join(parts)
