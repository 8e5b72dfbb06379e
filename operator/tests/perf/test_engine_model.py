from importlib import resources

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dopd.api.profile import EngineProfileSpec
from dopd.perf import EngineModel

NAMES = sorted(
    entry.name for entry in resources.files("dopd.perf").joinpath("profiles").iterdir() if entry.name.endswith(".yaml")
)


def shipped(name: str) -> EngineProfileSpec:
    text = resources.files("dopd.perf").joinpath("profiles", name).read_text()
    return EngineProfileSpec.model_validate(yaml.safe_load(text)["spec"])


MODELS = {name: EngineModel.from_profile(shipped(name)) for name in NAMES}
models = st.sampled_from(list(MODELS.values()))


def test_the_promised_profiles_are_shipped():
    promised = {
        "llama-3.1-8b-h100", "llama-3.1-70b-fp8-h100", "qwen3-30b-a3b-h100", "llama-3.1-8b-l40s", "llama-3.1-8b-b200",
    }  # fmt: skip
    assert promised <= {name.removesuffix(".yaml") for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_profile_says_where_it_comes_from(name):
    profile = shipped(name)
    assert "SGLang" in profile.source.description
    assert profile.correction >= 1
    assert profile.prefill.points[-1].tokens >= 32768


@given(model=models, tokens=st.floats(1, 300_000), more=st.floats(1, 2))
def test_more_tokens_never_take_less_time(model, tokens, more):
    assert model.prefill_seconds(tokens * more) >= model.prefill_seconds(tokens)


@given(model=models, batch=st.floats(1, 600), context=st.floats(1, 100_000), more=st.floats(1, 2))
def test_a_larger_batch_and_a_longer_context_never_take_less_time(model, batch, context, more):
    now = model.itl_seconds(batch, context)
    assert model.itl_seconds(batch * more, context) >= now * (1 - 1e-9)
    assert model.itl_seconds(batch, context * more) >= now * (1 - 1e-9)


@given(model=models, tokens=st.lists(st.integers(16, 2000), min_size=1, max_size=4))
def test_a_packed_pass_costs_at_least_its_longest_prompt_and_no_more_than_one_of_their_sum(model, tokens):
    total, squares = sum(tokens), sum(t * t for t in tokens)
    seconds = model.prefill_pass_seconds(total, squares)
    assert seconds <= model.prefill_seconds(total) + 1e-12
    assert seconds >= 0.9 * model.prefill_seconds(max(tokens))


@given(model=models, tokens=st.integers(9000, 60_000))
def test_cutting_a_prompt_costs_about_as_much_as_the_whole(model, tokens):
    pieces, start = 0.0, 0
    while start < tokens:
        end = min(tokens, start + model.chunk_tokens)
        pieces += model.prefill_pass_seconds(end - start, end * end - start * start)
        start = end
    assert pieces == pytest.approx(model.prefill_seconds(tokens), rel=0.25)


def test_beyond_the_table_is_said():
    model = MODELS["llama-3.1-8b-h100.yaml"]
    assert model.covers_prefill(8192)
    assert not model.covers_prefill(1e6)
    assert model.covers_decode(256, 8000)
    assert not model.covers_decode(2000, 8000)


def test_a_hole_in_the_decode_grid_is_named():
    profile = shipped("llama-3.1-8b-h100.yaml")
    points = profile.decode.points[:-1]
    broken = profile.model_copy(update={"decode": profile.decode.model_copy(update={"points": points})})
    with pytest.raises(ValueError, match="no point at batch 512 and contextTokens 65536"):
        EngineModel.from_profile(broken)
