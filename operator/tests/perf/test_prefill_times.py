"""The four numbers beside the curve that they are taken from."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.perf import EngineModel, PrefillTimes

from .test_engine_model import MODELS

models = st.sampled_from(list(MODELS.values()))


@given(model=models, tokens=st.floats(1024, 65_536))
def test_of_a_large_prompt_they_are_within_a_fifth_of_the_curve(model: EngineModel, tokens: float):
    assert PrefillTimes.of(model).prefill_seconds(tokens) == pytest.approx(model.prefill_seconds(tokens), rel=0.2)


@given(model=models, tokens=st.floats(64, 1024))
def test_of_a_small_prompt_they_may_be_a_third_too_low_and_are_never_far_too_high(model: EngineModel, tokens: float):
    assert 0.6 < PrefillTimes.of(model).prefill_seconds(tokens) / model.prefill_seconds(tokens) < 1.2


@pytest.mark.parametrize("name", sorted(MODELS))
def test_of_a_full_pass_they_are_the_curve(name: str):
    model = MODELS[name]
    times = PrefillTimes.of(model)
    assert times.prefill_seconds(model.chunk_tokens) == pytest.approx(model.prefill_seconds(model.chunk_tokens))
    assert times.least_seconds == model.prefill_seconds(1)


@given(model=models, chunk=st.integers(64, 65_536))
def test_they_are_never_negative(model: EngineModel, chunk: int):
    assert min(vars(PrefillTimes.of(replace(model, chunk_tokens=chunk))).values()) >= 0
