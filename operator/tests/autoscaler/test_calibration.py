"""The profile against what running engines count."""

import numpy as np
import pytest

from dopd.api.names import Role
from dopd.autoscaler.calibration import Calibration, EngineSample
from dopd.perf import EngineModel
from dopd.perf.online import Counters
from dopd.planning import Demand
from dopd.replay.cluster import Cluster
from dopd.replay.profiles import load_profile
from dopd.replay.trace import Trace
from dopd.replay.workers import Settings

DEMAND = Demand(10.0, 1000.0, 1e6, 200.0)
CONTEXT = DEMAND.running_context_tokens


def after(model: EngineModel, looks: int, pace: float) -> tuple[Counters, Counters]:
    """Counters of a prefill and of a decode engine that run at a multiple of the profile's time."""
    prefill = Counters(10_000.0 * looks, 10 * looks * pace * model.prefill_seconds(1000), (0.0,) * 5)
    steps, batches = 100.0 * looks, (10.0, 20.0)
    times = [pace * model.itl_seconds(b, CONTEXT) for b in batches]
    decode = Counters(
        0.0,
        0.0,
        (
            2 * steps,
            steps * sum(batches),
            steps * sum(times),
            steps * sum(b * b for b in batches),
            steps * sum(b * t for b, t in zip(batches, times, strict=True)),
        ),
    )
    return prefill, decode


def learnt(
    model: EngineModel, pace: float, *, looks: int = 40, engine: str = "{}/0", age: float = 900.0
) -> Calibration:
    calibration = Calibration()
    for look in range(looks):
        prefill, decode = after(model, look, pace)
        name = engine.format(look)
        samples = [
            EngineSample(f"p{name}", Role.PREFILL, age, prefill),
            EngineSample(f"d{name}", Role.DECODE, age, decode),
        ]
        calibration.take(samples, DEMAND, model)
    return calibration


def test_slow_engines_are_planned_for_as_slow(model: EngineModel):
    corrected = learnt(model, 2.0, engine="same").corrected(model)
    assert 1.4 < corrected.prefill_seconds(1000) / model.prefill_seconds(1000) <= 2.0
    assert 1.4 < corrected.itl_seconds(20, 1000) / model.itl_seconds(20, 1000) <= 2.0


@pytest.mark.parametrize("use", [0.2, 0.95])
@pytest.mark.parametrize("cv", [0.3, 1.3, 2.0])
def test_a_simulated_engine_that_keeps_to_its_profile_is_judged_so(use: float, cv: float):
    model = EngineModel.from_profile(load_profile("llama-3.1-8b-h100"))
    generator, sigma = np.random.default_rng(1), np.sqrt(np.log1p(cv**2))
    inputs = np.maximum(1, generator.lognormal(np.log(12_000) - sigma**2 / 2, sigma, 4000)).astype(np.int64)
    demand = Demand(1.0, inputs.mean(), (inputs**2.0).mean(), 1.0)
    busy_seconds = np.mean([model.packed_seconds(tokens) for tokens in inputs])
    arrivals = np.cumsum(generator.exponential(busy_seconds / use, len(inputs)))
    trace = Trace("lengths", arrivals, inputs, np.ones_like(inputs), "requests")
    cluster = Cluster(model, trace, 1, 1, Settings({role: 60.0 for role in Role}))
    cluster.run()
    calibration = Calibration()
    for look in range(6):
        counters = Counters(float(look * inputs.sum()), look * cluster.prefill_busy_seconds, (0.0,) * 5)
        calibration.take([EngineSample("p", Role.PREFILL, 900.0, counters)], demand, model)
    correction = calibration.corrections[Role.PREFILL]
    assert correction.windows == 5
    assert correction.factor == pytest.approx(1.0, abs=0.01)


def test_only_decode_is_believed_to_be_faster(model: EngineModel):
    corrected = learnt(model, 0.5, engine="same").corrected(model)
    assert corrected.prefill_seconds(1000) == model.prefill_seconds(1000)
    assert corrected.itl_seconds(20, 1000) < model.itl_seconds(20, 1000)


@pytest.mark.parametrize("change", [{"engine": "{}"}, {"age": 60.0}, {"looks": 4}])
def test_restarted_young_and_barely_seen_engines_teach_nothing(model: EngineModel, change: dict[str, object]):
    calibration = learnt(model, 2.0, **{"engine": "same", **change})  # type: ignore[arg-type]
    assert calibration.corrected(model) == model


def test_an_unknown_load_teaches_nothing(model: EngineModel):
    calibration = Calibration()
    for look in range(40):
        _, decode = after(model, look, 2.0)
        calibration.take([EngineSample("d", Role.DECODE, 900.0, decode)], None, model)
    assert calibration.corrected(model) == model
