"""A split and engines that do both, at equal GPUs."""

from dataclasses import replace

import numpy as np
import pytest

from dopd.api.names import Role
from dopd.planning import Objectives
from dopd.replay.fixed import AGGREGATED, DEPLOYMENTS, MIXED, SPLIT, FixedCounts
from dopd.replay.policies.base import Setting
from dopd.replay.runner import run
from dopd.replay.workers import Settings

GPUS = 2
SETTINGS = Settings(dict.fromkeys(Role, 60.0), dict.fromkeys(Role, GPUS))


@pytest.fixture
def counts(model, poisson):
    """Prompts of 0.06 s and answers of 100 tokens; a step of 25 ms is what many of them at once take."""

    def make(rps=60.0, count=600, ttft=0.5, itl=0.025, **lengths):
        setting = Setting(model, Objectives(ttft, itl, 0.99), 60.0, GPUS, GPUS)
        return FixedCounts(setting, poisson(rps, count, **{"inputs": 2000, "outputs": 100} | lengths), SETTINGS)

    return make


def test_the_best_split_is_the_best_of_all(counts):
    of = counts()
    label, best = of.best(SPLIT, 6)
    everyone = [of.split((prefill, 6 - prefill))[1].attainment for prefill in range(1, 6)]
    assert best.attainment == max(everyone)
    prefill, decode = map(int, label.split(" + "))
    assert best == run(of.trace, of.setting.model, of.setting.objectives, (prefill, decode), SETTINGS)


def test_engines_that_mix_use_the_chunk_that_attains_most(counts):
    of = counts()
    label, best = of.best(MIXED, 6)
    assert best.attainment == max(of.engines(MIXED, 6, chunk)[1].attainment for chunk in (512, 2048, 8192))
    assert label.startswith("6 engines, chunks of ")


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_the_fewest_reach_the_objective_and_one_less_does_not(counts, deployment):
    of = counts()
    fewest = of.fewest(deployment, guess=5, most=40)
    assert fewest is not None
    assert of.best(deployment, fewest)[1].attainment >= 0.99
    assert of.best(deployment, fewest - 1)[1].attainment < 0.99


def test_an_objective_that_no_number_reaches_has_no_fewest(counts):
    of = counts(itl=0.004)
    assert of.fewest(AGGREGATED, guess=2, most=4) is None
    assert of.compare().fewest_gpus == dict.fromkeys(DEPLOYMENTS)


def test_a_comparison_shows_every_deployment_on_the_gpus_that_each_needs(counts):
    of = counts(itl=0.01)
    comparison = of.compare()
    needed = sorted({gpus for gpus in comparison.fewest_gpus.values() if gpus})
    assert [row.gpus for row in comparison.rows] == [gpus for gpus in needed for _ in DEPLOYMENTS]
    for row in comparison.rows:
        reached = row.result.attainment >= 0.99
        assert reached == (row.gpus >= comparison.fewest_gpus[row.deployment])
        assert row.result.gpu_hours == pytest.approx(row.gpus * of.trace.duration_seconds / 3600)
    assert comparison.fewest_gpus[SPLIT] < comparison.fewest_gpus[AGGREGATED]  # stalls miss an ITL of 10 ms
    text = comparison.as_text()
    assert all(name in text for name in DEPLOYMENTS)


def test_a_load_that_one_engine_serves_is_shown_without_a_split(counts):
    of = counts(rps=1.0, count=60, ttft=3.0, itl=0.1)
    comparison = of.compare()
    assert comparison.fewest_gpus == {SPLIT: 2 * GPUS, AGGREGATED: GPUS, MIXED: GPUS}
    assert [(row.deployment, row.gpus) for row in comparison.rows][:2] == [(AGGREGATED, GPUS), (MIXED, GPUS)]
    with pytest.raises(ValueError, match="expected at least 2"):
        of.best(SPLIT, 1)


def test_a_search_that_has_enough_ends_and_the_next_begins_there(counts):
    of = counts(rps=20.0)
    _, first = of.best(SPLIT, 8, enough=0.99)
    assert first.attainment >= 0.99
    assert len(of._kept) == 1
    wide = replace(of, trace=of.trace, _kept={}, known={SPLIT: 7 / 8})
    assert wide.best(SPLIT, 8, enough=0.0)[0] == "7 + 1"
    assert np.isclose(wide.known[SPLIT], 7 / 8)
