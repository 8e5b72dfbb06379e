from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.perf import EngineModel
from dopd.replay.pass_times import Mixing, PassTimes
from dopd.replay.profiles import load_profile

TOLERANCE = 0.05
CONVEX = ((1.0, 0.010025), (8000.0, 0.210), (16000.0, 0.5))


@pytest.fixture(scope="module")
def grown(model):
    curves = (*model.itl_curves, (4000.0, ((1.0, 0.008), (256.0, 0.05))))
    engine = replace(model, itl_curves=curves, prefill_curve=CONVEX)
    return engine, PassTimes(engine)


@given(
    tokens=st.integers(1, 1000),
    running=st.integers(0, 256),
    context=st.floats(1, 20_000),
)
def test_decode_and_prefill_are_those_of_the_profile(grown, tokens, running, context):
    """To the digit: the replay of split workers reads the same profile."""
    grown, times = grown
    assert times.decode_seconds(running, context) == pytest.approx(grown.itl_seconds(running, context))
    assert times.prefill_seconds(tokens, tokens**2) == pytest.approx(grown.prefill_seconds(tokens))


@pytest.mark.parametrize(
    ("profile", "tokens", "prompt", "running", "context", "milliseconds"),
    [
        # mixed_step_latency of aiconfigurator-core 0.12.0, SGLang 0.5.14, h100_sxm: operator/benchmarks/mixed_passes.py
        ("llama-3.1-8b-h100", 1792, 1024, 256, 1024, 57.05),
        ("llama-3.1-8b-h100", 1920, 1024, 128, 1024, 51.42),
        ("llama-3.1-8b-h100", 384, 4096, 128, 4096, 34.68),
        ("llama-3.1-70b-fp8-h100", 1984, 1024, 64, 1024, 94.53),
        ("llama-3.1-70b-fp8-h100", 7936, 4096, 256, 4096, 411.28),
    ],
)
def test_a_mixed_pass_takes_what_the_publisher_of_the_profile_composes(
    profile, tokens, prompt, running, context, milliseconds
):
    spec = load_profile(profile)
    times = PassTimes(EngineModel.from_profile(spec))
    attended = tokens * min(prompt, tokens)
    seconds = times.mixed_seconds(tokens, attended, running, context)
    assert seconds == pytest.approx(spec.correction * milliseconds / 1e3, rel=TOLERANCE)


@pytest.fixture(scope="module")
def tables(model):
    return [PassTimes(model, None, mixing) for mixing in (Mixing.COMPOSED, Mixing.LONGER, Mixing.SUM)]


@given(tokens=st.integers(1, 7900), running=st.integers(1, 256), context=st.floats(1, 9000))
def test_a_mixed_pass_lies_between_the_longer_half_and_the_sum(tables, tokens, running, context):
    times = tables[0]
    prompts, answers = times.prefill_seconds(tokens, tokens**2), times.decode_seconds(running, context)
    together, longer, total = (each.mixed_seconds(tokens, tokens**2, running, context) for each in tables)
    assert max(prompts, answers) <= together <= prompts + answers
    assert longer == max(prompts, answers)
    assert total == prompts + answers
