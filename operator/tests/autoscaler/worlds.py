"""Small worlds for the loop: a demand a look, and a fleet that has at once what was asked for."""

from collections.abc import Iterable, Sequence

from dopd.autoscaler import Autoscaler, Decision, PastLoad, Sample
from dopd.perf import EngineModel
from dopd.planning import Demand, PerRole, Policy, RoleBounds, Workers

STEP_SECONDS = 30.0
POLICY = Policy(
    prefill=RoleBounds(1, 40),
    decode=RoleBounds(1, 40),
    interval_seconds=STEP_SECONDS,
    scale_down_stabilization_seconds=300.0,
)


def demand(rps: float, mean: float = 1000.0, answer: float = 200.0) -> Demand:
    """Requests of these mean lengths, prompts as spread as an exponential distribution."""
    return Demand(rps, mean, 2 * mean**2, answer)


def workers(prefill: int = 2, decode: int = 2, **prefill_queue: float) -> PerRole[Workers]:
    """So many that serve."""
    return PerRole(Workers(prefill, **prefill_queue), Workers(decode))  # type: ignore[arg-type]


def look(
    autoscaler: Autoscaler,
    load: Demand | None,
    model: EngineModel,
    policy: Policy = POLICY,
    now_seconds: float = 0.0,
    fleet: PerRole[Workers] | None = None,
    late_share: float | None = None,
    past: Sequence[PastLoad] = (),
) -> Decision:
    """One reading, and a decision upon it."""
    autoscaler.observe(Sample(now_seconds, load, late_share), model, policy, past)
    return autoscaler.decide(fleet or workers(), now_seconds, model, policy)


def run(
    model: EngineModel,
    loads: Iterable[float | Demand | None],
    *,
    policy: Policy = POLICY,
    start: tuple[int, int] = (2, 2),
    autoscaler: Autoscaler | None = None,
    late_share: float | None = None,
    first_seconds: float = 0.0,
    past: Sequence[PastLoad] = (),
) -> list[Decision]:
    """Decide on loads, one after the other, each target in force at once."""
    loop, decisions, pair = autoscaler or Autoscaler(forecaster=None), [], start
    for index, load in enumerate(loads):
        at = first_seconds + index * policy.interval_seconds
        asked = demand(load) if isinstance(load, int | float) else load
        decision = look(loop, asked, model, policy, at, workers(*pair), late_share, past)
        pair = decision.pair
        decisions.append(decision)
    return decisions


def bins(demands: Iterable[Demand], end_seconds: float, seconds: float = 60.0) -> list[PastLoad]:
    """A past that ends there, oldest first."""
    kept = list(demands)
    return [PastLoad(end_seconds - seconds * (len(kept) - 1 - index), seconds, one) for index, one in enumerate(kept)]


def alone(model, load, policy=POLICY, fleet=None):
    """The first decision on a load."""
    return look(Autoscaler(forecaster=None), load, model, policy, fleet=fleet)
