"""Models that move in step on one pool: none holds more than it is granted, and time stands still for all at once."""

from dataclasses import replace

import numpy as np
import pytest

from dopd.api.names import Role
from dopd.planning import Objectives
from dopd.planning.pool import Pool
from dopd.planning.sharing import Entry
from dopd.replay.pooled import KIND, Model, main, replay, split
from dopd.replay.trace import Trace
from dopd.replay.workers import Settings

pytestmark = pytest.mark.timeout(120)
OBJECTIVES = Objectives(1.5, 0.05, 0.99)


def trace(name: str, rates: list[tuple[float, float]], seed: int) -> Trace:
    """Poisson arrivals at rates that hold for so many seconds each."""
    generator, begin, found = np.random.default_rng(seed), 0.0, []
    for rate, seconds in rates:
        count = int(rate * seconds)
        found.append(begin + np.sort(generator.uniform(0, seconds, count)))
        begin += seconds
    arrivals = np.concatenate(found)
    return Trace(name, arrivals, np.full(len(arrivals), 1000), np.full(len(arrivals), 100), "requests")


@pytest.fixture
def models() -> list[Model]:
    """Each is busy while the other is calm."""
    one, other = [(8.0, 200.0), (0.5, 200.0)], [(0.5, 200.0), (8.0, 200.0)]
    return [Model("a", trace("a", one, 1), Entry(0, {KIND: 2})), Model("b", trace("b", other, 2), Entry(0, {KIND: 2}))]


def test_a_pool_serves_two_that_take_turns_better_than_any_split_and_holds_its_cap(model, models):
    slow = ((1.0, 0.1), (8000.0, 2.4))
    engine = replace(model, startup_seconds=dict.fromkeys(("prefill", "decode"), 20.0), prefill_curve=slow)
    settings = Settings(startup_seconds=dict.fromkeys(Role, 20.0), objectives=OBJECTIVES, order="on-time-first")
    gpus = 8

    def late(pool: Pool) -> float:
        results, together = replay(models, pool, engine, OBJECTIVES, settings)
        assert together.most_held <= gpus
        return sum((1 - results[m.name].attainment) * len(m.trace) for m in models)

    pooled = late(Pool({KIND: gpus}, {m.name: m.entry for m in models}, 60.0))
    assert pooled < min(late(split(models, parts)) for parts in ((4, 4), (6, 2)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gpus", "4", "a=generated:flat,speed=2"], "a=generated:flat,speed=2: expected NAME=TRACE"),
        (["--gpus", "4", "a=generated:flat,seed=x"], "expected numbers after scale=, seed=, priority="),
        (["--gpus", "1", "a=generated:flat"], "--gpus 1: expected at least 2, one of each role for each model"),
        (["--gpus", "4", "--splits", "4+4", "a=generated:flat"], "--splits 4+4: expected GPUs for each of 1 models"),
        (["--gpus", "4", "--splits", "1", "a=generated:flat"], "--splits 1: expected GPUs for each of 1 models"),
    ],
)
def test_what_can_not_be_run_is_named(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str):
    assert main(arguments) == 2
    assert words in capsys.readouterr().err
