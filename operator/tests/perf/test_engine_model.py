from importlib import resources

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dopd.api.profile import EngineProfileSpec
from dopd.perf import EngineModel, service_times

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


@st.composite
def profiles(draw: st.DrawFn) -> EngineProfileSpec:
    """Any profile whose points the API server accepts, however odd."""
    tokens = draw(st.lists(st.integers(1, 10_000_000), min_size=2, max_size=6, unique=True).map(sorted))
    least = st.floats(1e-6, 1.0)
    prefill = sorted(draw(st.lists(least, min_size=len(tokens), max_size=len(tokens))))
    contexts = draw(st.lists(st.integers(1, 10_000_000), min_size=1, max_size=3, unique=True).map(sorted))
    batches = draw(st.lists(st.integers(1, 65536), min_size=1, max_size=3, unique=True).map(sorted))
    steps: dict[tuple[int, int], float] = {}
    for i, batch in enumerate(batches):
        for j, context in enumerate(contexts):
            below = [steps[b, c] for b, c in ((batches[i - 1], context), (batch, contexts[j - 1])) if (b, c) in steps]
            steps[batch, context] = max([1e-6, *below]) + draw(st.sampled_from([0.0, 1e-4, 0.1]))
    return EngineProfileSpec.model_validate(
        {
            "model": "m",
            "gpu": "g",
            "source": {"origin": "Synthetic", "description": "odd", "date": "2026-01-01"},
            "correction": draw(st.floats(0.1, 10)),
            "prefill": {
                "points": [{"tokens": t, "seconds": s} for t, s in zip(tokens, prefill, strict=True)],
                "chunkTokens": draw(st.integers(64, 1_048_576)),
            },
            "decode": {
                "points": [{"batch": b, "contextTokens": c, "itlSeconds": s} for (b, c), s in steps.items()],
                "kvTokens": draw(st.integers(1, 10**9)),
            },
        }
    )


anything = profiles().map(EngineModel.from_profile)
lengths = st.floats(1, 2e7)


@given(model=anything, tokens=lengths, more=st.floats(1, 100))
def test_of_any_profile_a_longer_prompt_never_takes_less(model, tokens, more):
    for seconds in (model.prefill_seconds, model.passes_seconds):
        assert seconds(tokens * more) >= seconds(tokens) * (1 - 1e-9) > 0


@given(model=anything, tokens=lengths, cached=st.floats(0, 1e7), pieces=st.integers(1, 8))
def test_of_any_profile_no_token_costs_less_than_nothing(model, tokens, cached, pieces):
    room = 1e-9 * model.prefill_seconds(tokens)
    assert model.full_pass_token_seconds >= -1e-15
    assert model.packed_seconds(tokens, cached) >= 0
    assert model.prefill_pass_seconds(tokens, tokens**2 / pieces) >= -room
    times = service_times(model)
    assert min(times.token_seconds, times.attention_seconds, times.pass_seconds(1)) >= 0


@given(model=anything, batch=st.floats(1, 1e6), context=lengths, more=st.floats(1, 100))
def test_of_any_profile_a_larger_step_never_takes_less(model, batch, context, more):
    now = model.itl_seconds(batch, context)
    assert now > 0
    assert model.itl_seconds(batch * more, context) >= now * (1 - 1e-9)
    measured = min(batch, model.itl_curves[0][1][-1][0])
    assert model.itl_seconds(measured, context * more) >= model.itl_seconds(measured, context) * (1 - 1e-9)


def test_a_chunk_far_beyond_the_last_point_does_not_make_prompts_free():
    spec = shipped("llama-3.1-8b-h100.yaml")
    for points in range(2, len(spec.prefill.points) + 1):
        short = spec.prefill.model_copy(update={"points": spec.prefill.points[:points], "chunk_tokens": 1_048_576})
        model = EngineModel.from_profile(spec.model_copy(update={"prefill": short}))
        assert model.packed_seconds(2000) > 0
        assert model.full_pass_token_seconds > 0


def test_each_role_is_as_its_own_profile_says():
    prefill, decode = shipped("llama-3.1-8b-h100.yaml"), shipped("llama-3.1-8b-l40s.yaml")
    pair = EngineModel.from_profiles(prefill, decode)
    one, other = EngineModel.from_profile(prefill), EngineModel.from_profile(decode)
    assert (pair.prefill_curve, pair.chunk_tokens) == (one.prefill_curve, one.chunk_tokens)
    assert (pair.itl_curves, pair.kv_tokens) == (other.itl_curves, other.kv_tokens)
    assert pair.startup_seconds == {
        "prefill": one.startup_seconds["prefill"],
        "decode": other.startup_seconds["decode"],
    }
