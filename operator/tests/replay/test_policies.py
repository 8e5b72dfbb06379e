"""Each peer's formula, pinned by numbers worked out by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from dopd.api.names import Role
from dopd.planning import Demand, Objectives, Workers
from dopd.replay.cluster import Cluster
from dopd.replay.policies import catalogue, static
from dopd.replay.policies.arima import ArimaSeries
from dopd.replay.policies.base import Setting
from dopd.replay.policies.dopd import Dopd
from dopd.replay.policies.dynamo import DynamoLoad, load_counts, throughput_counts
from dopd.replay.policies.hpa import Behaviour, Hpa, RoleScaler
from dopd.replay.policies.paper import ratio_counts
from dopd.replay.runner import run
from dopd.replay.search import Try
from dopd.replay.telemetry import Telemetry
from dopd.replay.trace import Trace
from dopd.replay.workers import Settings


@pytest.fixture
def setting(model):
    return Setting(model, Objectives(1.5, 0.05, 0.99), 60.0)


def test_the_paper_balances_producers_and_consumers(setting):
    # C = min(floor(6250 / ceil(1100 / 64)), 256) = 256; ITL(256) = 30.6 ms; exact D = 50 * 200 * .0306 / 256 = 1.195
    # R = 256 * .035 / (200 * .0306) = 1.464; P = ceil(1.464 * 1.195) = ceil(50 * .035) = 2
    assert ratio_counts(setting, 50.0, 1000.0, 200.0) == (2, 2)
    assert ratio_counts(setting, 200.0, 1000.0, 200.0) == (8, 5)


def test_the_papers_decode_is_corrected_by_the_measured_itl(setting):
    slow = ratio_counts(setting, 100.0, 1000.0, 200.0, observed_itl_seconds=0.05, serving_decode=4)
    assert slow[1] > ratio_counts(setting, 100.0, 1000.0, 200.0)[1]


def test_dynamo_sizes_by_mean_length_at_full_use(setting):
    # prefill ceil(100 * .035) = 4; decode: 256 / (200 * .0306) = 41.8 requests/s a worker, ceil(100 / 41.8) = 3
    assert throughput_counts(setting, 100.0, 1000.0, 200.0, 0.05) == (4, 3)
    # an ITL objective of 10.1 ms allows batch 51: 51 / (200 * .0101) = 25.2, ceil(100 / 25.2) = 4
    assert throughput_counts(setting, 100.0, 1000.0, 200.0, 0.0101)[1] == 4


@pytest.mark.parametrize(
    ("queues", "prefill"),
    [
        # A prompt of 1000 tokens takes 35 ms, 35 us a token; above 1.5 s at the shortest queue are (1.5 - .035) / 35e-6
        # = 41,857 tokens. One worker less must keep each queue below .8 (1.5 - .035): 3/4 of 33,486 tokens = 25,114.
        ([41_900, 90_000, 90_000, 90_000], 5),
        ([41_800, 90_000, 90_000, 90_000], 4),
        ([25_100, 0, 0, 0], 3),
        ([25_200, 0, 0, 0], 4),
    ],
)
def test_dynamos_load_layer_moves_prefill_by_the_shortest_queue(setting, queues, prefill):
    assert load_counts(setting, seen(queues=queues), (4, 1), 1.5, 0.05) == (prefill, 1)


@pytest.mark.parametrize(
    ("running", "waiting", "decode"),
    [
        # 5 ms + 0.1 ms a request: above 20 ms are 151 requests at the least loaded worker; one worker less carries 4/3
        # as many, which must stay below .8 * 20 ms: 110 requests, 82 now; and below 400,000 KV tokens.
        ([(151, 1000.0)] * 4, 0, 5),
        ([(150, 1000.0)] + [(200, 1000.0)] * 3, 0, 4),
        ([(82, 1000.0)] * 4, 0, 3),
        ([(83, 1000.0)] + [(1, 1000.0)] * 3, 0, 4),
        ([(82, 300_001.0)] * 4, 0, 4),
        ([(10, 1000.0)] * 4, 1, 5),
    ],
)
def test_dynamos_load_layer_moves_decode_by_the_least_loaded_worker(setting, running, waiting, decode):
    assert load_counts(setting, seen(running=running, waiting=waiting), (1, 4), 1.5, 0.02) == (1, decode)


def test_dynamos_load_layer_waits_for_a_worker_that_starts(setting):
    full = seen(queues=[90_000], prefill=Workers(1, 0))
    assert DynamoLoad(setting).decide(full) == ((2, 1), 5.0)
    assert DynamoLoad(setting).decide(seen(queues=[90_000], prefill=Workers(1, 1)))[0] == (2, 1)
    assert DynamoLoad(setting, tightening=0.3).decide(seen(queues=[14_000], prefill=Workers(1, 0)))[0] == (2, 1)


def seen(queues=(), running=(), waiting=0, prefill=None):
    """What the load layer looks at, of prompts of 1000 tokens."""
    workers = {Role.PREFILL: prefill or Workers(len(queues)), Role.DECODE: Workers(1, waiting_requests=waiting)}
    return SimpleNamespace(
        now_seconds=60.0,
        demand=lambda window: Demand(10.0, 1000.0, 1e6, 200.0),
        prefill_waiting_tokens=lambda: list(queues),
        decode_loads=lambda: list(running),
        workers=workers.__getitem__,
    )


@pytest.fixture
def burst():
    """One request a second for four minutes, a hundred in the third; 1000 prompt tokens, 200 of answer."""
    busy = np.arange(12_000) / 100 + 60
    arrivals = np.concatenate((np.arange(120.0), busy[busy >= 120], np.arange(180.0, 240.0)))
    return Trace("burst", arrivals, np.full(len(arrivals), 1000), np.full(len(arrivals), 200), "requests")


@pytest.fixture
def patient(setting):
    """Objectives that no queue misses, passes of one prompt: what is needed is what is kept busy, rounded up."""
    model = replace(setting.model, chunk_tokens=1000)
    return replace(setting, model=model, objectives=Objectives(10_000.0, 0.05, 0.99))


def test_static_peak_holds_what_the_busiest_minute_keeps_busy(patient, burst):
    # prefill 100 * .035 = 3.5; decode 100 * 200 * .0306 / 256 = 2.4; times 1.5: 5.25 and 3.6
    assert static.peak(patient, burst) == (4, 3)
    assert static.peak(patient, burst, load_factor=1.5) == (6, 4)
    assert static.first_counts(patient, burst) == (4, 3), "the whole trace is no longer than the first five minutes"
    assert static.first_counts(patient, burst.between(0.0, 100.0)) == (1, 1)


def test_what_arrives_as_the_trace_ends_is_no_peak(patient):
    arrivals = np.arange(121.0)  # the last one begins a minute of its own, which has no length
    trace = Trace("even", arrivals, np.full(121, 1000), np.full(121, 200), "requests")
    assert static.true_demand(trace, 120.0, 180.0).requests_per_second == pytest.approx(61 / 60)
    assert static.peak(patient, trace) == (1, 1)
    ending = Trace("ending", np.append(arrivals, [120.001] * 9), np.full(130, 1000), np.full(130, 200), "requests")
    assert static.peak(patient, ending) == (1, 1)


def test_the_oracle_asks_one_start_up_time_ahead_and_gives_up_when_the_need_ends(patient, burst):
    # Of 30 s around a step of 15 s: a quarter of them in the burst is 25.7 requests/s, thus .9 and .6 workers; three
    # quarters 75.2, thus 2.6 and 1.8. The step from 120 s on is the first of the latter, that from 180 s the last.
    oracle = static.Oracle(patient, burst)
    assert [tuple(need) for need in oracle.needs[6:14].tolist()] == [
        (1, 1), (1, 1), (3, 2), (4, 3), (4, 3), (3, 2), (1, 1), (1, 1),
    ]  # fmt: skip
    asked = [oracle.decide(SimpleNamespace(now_seconds=15.0 * look))[0] for look in range(14)]
    assert asked == [(1, 1)] * 3 + [(3, 2)] + [(4, 3)] * 7 + [(3, 2)] + [(1, 1)] * 2


def test_hpa_follows_the_ratio_with_tolerance_and_holds_for_its_window(setting):
    scaler = RoleScaler(Behaviour(), setting.most)
    assert scaler.desired(4, 4, 4 * 0.75 / 0.7) == 4
    assert scaler.desired(4, 4, 4 * 1.0 / 0.7) == 6
    assert scaler.desired(6, 6, 0.9) == 6
    for _ in range(20):
        last = scaler.desired(6, 6, 0.9)
    assert last == 1
    assert scaler.desired(1, 1, 30.0) == 5, "four at once"
    assert scaler.desired(1, 1, None) == 1, "no metric moves nothing"
    patient = RoleScaler(Behaviour(down_window_seconds=60.0, up_window_seconds=30.0), setting.most)
    assert [patient.desired(2, 2, needed) for needed in (2.0, 4.0, 4.0, 1.0, 1.0, 1.0, 1.0)] == [2, 2, 4, 2, 2, 2, 1]


def test_arima_repeats_a_constant_and_continues_a_trend():
    flat, rising = ArimaSeries(), ArimaSeries()
    for k in range(10):
        constant, next_value = flat.next(7.0), rising.next(float(k))
    assert constant == 7.0
    assert next_value == pytest.approx(9.99)


def test_one_to_three_has_at_least_the_gpus_of_the_peak(setting):
    assert static.one_to_three((6, 3), setting) == (3, 9)
    assert static.one_to_three((6, 3), replace(setting, prefill_gpus=4, decode_gpus=4)) == (3, 9)


def test_the_oracle_needs_no_more_than_the_peak(setting, poisson):
    trace = poisson(30, 6000, outputs=100)
    oracle, peak = static.Oracle(setting, trace), static.peak(setting, trace)
    assert (oracle.needs.min(axis=0) >= 1).all()
    assert abs(oracle.needs.max(axis=0)[0] - peak[0]) <= 1


@pytest.mark.parametrize("name", catalogue.NAMES + catalogue.VARIANTS)
def test_every_policy_by_name_has_runs(setting, poisson, name):
    assert isinstance(next(catalogue.search(name, setting, poisson(20, 500))), Try)


def test_an_unknown_policy_is_refused_with_the_known_ones(setting, poisson):
    with pytest.raises(ValueError, match="expected one of dopd"):
        catalogue.search("magic", setting, poisson(20, 500))


def test_hpa_can_aim_at_another_use_of_decode(setting):
    used = SimpleNamespace(
        seen_seconds=60.0,
        workers=lambda role: Workers(4),
        prefill_busy_share=lambda window: 0.7,
        decode_slot_share=lambda: 0.7,
    )
    assert Hpa(setting, target=0.7, decode_target=0.35).decide(used) == ((4, 8), 15.0)


def test_dopd_turns_no_more_than_twice_an_hour_on_flat_loads_of_noisy_lengths(setting, poisson):
    """Lengths vary as much as in published traces; nothing else does. Some rates lie next to a worker's edge."""

    def lengths(mean):
        return lambda generator, count: np.maximum(1, generator.lognormal(np.log(mean), 0.8, count))

    rates, hours, reversals = (21.0, 26.0, 31.0, 41.0), 0.5, 0  # in the mean: next to an edge it may be four
    for rps in rates:
        trace = poisson(rps, int(rps * hours * 3600), lengths(1000), lengths(20), seed=7)
        start = static.first_counts(setting, trace)
        result = run(trace, setting.model, setting.objectives, start, Settings({r: 60.0 for r in Role}), Dopd(setting))
        assert result.attainment >= 0.99
        reversals += result.reversals
    assert reversals <= 2 * hours * len(rates)


def test_dopd_sees_the_generation_lengths_of_a_load_that_grows(model):
    """As finished answers do not tell them: of a load that doubles every minute the short ones finish first."""
    generator, span = np.random.default_rng(8), 300.0
    growth = np.log(2) / 60
    arrivals = np.sort(np.log1p(generator.uniform(size=20_000) * np.expm1(growth * span)) / growth)
    outputs = np.maximum(1, generator.exponential(2000, len(arrivals))).astype(int)
    trace = Trace("grows", arrivals, np.full(len(arrivals), 100), outputs, "requests")
    cluster = Cluster(model, trace, 50, 500, Settings({r: 60.0 for r in Role}))
    telemetry, seen = Telemetry(cluster), {}

    def decide():
        telemetry.scrape()
        seen[cluster.now] = [telemetry.demand(45.0, decoded).output_tokens for decoded in (False, True)]
        return 15.0

    cluster.run(decide)
    finished, both = seen[300.0]
    assert finished < 0.9 * outputs.mean()
    assert both == pytest.approx(outputs.mean(), rel=0.05)


def test_with_flips_dopd_moves_workers_to_the_role_that_the_mix_asks_for(setting):
    """Long prompts for ten minutes, then long answers."""
    arrivals = np.cumsum(np.random.default_rng(11).exponential(1 / 14, 14_000))
    prompts = arrivals < 600
    trace = Trace("mix", arrivals, np.where(prompts, 6000, 2000), np.where(prompts, 100, 500), "requests")
    policy, settings = Dopd(setting, forecast=False, role_switching=True), Settings({role: 60.0 for role in Role})
    result = run(trace, setting.model, setting.objectives, (4, 1), settings, policy)
    assert result.flips > 0
    assert result.lost == 0
    shift = next(index for index, (at, _, _) in enumerate(result.timeline) if at > 600)
    (_, *before), (_, *after) = result.timeline[shift - 1 : shift + 1]
    assert (after[0] < before[0], after[1] > before[1], sum(after)) == (True, True, sum(before))


def a_silence():
    """Some minutes of one request a second, twenty-five of none, and some again."""
    seconds = np.arange(200.0)
    arrivals = np.concatenate([seconds, 1700.0 + seconds])
    return Trace("silence", arrivals, np.full(len(arrivals), 500), np.full(len(arrivals), 100), "requests")


def test_who_lets_both_roles_sleep_pays_less_and_makes_the_first_requests_wait(setting):
    trace, settings = a_silence(), Settings(startup_seconds=dict.fromkeys(Role, 60.0))

    def served(**changes):
        return run(trace, setting.model, setting.objectives, (1, 1), settings, Dopd(setting, forecast=False, **changes))

    awake, idle = served(), served(idle_after_seconds=600.0)
    assert awake.cold == 0
    assert [(prefill, decode) for _, prefill, decode in idle.timeline][-2:] == [(0, 0), (1, 1)]
    assert idle.gpu_hours < awake.gpu_hours - 0.4
    assert 40 <= idle.cold <= 80, "those of a start-up time"
    assert idle.lost == 0
