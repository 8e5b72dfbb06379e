from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.perf import DecodeWindow, EngineModel, PrefillWindow, Ratios
from dopd.planning import Demand


@pytest.fixture(scope="module")
def model():
    return EngineModel(
        prefill_curve=((1.0, 0.010), (8000.0, 0.210)),
        itl_curves=((1000.0, ((1.0, 0.0051), (256.0, 0.0306))),),
        kv_tokens=400_000,
        max_running_requests=256,
        chunk_tokens=8192,
        transfer_base_seconds=0.005,
        transfer_tokens_per_second=1e6,
        startup_seconds={"prefill": 60.0, "decode": 60.0},
        flip_seconds=5.0,
    )


def decode(model, factor, batches=(60.0, 70.0, 80.0), age=1000.0, steps_each=100):
    times = [factor * model.itl_seconds(b, 1000) for b in batches]
    n = steps_each
    return DecodeWindow(
        n * len(batches),
        n * sum(batches),
        n * sum(times),
        n * sum(b * b for b in batches),
        n * sum(b * t for b, t in zip(batches, times, strict=True)),
        1000.0,
        age,
    )


def fed(model, factors, **window):
    ratios = Ratios()
    for factor in factors:
        ratios = ratios.add_decode(decode(model, factor, **window), model)
    return ratios


@given(factor=st.floats(0.5, 3))
def test_an_engine_that_is_slower_throughout_is_corrected_by_that_factor(model, factor):
    correction = fed(model, [factor] * 8).correction
    assert correction.factor == pytest.approx(factor, rel=1e-6)
    assert model.corrected(decode=correction.factor).itl_seconds(64, 1000) == pytest.approx(
        factor * model.itl_seconds(64, 1000), rel=1e-6
    )


def test_few_windows_correct_nothing(model):
    assert fed(model, [2.0] * 4).correction.factor == 1.0
    assert fed(model, [2.0] * 4).correction.confidence == 0.0


def test_confidence_grows_with_windows_and_falls_with_disagreement(model):
    few, many = fed(model, [1.2] * 5).correction, fed(model, [1.2] * 8).correction
    noisy = fed(model, [1.0, 1.1, 1.2, 1.3, 1.1, 1.4, 1.0, 1.2]).correction
    assert few.confidence < many.confidence
    assert noisy.confidence < many.confidence


@pytest.mark.parametrize("window", [{"age": 30.0}, {"steps_each": 5}])
def test_young_engines_and_idle_windows_do_not_count(model, window):
    assert fed(model, [2.0] * 10, **window).kept == ()


def test_a_step_that_gets_faster_with_its_batch_is_refused(model):
    window = replace(decode(model, 1.0), batch_seconds=0.0)
    assert window.slope < 0
    assert Ratios().add_decode(window, model).kept == ()


def test_an_idle_night_does_not_push_the_busy_day_out(model):
    ratios = fed(model, [1.5] * 8, batches=(100.0, 110.0))
    for _ in range(500):
        ratios = ratios.add_decode(decode(model, 1.5, batches=(1.0, 2.0)), model)
    assert len({bucket for bucket, _ in ratios.kept}) == 2
    assert len(ratios.kept) <= 16


def test_a_changed_engine_is_noticed_and_the_old_windows_go(model):
    ratios = fed(model, [1.0] * 8 + [1.6] * 5)
    assert ratios.correction.drifted
    assert ratios.correction.factor == pytest.approx(1.6)


def test_an_idle_night_at_another_pace_is_no_drift_and_deletes_nothing(model):
    ratios = fed(model, [1.3] * 16, batches=(95.0, 100.0, 105.0))
    for _ in range(20):
        ratios = ratios.add_decode(decode(model, 1.05, batches=(1.5, 2.0, 2.5)), model)
        assert not ratios.correction.drifted
    assert [ratio for bucket, ratio in ratios.kept if bucket == 7] == pytest.approx([1.3] * 8)


def test_a_drift_at_one_load_leaves_what_others_taught(model):
    ratios = fed(model, [1.3] * 8, batches=(95.0, 100.0, 105.0))
    for factor in [1.0] * 8 + [1.6] * 5:
        ratios = ratios.add_decode(decode(model, factor, batches=(1.5, 2.0, 2.5)), model)
    assert ratios.correction.drifted
    assert [ratio for _, ratio in ratios.kept] == pytest.approx([1.3] * 8 + [1.6] * 5)


def prompts(tokens, cv):
    return Demand(1.0, tokens, tokens**2 * (1 + cv**2), 1.0).prompt_lengths()


def prefill_ratio(model, lengths, busy_seconds_a_prompt, share=1.0):
    tokens = 100 * sum(probability * length for probability, length in lengths)
    square = mean(lengths, lambda length: length**2)
    window = PrefillWindow(tokens, lengths, square, share, 100 * busy_seconds_a_prompt, 1000.0)
    return Ratios().add_prefill(window, model).kept[0][1]


def mean(lengths, of):
    return sum(probability * of(length) for probability, length in lengths)


lengths = st.builds(prompts, st.floats(100, 20_000), st.floats(0, 2))


@given(lengths=lengths, packed=st.floats(0, 1))
def test_a_perfect_engine_is_judged_perfect_at_any_spread_of_lengths_and_any_packing(model, lengths, packed):
    alone = mean(lengths, model.passes_seconds)
    busy = packed * mean(lengths, model.packed_seconds) + (1 - packed) * alone
    assert prefill_ratio(model, lengths, busy) == pytest.approx(1.0, abs=1e-6)


@given(lengths=lengths, factor=st.floats(1.05, 4))
def test_a_slow_engine_is_judged_by_what_its_prompts_take_alone_and_a_fast_one_by_full_passes(model, lengths, factor):
    edges = mean(lengths, model.passes_seconds), mean(lengths, model.packed_seconds)
    assert prefill_ratio(model, lengths, factor * max(edges)) == pytest.approx(factor)
    assert prefill_ratio(model, lengths, min(edges) / factor) == pytest.approx(1 / factor)


@given(lengths=lengths, share=st.floats(0.1, 0.9))
def test_the_attention_to_a_cached_prefix_is_no_slowness(model, lengths, share):
    model = replace(model, prefill_curve=((1.0, 0.01), (2000.0, 0.06), (8000.0, 0.3)))
    busy = mean(lengths, lambda tokens: model.packed_seconds(tokens, tokens / share - tokens))
    assert busy > mean(lengths, model.packed_seconds)
    assert prefill_ratio(model, lengths, busy, share) == pytest.approx(1.0, abs=1e-6)


def test_a_window_of_no_prompts_does_not_count(model):
    window = PrefillWindow(50_000.0, ((1.0, 0.0),), 0.0, 1.0, 1.0, 1000.0)
    assert Ratios().add_prefill(window, model).kept == ()
