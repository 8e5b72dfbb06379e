"""The load in the status: told, and not rewritten for every ripple."""

from dataclasses import replace

from dopd.autoscaler import Autoscaler, Decision, Sample
from dopd.planning import Demand, PerRole, Policy, RoleBounds, Workers
from dopd.reconcile.reading import Reading
from dopd.reconcile.scaling import Planned
from dopd.reconcile.status import load_status

DEMAND = Demand(100.0, 1000.0, 1.5e6, 200.0)


def decided(engine, demand: Demand | None) -> Decision:
    policy, loop = Policy(prefill=RoleBounds(1, 9), decode=RoleBounds(1, 9)), Autoscaler(forecaster=None)
    loop.observe(Sample(0.0, demand), engine, policy)
    return loop.decide(PerRole(Workers(1), Workers(1)), 0.0, engine, policy)


def planned(engine, demand: Demand | None, ahead: Demand | None = None, at_seconds: float = 1000.0) -> Planned:
    decision = replace(decided(engine, demand), planned_for=PerRole(ahead or demand, ahead or demand))
    return Planned(decision, Reading(at_seconds, demand))


def stored(engine, *arguments, **others):
    status = load_status(planned(engine, *arguments, **others), None)
    assert status
    return status


def told(status):
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def test_it_tells_the_load_now_and_the_load_planned_for(model):
    as_told = told(stored(model, DEMAND, DEMAND.scaled(2)))
    assert as_told["time"] == "1970-01-01T00:16:40Z"
    assert as_told["demand"] == {"requestsPerSecond": 100.0, "inputTokens": 1000.0, "outputTokens": 200.0}
    assert as_told["prefill"]["requestsPerSecond"] == as_told["decode"]["requestsPerSecond"] == 200.0


def test_the_load_planned_for_is_that_of_the_decision(model):
    decision = decided(model, DEMAND)
    status = load_status(Planned(decision, Reading(1000.0, DEMAND)), None)
    assert status
    assert decision.planned_for
    for role, load in (("prefill", status.prefill), ("decode", status.decode)):
        expected = getattr(decision.planned_for, role).requests_per_second
        assert load.requests_per_second == round(expected, 3) > 100.0


def test_a_ripple_is_not_written(model):
    first = stored(model, DEMAND, DEMAND.scaled(2))
    ripple = planned(model, DEMAND.scaled(1.05), DEMAND.scaled(2.1), at_seconds=2000.0)
    status = load_status(ripple, first)
    assert status
    assert status == first


def test_a_move_is_written(model):
    first = stored(model, DEMAND, DEMAND.scaled(2))
    for other in (
        planned(model, DEMAND.scaled(1.2), DEMAND.scaled(2), at_seconds=2000.0),
        planned(model, replace(DEMAND, output_tokens=300.0), DEMAND.scaled(2), at_seconds=2000.0),
        planned(model, DEMAND, at_seconds=2000.0),
        planned(model, Demand.none(), at_seconds=2000.0),
    ):
        status = load_status(other, first)
        assert status
        assert status.time == "1970-01-01T00:33:20Z"


def test_an_unknown_load_leaves_the_last_one_with_its_time(model):
    first = stored(model, DEMAND)
    status = load_status(Planned(None, Reading(2000.0)), first)
    assert status
    assert status.time == "1970-01-01T00:16:40Z"
    assert load_status(None, None) is None
