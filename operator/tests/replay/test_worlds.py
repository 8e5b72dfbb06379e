"""Each world changes what it says, by the same draws for the same seed, and nothing else."""

import math
from dataclasses import replace

import numpy as np
import pytest

from dopd.api.names import Role
from dopd.planning import Objectives
from dopd.replay.cluster import Cluster
from dopd.replay.disturbances import Disturbances
from dopd.replay.runner import run
from dopd.replay.telemetry import Telemetry
from dopd.replay.trace import Trace
from dopd.replay.workers import Settings
from dopd.replay.worlds import KINDS, World

OBJECTIVES = Objectives(1.5, 0.05, 0.99)
SETTINGS = Settings({role: 60.0 for role in Role})


def test_a_world_is_named_with_or_without_a_size():
    world = World.parse("delay, profile=1.3,failures")
    assert str(world) == "delay=60,failures=7200,profile=1.3"
    assert dict(World.parse("all").sizes).keys() == KINDS.keys()
    assert World.parse("profile=0.8,all").get("profile", 1.0) == 0.8
    assert World.parse("") == World()


@pytest.mark.parametrize(
    "text",
    [
        "storm",
        "delay=",
        "delay=x",
        "delay=-1",
        "delay=nan",
        "jitter=0",
        "all=2",
        "delay=1e9",
        "failures=1",
        "profile=9",
    ],
)
def test_what_is_no_world_is_refused_with_what_is(text):
    if text == "delay=":
        assert World.parse(text).get("delay", 0.0) == 60.0
        return
    with pytest.raises(ValueError, match="expected"):
        World.parse(text)


def test_settings_of_a_world(model):
    settings = World.parse("delay=90,jitter,noise,unequal,failures,gaps").settings(SETTINGS, 20_000.0)
    assert settings.delay_seconds == 90.0
    assert settings.disturbances == Disturbances(0.3, 0.2, 0.1, 7200.0)
    assert settings.gaps_seconds == World.parse("gaps").settings(SETTINGS, 20_000.0).gaps_seconds
    assert 4 < len(settings.gaps_seconds) < 20
    assert World().settings(SETTINGS, 20_000.0) == SETTINGS
    assert World.parse("profile=1.3").engine(model).prefill_seconds(1000) == pytest.approx(1.3 * 0.035)
    assert World().engine(model) is model


@pytest.mark.parametrize(
    ("sizes", "told"),
    [(Disturbances(service_cv=0.3), False), (Disturbances(worker_cv=0.3), False), (Disturbances(), True)],
)
def test_noise_is_drawn_alike_for_a_seed_and_changes_what_clients_meet(model, poisson, sizes, told):
    trace = poisson(40, 2000, outputs=20)
    first, again, other = (
        run(trace, model, OBJECTIVES, (2, 1), replace(SETTINGS, disturbances=sizes, seed=seed)) for seed in (1, 1, 2)
    )
    assert first == again
    assert (first.ttft_p90 == other.ttft_p90) is told


def test_starts_take_longer_or_shorter(model):
    trace = Trace("one", np.array([0.0, 200.0]), np.array([10, 10]), np.array([2, 2]), "requests")
    cluster = Cluster(model, trace, 1, 1, replace(SETTINGS, disturbances=Disturbances(startup_cv=0.3)))
    ready = []

    def decide():
        cluster.scale_to(Role.PREFILL, 9)
        ready.append(len(cluster.serving[Role.PREFILL]))
        return 1.0

    cluster.run(decide)
    times = [next(k for k, n in enumerate(ready) if n >= count) for count in range(2, 10)]
    assert len(set(times)) > 4
    assert 20 < min(times) < 60 < max(times) < 150


def test_a_failed_worker_is_replaced_and_its_prompts_are_sent_again(model, poisson):
    trace = poisson(30, 30_000, outputs=50)
    failing = replace(SETTINGS, disturbances=Disturbances(failures_seconds=200.0))
    result = run(trace, model, OBJECTIVES, (3, 2), failing)
    assert 10 < result.failures < 40
    assert 0 < result.lost < 1000, "answers that ran, and nothing else"
    assert result.attainment < run(trace, model, OBJECTIVES, (3, 2), SETTINGS).attainment
    cluster = Cluster(model, trace, 3, 2, failing)
    cluster.run()
    assert cluster.finished == len(trace)
    assert cluster.count(Role.PREFILL, *(worker.phase for worker in cluster.workers[Role.PREFILL])) == 3
    assert sum(map(math.isnan, cluster.ttft_seconds)) == 0


def test_all_signals_are_as_old_as_the_delay(model):
    """Silence for 100 s, then more than a worker can do."""
    arrivals = np.concatenate(([0.0], 100 + np.arange(6000) / 60))
    trace = Trace("starts", arrivals, np.full(6001, 1000), np.full(6001, 20), "requests")
    cluster = Cluster(model, trace, 1, 1, replace(SETTINGS, delay_seconds=60.0))
    telemetry, seen = Telemetry(cluster), {}

    def decide():
        telemetry.scrape()
        seen[cluster.now] = (
            telemetry.demand(20.0).requests_per_second > 1,
            sum(telemetry.prefill_waiting_tokens()) > 10_000,
            (telemetry.late_share(20.0) or 0.0) > 0.5,
            telemetry.prefill_busy_share(20.0) > 0.5,
            telemetry.workers(Role.PREFILL).waiting_tokens > 10_000,
        )
        return 5.0

    cluster.run(decide)
    assert not any(any(signals) for now, signals in seen.items() if now <= 160.0)
    assert all(seen[185.0])


def test_nobody_is_asked_in_a_gap(model, poisson):
    looks = []

    class Looks:
        def decide(self, telemetry):
            looks.append(telemetry.now_seconds)
            return (2, 1), 15.0

    gaps = replace(SETTINGS, gaps_seconds=((30.0, 100.0),))
    run(poisson(10, 2000), model, OBJECTIVES, (2, 1), gaps, Looks())
    assert not [now for now in looks if 30 <= now < 100]
    assert {0.0, 15.0, 100.0} <= set(looks)
