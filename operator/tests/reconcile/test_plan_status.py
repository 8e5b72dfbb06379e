"""The plan in the status: what `kubectl get -o wide` and `dopd explain` show of a decision."""

from dataclasses import replace

import pytest

from dopd.api.status import DisaggregatedInferenceStatus
from dopd.autoscaler import Autoscaler, Sample
from dopd.planning import Demand, PerRole, Policy, RoleBounds, Workers
from dopd.planning.bounds import Bound
from dopd.reconcile.plan_status import percent, plan_status
from dopd.reconcile.reading import Reading
from dopd.reconcile.scaling import Planned
from dopd.reconcile.status import decision_status, load_and_plan

DEMAND = Demand(100.0, 1000.0, 1.5e6, 200.0)
NOTHING = DisaggregatedInferenceStatus()


def planned(engine, demand: Demand, late_share: float | None = None, most: int = 99) -> Planned:
    bounds, loop = RoleBounds(1, most), Autoscaler(forecaster=None)
    policy = Policy(prefill=bounds, decode=bounds, max_step=100)
    loop.observe(Sample(0.0, demand), engine, policy)
    decision = loop.decide(PerRole(Workers(1), Workers(1)), 0.0, engine, policy)
    return Planned(decision, Reading(1000.0, demand, late_share), outlook=loop.outlook)


def test_it_names_the_loads_and_which_of_them_decided(model):
    made = planned(model, DEMAND, late_share=0.004)
    status = plan_status(made, 0.99, "t")
    assert status
    assert made.decision
    assert made.decision.weighed
    assert status.target == f"{made.decision.prefill}+{made.decision.decode}"
    for role in ("prefill", "decode"):
        told, loads = getattr(status, role), getattr(made.decision.weighed, role)
        assert (told.now, told.peak, told.held, told.decided_by) == (loads.now, loads.peak, loads.held, loads.cause)
        assert 0 < told.busy_now <= told.busy_peak
    assert status.attainment.observed == 0.996
    assert status.attainment.expected
    assert status.attainment.summary == f"{percent(status.attainment.expected)}/99%"
    assert status.lengths.input_cv == pytest.approx(0.7071, abs=1e-4)


def test_a_target_that_is_too_small_has_a_bound_and_no_latency(model):
    status = plan_status(planned(model, DEMAND.scaled(2), most=2), 0.99, "t")
    assert status
    assert status.limited_by == [Bound.PREFILL_MAX, Bound.DECODE_MAX]
    assert (status.prefill.decided_by, status.ttft_seconds) == ("Bound", None)
    assert status.attainment.expected == 0.0


def test_load_and_plan_are_of_one_time(model):
    load, plan = load_and_plan(planned(model, DEMAND), 0.99, NOTHING)
    assert load
    assert plan
    assert load.time == plan.time
    stored = NOTHING.model_copy(update={"load": load, "plan": plan})
    ripple = planned(model, DEMAND.scaled(1.001))
    assert load_and_plan(ripple, 0.99, stored) == (load, plan)
    for other in (planned(model, DEMAND.scaled(1.5)), planned(model, DEMAND, most=2)):
        assert other.reading
        later = replace(other, reading=replace(other.reading, at_seconds=2000.0))
        load_then, plan_then = load_and_plan(later, 0.99, stored)
        assert load_then
        assert plan_then
        assert load_then.time == plan_then.time != load.time
    assert load_and_plan(Planned(None), 0.99, stored) == (load, plan)


def test_a_decision_in_short(model):
    decision = planned(model, DEMAND).decision
    assert decision
    assert decision_status(decision, "1+1", "t").summary == f"1+1 to {decision.prefill}+{decision.decode}: DemandRose"


@pytest.mark.parametrize(("share", "told"), [(0.99, "99%"), (0.9951, "99.51%"), (0.999999, "99.99%"), (1.0, "100%")])
def test_a_share_in_percent(share: float, told: str):
    assert percent(share) == told
