from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.perf import DecodeWindow, EngineModel, PrefillWindow, Ratios


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


def test_prefill_is_corrected_from_tokens_and_busy_time(model):
    ratios = Ratios()
    for _ in range(6):
        busy = 1.3 * 50 * model.prefill_seconds(1000)
        ratios = ratios.add_prefill(PrefillWindow(50_000.0, 50.0, busy, 1000.0), model)
    assert ratios.correction.factor == pytest.approx(1.3)
