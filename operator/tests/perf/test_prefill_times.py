"""Service times beside the curve that they are taken from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.perf import EngineModel, service_times

from .test_engine_model import MODELS

models = st.sampled_from(list(MODELS.values()))


def seconds(model: EngineModel, tokens: int) -> float:
    """Of a prompt alone in a pass, with nothing cached before it."""
    times = service_times(model)
    return times.pass_seconds(times.work_seconds(tokens))


@given(model=models, tokens=st.integers(1024, 65_536))
def test_of_a_large_prompt_they_are_near_the_curve(model: EngineModel, tokens: int):
    assert 0.7 < seconds(model, tokens) / model.prefill_seconds(tokens) < 1.1


@given(model=models, tokens=st.integers(64, 1024))
def test_of_a_small_prompt_they_may_be_far_too_low_and_are_never_too_high(model: EngineModel, tokens: int):
    assert 0.4 < seconds(model, tokens) / model.prefill_seconds(tokens) < 1.1


@pytest.mark.parametrize("name", sorted(MODELS))
def test_of_a_full_pass_they_are_the_curve(name: str):
    model = MODELS[name]
    assert seconds(model, model.chunk_tokens) == pytest.approx(model.prefill_seconds(model.chunk_tokens))
    assert service_times(model).least_seconds == model.prefill_seconds(1)
