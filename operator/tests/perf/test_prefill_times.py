"""Service times beside the curve that they are taken from."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.perf import EngineModel, service_times

from .test_engine_model import MODELS

models = st.sampled_from(list(MODELS.values()))


def seconds(model: EngineModel, tokens: int) -> float:
    """Of a prompt alone in a pass, with nothing cached before it."""
    times = service_times(model)
    return times.pass_seconds(tokens, times.piece_attention_seconds(tokens))


@given(model=models, share=st.floats(0, 1))
def test_a_pass_takes_what_the_curve_says(model: EngineModel, share: float):
    tokens = max(1, int(share * model.chunk_tokens))
    assert seconds(model, tokens) == pytest.approx(model.prefill_seconds(tokens), rel=0.02)


@given(model=models, tokens=st.integers(8192, 65_536))
def test_a_prompt_of_several_passes_takes_about_as_long_as_they_do(model: EngineModel, tokens: int):
    full = model.passes_seconds(tokens - tokens % model.chunk_tokens)
    assert full * (1 - 1e-9) <= seconds(model, tokens) <= model.passes_seconds(tokens) * 1.05


@pytest.mark.parametrize("name", sorted(MODELS))
def test_more_tokens_never_take_less(name: str):
    points = service_times(MODELS[name]).pass_points
    assert points[-1][0] == MODELS[name].chunk_tokens
    assert all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(points))
