"""The loop in random worlds (ten thousand with `make fuzz`): whatever comes in, a target within bounds comes out."""

import math
from dataclasses import asdict

from hypothesis import event, given
from hypothesis import strategies as st

from dopd.autoscaler import Autoscaler, Reason
from dopd.perf import EngineModel, service_times
from dopd.planning import Bound

from .worlds import WORLDS, profiles


def decisions(world):
    """One after the other, of one autoscaler. No forecaster: those have worlds of their own."""
    loop, found = Autoscaler(miss=world.restored, forecaster=None), []
    for look in world.looks:
        loop.observe(look.sample, world.model, world.policy, look.past)
        found.append(loop.decide(look.workers, look.now_seconds, world.model, world.policy))
        if loop.outlook:
            assert all(math.isfinite(value) for role in loop.outlook for value in told(asdict(role)))
        assert loop.miss is None or 0 < loop.miss <= 1
    return found


def told(outlook):
    return [value for value in outlook.values() if isinstance(value, int | float)]


@given(WORLDS)
def test_any_world_has_a_target_within_its_bounds(world):
    policy = world.policy
    for decision in decisions(world):
        event(decision.reason.value)
        assert isinstance(decision.prefill, int)
        assert isinstance(decision.decode, int)
        assert decision.prefill >= 0
        assert decision.decode >= 0
        assert decision.gpus == policy.gpus(decision.prefill, decision.decode)
        assert "nan" not in decision.message
        assert math.isfinite(decision.next_look_seconds)
        assert decision.next_look_seconds > 0
        if decision.weighed:
            for role in decision.weighed:
                assert role.needed == max(role.peak, role.backlog) >= 0
        if decision.reason is Reason.NO_ROOM or "no number of workers satisfies" in decision.message:
            continue
        if "raise the budget or lower a min" in decision.message:
            continue
        assert policy.prefill.min <= decision.prefill <= policy.prefill.max
        assert policy.decode.min <= decision.decode <= policy.decode.max
        if policy.gpu_budget is not None:
            assert decision.gpus <= policy.gpu_budget
        if policy.ratio is not None:
            assert policy.ratio.min * decision.decode <= decision.prefill <= policy.ratio.max * decision.decode


@given(WORLDS)
def test_the_same_world_has_the_same_answer(world):
    assert repr(decisions(world)) == repr(decisions(world))


@given(WORLDS)
def test_what_is_expected_is_a_number_or_never(world):
    for decision in decisions(world):
        if decision.expected is None:
            continue
        for name, value in vars(decision.expected).items():
            assert not math.isnan(value), name
            assert value >= 0, name
        assert decision.expected.attainment <= 1 + 1e-9
        assert set(decision.limited_by) <= set(Bound)


@given(profiles(), st.floats(0, 2e7), st.floats(0, 1e6), st.floats(1, 65536), st.floats(1, 2e7))
def test_no_profile_has_a_cost_below_nothing(profile, tokens, cached_tokens, batch, context_tokens):
    model = EngineModel.from_profile(profile)
    times = service_times(model)
    for seconds in (
        model.prefill_seconds(tokens),
        model.passes_seconds(tokens, cached_tokens),
        model.packed_seconds(tokens, cached_tokens),
        model.prefill_pass_seconds(tokens, tokens * (tokens + 2 * cached_tokens)),
        model.itl_seconds(batch, context_tokens),
        model.transfer_seconds(tokens),
        model.attention_seconds,
        times.pass_seconds(max(1, int(tokens)), times.piece_attention_seconds(int(tokens), int(cached_tokens))),
        times.transfer_token_seconds,
    ):
        assert math.isfinite(seconds)
        assert seconds >= 0
    assert model.prefill_seconds(tokens) > 0
    assert model.packed_seconds(tokens, cached_tokens) >= 0
    assert model.passes_seconds(tokens, cached_tokens) >= 0
    assert model.itl_seconds(batch, context_tokens) > 0
    assert model.prefill_seconds(2 * tokens) >= model.prefill_seconds(tokens) * (1 - 1e-12)
