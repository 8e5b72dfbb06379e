"""What a decision says of itself: which load decided, with the numbers, and what clients are to meet."""

import math
from dataclasses import replace

import pytest

from dopd.autoscaler import Autoscaler, Cause, Reason
from dopd.planning import Demand, PerRole, RoleBounds, Workers

from .worlds import POLICY, alone, bins, demand, look, run, workers


def test_it_says_which_load_decided(model):
    still, moves = [60] * 400, [60 + 20 * math.sin(k / 5) for k in range(60)]
    assert run(model, still)[-1].weighed.prefill.cause is Cause.NOW
    causes = {decision.weighed.prefill.cause for decision in run(model, moves)}
    assert Cause.GROWN in causes
    fallen = run(model, [200] * 3 + [1])[-1]
    assert fallen.weighed.prefill.cause is Cause.HELD
    assert fallen.weighed.prefill.held == fallen.prefill
    bound = alone(model, demand(200), replace(POLICY, prefill=RoleBounds(1, 2)))
    assert bound.weighed.prefill.cause is Cause.BOUND
    assert bound.weighed.prefill.needed > 2 == bound.prefill
    queued = alone(model, demand(1), fleet=workers(1, 1, waiting_tokens=4e6)).weighed
    assert queued.prefill.cause is Cause.BACKLOG
    assert queued.prefill.backlog == queued.prefill.needed
    assert queued.decode.backlog == 0


@pytest.mark.parametrize("rps", [0.0, 0.01, 5000.0])
def test_the_message_holds_the_numbers(model, rps):
    autoscaler = Autoscaler(forecaster=None)
    decision = look(autoscaler, demand(rps), model)
    assert f"prefill {decision.prefill}: " in decision.message
    assert f"decode {decision.decode}: " in decision.message
    assert f"{decision.weighed.prefill.needed} needed" in decision.message
    assert f"more than that comes in {autoscaler.miss:.1%} of such times" in decision.message
    assert "requests/s" in decision.message
    assert "nan" not in decision.message


def test_the_message_of_a_backlog_tells_what_waits(model):
    decision = alone(model, demand(0), fleet=workers(1, 1, waiting_tokens=2_000_000.0))
    assert decision.reason is Reason.BACKLOG
    assert "2000000 prompt tokens wait for prefill and 0 requests for decode" in decision.message


def test_workers_that_no_node_has_room_for_are_told(model):
    fleet = PerRole(Workers(1, starting=3, unschedulable=3), Workers(1))
    assert "3 workers find no node with free GPUs" in alone(model, demand(200), fleet=fleet).message


def test_the_message_tells_what_lies_beyond_the_profile(model):
    assert "extrapolated" not in alone(model, demand(20)).message
    prompts = alone(model, demand(2, mean=7000.0)).message
    assert "% of the prompts are longer than the last of spec.prefill.points (8000 tokens)" in prompts
    assert "measure the profile further" in prompts
    contexts = alone(model, Demand(2.0, 1000.0, 2e6, 9000.0)).message
    assert "10000 tokens of context lies beyond the last of spec.decode.points (batch 256, 8000 tokens)" in contexts
    larger = replace(model, max_running_requests=300)
    assert "decode at batch 300 and 1200 tokens of context lies beyond" in alone(larger, demand(20)).message
    assert "extrapolated" not in alone(larger, demand(0)).message, "nobody needs that batch"


def test_objectives_that_nothing_meets_are_said(model):
    impossible = replace(POLICY, objectives=replace(POLICY.objectives, ttft_seconds=0.02))
    decision = alone(model, demand(20), impossible)
    assert decision.infeasible
    assert f"objectives can not be met: {decision.infeasible}" in decision.message


def test_what_is_expected_is_of_the_demand_that_each_role_was_planned_for(model):
    policy = replace(POLICY, decode=RoleBounds(1, 3))
    decision = alone(model, demand(600), policy)
    assert decision.needed[1] > 3 == decision.decode
    assert decision.planned_for.decode.requests_per_second > 600
    assert decision.expected.attainment == 0
    ample = alone(model, demand(20))
    assert ample.expected.attainment >= POLICY.objectives.attainment


def test_a_forecast_that_decides_is_told_from_growth(model):
    """A day that repeats itself rises soon after this time, and nothing of the last minutes tells of it."""
    rises = [demand(400 if k % 1440 in range(30, 60) else 20) for k in range(1, 4 * 1440 + 1)]
    autoscaler, policy = Autoscaler(forecaster=None), replace(POLICY, prefill=RoleBounds(1, 200))
    for at in range(1500, 1740, 30):
        decision = look(autoscaler, demand(20), model, policy, float(at), past=bins(rises, 0.0))
    assert decision.weighed
    assert decision.weighed.prefill.cause is Cause.FORECAST
    assert "by the forecast at +90 s (as a day before)" in decision.message


def test_the_message_names_the_field_that_limits_and_what_clients_meet(model):
    few = alone(model, demand(200), replace(POLICY, prefill=RoleBounds(1, 2)))
    assert "limited by spec.scaling.prefill.max 2" in few.message
    assert "the queue grows on this target; the objective is 0.99 of requests on time" in few.message
    enough = alone(model, demand(60))
    assert "expected on this target: TTFT " in enough.message
    assert "of requests on time (objective 0.99)" in enough.message
