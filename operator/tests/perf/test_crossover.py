from dataclasses import replace
from importlib import resources
from math import inf

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dopd.api.profile import EngineProfileSpec
from dopd.perf import EngineModel
from dopd.perf.crossover import crossover, longest_within
from dopd.perf.engine import interpolate

PROFILES = [e for e in resources.files("dopd.perf").joinpath("profiles").iterdir() if e.name.endswith(".yaml")]
MODELS = [
    EngineModel.from_profile(EngineProfileSpec.model_validate(yaml.safe_load(p.read_text())["spec"])) for p in PROFILES
]

models = st.sampled_from(MODELS)
batches = st.floats(1, 256)
contexts = st.floats(1, 8000)
itls = st.floats(0.005, 0.5)


@given(model=models, batch=batches, context=contexts, itl=itls, part=st.floats(0.001, 1), base=st.floats(0, 0.1))
def test_up_to_each_length_its_condition_holds_and_beyond_it_does_not(model, batch, context, itl, part, base):
    model = replace(model, transfer_base_seconds=base)
    found = crossover(model, batch, context, itl)
    step = model.itl_seconds(batch, context)
    conditions = [
        (found.handshake_tokens, lambda n: model.prefill_seconds(n) - base),
        (found.transfer_tokens, lambda n: model.prefill_seconds(n) - model.transfer_seconds(n)),
        (found.gap_tokens, lambda n: step + model.prefill_seconds(n) - itl),
    ]
    for length, over in conditions:
        if length:
            assert over(max(1.0, part * min(length, 1e6))) <= 1e-9
        if length < inf:
            assert over(max(1.0, length) * 1.001) > -1e-9


@given(model=models, batch=batches, context=contexts, itl=itls)
def test_prefill_may_take_what_leaves_the_mean_step_at_the_objective(model, batch, context, itl):
    found = crossover(model, batch, context, itl)
    if found.prefill_share:
        assert found.step_seconds / (1 - found.prefill_share) == pytest.approx(itl)
    else:
        assert found.step_seconds >= itl


@given(model=models, batch=batches, context=contexts, itl=itls, more=st.floats(1, 3))
def test_a_dearer_transfer_or_a_looser_objective_never_shortens_a_length(model, batch, context, itl, more):
    now = crossover(model, batch, context, itl)
    dearer = replace(
        model,
        transfer_base_seconds=model.transfer_base_seconds * more,
        transfer_tokens_per_second=model.transfer_tokens_per_second / more,
    )
    then = crossover(dearer, batch, context, itl * more)
    assert then.handshake_tokens >= now.handshake_tokens
    assert then.transfer_tokens >= now.transfer_tokens
    assert then.gap_tokens >= now.gap_tokens
    assert then.prefill_share >= now.prefill_share


@given(model=models, batch=batches, context=contexts, itl=itls, more=st.floats(1, 3))
def test_a_slower_engine_never_lengthens_one(model, batch, context, itl, more):
    now, then = crossover(model, batch, context, itl), crossover(model.corrected(more, more), batch, context, itl)
    assert then.handshake_tokens <= now.handshake_tokens
    assert then.transfer_tokens <= now.transfer_tokens
    assert then.gap_tokens <= now.gap_tokens


def test_lengths_by_hand():
    curve = ((1.0, 0.010), (100.0, 0.010), (200.0, 0.030))
    assert longest_within(curve, lambda n: 0.009) == 0
    assert longest_within(curve, lambda n: 0.010) == pytest.approx(100)
    assert longest_within(curve, lambda n: 0.020) == pytest.approx(150)
    assert longest_within(curve, lambda n: 0.050) == pytest.approx(300)  # beyond the last point: its last slope
    assert longest_within(curve, lambda n: 0.010 + n * 0.0001) == pytest.approx(200)
    assert longest_within(curve, lambda n: 0.010 + n * 0.001) == inf
    assert longest_within(((64.0, 0.010),), lambda n: 0.020) == inf
    assert interpolate(curve, 150) == pytest.approx(0.020)
