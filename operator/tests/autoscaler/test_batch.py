"""What requests without a deadline ask of the planner: nothing, unless a field says so."""

from dataclasses import replace

import pytest

from dopd.autoscaler import Autoscaler, Sample
from dopd.planning import PerRole, Workers

from .worlds import POLICY, demand


def decided(model, policy, batch_waits, decode=None):
    autoscaler = Autoscaler(forecaster=None)
    autoscaler.observe(Sample(0.0, demand(120), batch_waits=batch_waits), model, policy)
    workers = PerRole(Workers(serving=1), decode or Workers(serving=1))
    return autoscaler.decide(workers, 0.0, model, policy)


def test_a_batch_that_waits_adds_no_worker_of_itself(model):
    policy = replace(POLICY, batch=True)
    assert decided(model, policy, True).pair == decided(model, policy, False).pair == decided(model, POLICY, False).pair


def test_with_a_share_the_load_is_that_much_greater_while_a_batch_waits(model):
    policy = replace(POLICY, batch=True, batch_share=0.5)
    waits, none = decided(model, policy, True), decided(model, policy, False)
    assert waits.planned_for.prefill.requests_per_second == pytest.approx(
        1.5 * none.planned_for.prefill.requests_per_second
    )
    assert waits.prefill > none.prefill
    assert waits.decode > none.decode


def test_what_waits_for_a_slot_and_a_full_kv_cache_may_be_of_the_batch(model):
    full = Workers(serving=1, waiting_requests=9000.0, kv_use=1.0)
    told_apart, not_told = (decided(model, replace(POLICY, batch=told), False, full) for told in (True, False))
    assert told_apart.decode == decided(model, POLICY, False).decode
    assert not_told.decode > told_apart.decode
