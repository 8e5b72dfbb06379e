from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dopd.api.names import Role
from dopd.planning import Objectives
from dopd.replay.cluster import Cluster
from dopd.replay.runner import run
from dopd.replay.trace import Trace
from dopd.replay.workers import Dialect, Phase, Routing, Settings

NOW = Settings(startup_seconds={Role.PREFILL: 60.0, Role.DECODE: 60.0})


def trace(arrivals, inputs, outputs):
    count = len(arrivals)
    return Trace(
        "t",
        np.array(arrivals, dtype=float),
        np.broadcast_to(np.array(inputs), (count,)).astype(np.int64),
        np.broadcast_to(np.array(outputs), (count,)).astype(np.int64),
        "requests",
    )


def test_a_request_alone_takes_the_times_of_the_profile(model):
    cluster = Cluster(model, trace([0.0], 1000, 11), 1, 1, NOW)
    cluster.run()
    assert cluster.ttft_seconds[0] == pytest.approx(model.prefill_seconds(1000))
    assert cluster.itl_seconds[0] == pytest.approx(model.itl_seconds(1, 1000))


def test_waiting_prompts_share_a_pass(model):
    cluster = Cluster(model, trace([0.0, 0.001, 0.002, 0.003], 1000, 2), 1, 1, NOW)
    cluster.run()
    last = model.prefill_seconds(1000) + model.prefill_pass_seconds(3000, 3 * 1000**2)
    assert cluster.ttft_seconds[3] == pytest.approx(last - 0.003)
    assert cluster.ttft_seconds[1] == pytest.approx(last - 0.001)


def test_a_long_prompt_is_cut_into_passes(model):
    convex = replace(model, prefill_curve=((1.0, 0.010025), (8000.0, 0.210), (16000.0, 0.500)))
    cluster = Cluster(convex, trace([0.0], 12_000, 2), 1, 1, NOW)
    cluster.run()
    cut = convex.prefill_pass_seconds(8192, 8192**2) + convex.prefill_pass_seconds(3808, 12_000**2 - 8192**2)
    assert cluster.ttft_seconds[0] == pytest.approx(cut)


def test_least_work_keeps_short_prompts_from_behind_a_long_one(model):
    arrivals = trace([0.0, 0.001, 0.002], [8000, 100, 100], 2)
    waited = {}
    for routing in (Routing.LEAST_REQUESTS, Routing.LEAST_WORK):
        cluster = Cluster(model, arrivals, 2, 1, replace(NOW, routing=routing))
        cluster.run()
        waited[routing] = cluster.ttft_seconds[2]
    assert waited[Routing.LEAST_REQUESTS] > model.prefill_seconds(8000)
    assert waited[Routing.LEAST_WORK] < 3 * model.prefill_seconds(100)


def test_a_full_decode_worker_makes_requests_wait(model):
    small = replace(model, max_running_requests=2)
    cluster = Cluster(small, trace([0.0] * 3, 100, 101), 1, 1, NOW)
    cluster.run()
    assert max(cluster.ttft_seconds) > 100 * small.itl_seconds(2, 1000)


def test_a_kv_cache_admits_only_whole_answers(model):
    small = replace(model, kv_tokens=2500)
    cluster = Cluster(small, trace([0.0, 0.0], 1000, 501), 1, 1, NOW)
    cluster.run()
    assert cluster.ttft_seconds[1] > 500 * small.itl_seconds(1, 1000)


def test_one_worker_with_constant_prompts_waits_like_m_d_1(model, poisson):
    """Pollaczek-Khinchine: rho S / (2 (1 - rho)); prompts as long as a chunk, so that none share a pass."""
    alone = replace(model, chunk_tokens=1000)
    service = model.prefill_seconds(1000)
    for rho in (0.3, 0.6):
        cluster = Cluster(alone, poisson(rho / service, 15_000), 1, 1, NOW)
        cluster.run()
        wait = np.mean(cluster.ttft_seconds) - service
        assert wait == pytest.approx(rho * service / (2 * (1 - rho)), rel=0.08)


def test_one_worker_with_two_lengths_waits_like_m_g_1(model, poisson):
    """Time in proportion to length and small cuts: a prompt takes its own time, whatever shares its passes."""
    whole = replace(model, prefill_curve=((1.0, 2.5e-5), (8000.0, 0.2)), chunk_tokens=100)
    lengths = np.array([500, 2000])
    services = lengths * 2.5e-5
    rho = 0.5
    rate = rho / services.mean()
    cluster = Cluster(whole, poisson(rate, 15_000, inputs=lambda g, n: lengths[g.integers(0, 2, n)]), 1, 1, NOW)
    cluster.run()
    wait = np.mean(cluster.ttft_seconds) - services.mean()
    assert wait == pytest.approx(rate * (services**2).mean() / (2 * (1 - rho)), rel=0.12)


def test_decode_holds_what_littles_law_says(model, poisson):
    rate, steps = 25.0, 200
    cluster = Cluster(model, poisson(rate, 8000, inputs=10, outputs=steps + 1), 2, 1, NOW)
    cluster.run()
    running = 0.0
    for _ in range(100):
        running = rate * steps * model.itl_seconds(running, 100)
    assert np.mean(cluster.itl_seconds[1000:7000]) == pytest.approx(model.itl_seconds(running, 100), rel=0.04)


@settings(max_examples=30, deadline=None)
@given(
    data=st.lists(st.tuples(st.floats(0, 300), st.integers(1, 20_000), st.integers(1, 400)), min_size=1, max_size=40),
    moves=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(-3, 3)), max_size=12),
    routing=st.sampled_from(list(Routing)),
    dialect=st.sampled_from(list(Dialect)),
    returning=st.sampled_from([None, 10.0]),
)
def test_nothing_is_lost_and_gpu_time_is_counted_whatever_the_scaling(model, data, moves, routing, dialect, returning):
    data.sort()
    arrivals, inputs, outputs = zip(*data, strict=True)
    chosen = replace(NOW, routing=routing, dialect=dialect, return_seconds=returning)
    cluster = Cluster(model, trace(arrivals, inputs, outputs), 2, 2, chosen)
    plan = iter(moves)

    def decide():
        prefill, decode, flips = next(plan, (1, 1, 0))
        cluster.flip(Role.DECODE if flips > 0 else Role.PREFILL, abs(flips))
        cluster.scale_to(Role.PREFILL, prefill)
        cluster.scale_to(Role.DECODE, decode)
        return 25.0

    cluster.run(decide)
    assert cluster.finished == len(data)
    assert min(cluster.ttft_seconds) > 0
    assert not np.isnan(cluster.itl_seconds).any()
    assert cluster.gpu_seconds >= 2 * arrivals[-1] * 0.99 - 1e-6
    for role in Role:
        assert all(worker.assigned == 0 for worker in cluster.workers[role])
    assert all(worker.assigned_tokens == 0 for worker in cluster.workers[Role.PREFILL])


def test_a_started_worker_serves_after_its_start_up_and_costs_from_the_decision(model, poisson):
    cluster = Cluster(model, poisson(5, 1000), 1, 1, NOW)
    seen = []

    def decide():
        if cluster.now == 0:
            cluster.scale_to(Role.PREFILL, 2)
        seen.append((cluster.now, cluster.count(Role.PREFILL, Phase.SERVING)))
        return 10.0

    cluster.run(decide)
    assert (50.0, 1) in seen
    assert (70.0, 2) in seen
    assert cluster.gpu_seconds == pytest.approx(3 * cluster.trace.duration_seconds)


def test_a_flipped_worker_serves_in_its_new_role_once_it_has_drained_and_holds_its_gpu_all_the_time(model, poisson):
    cluster = Cluster(model, poisson(5, 1000, outputs=200), 1, 3, replace(NOW, flip_seconds=5.0))
    serving = []

    def decide():
        if cluster.now == 30:
            cluster.flip(Role.DECODE, 1)
            cluster.scale_to(Role.PREFILL, 2)
            cluster.scale_to(Role.DECODE, 2)
        serving.append((cluster.now, *(cluster.count(role, Phase.SERVING) for role in Role)))
        return 1.0

    cluster.run(decide)
    assert (31.0, 1, 2) in serving
    flipped = next(now for now, prefill, _ in serving if prefill == 2)
    assert 35 <= flipped < 45  # it drained for some seconds; a start takes 60
    assert cluster.gpu_seconds == pytest.approx(4 * cluster.trace.duration_seconds)
    assert cluster.finished == 1000


def test_a_flip_that_is_no_longer_wanted_leaves_no_worker_behind_and_none_leaves_a_role_empty(model, poisson):
    cluster = Cluster(model, poisson(5, 1000, outputs=200), 1, 2, NOW)

    def decide():
        if cluster.now == 30:
            cluster.flip(Role.DECODE, 2)
            assert len(cluster.serving[Role.DECODE]) == 1
            cluster.scale_to(Role.PREFILL, 1)
        return 10.0

    cluster.run(decide)
    assert [len(cluster.workers[role]) for role in Role] == [1, 1]
    assert cluster.finished == 1000


def test_a_worker_that_drains_anyway_flips_first_and_an_idle_one_waits_until_the_gateway_has_forgotten_it(model):
    """Answers of 400 steps end after some seconds; the gateway takes 6 s to forget, a switch 5 s."""
    arrivals = trace([0.0, 0.0, 200.0], 100, 400)
    cluster = Cluster(model, arrivals, 1, 4, NOW)
    began, served = {}, {}

    def decide():
        if cluster.now == 1:
            cluster.scale_to(Role.DECODE, 3)  # an idle one: it is gone at once
        if cluster.now == 10:
            cluster.flip(Role.DECODE, 1)
            cluster.scale_to(Role.PREFILL, 2)
            cluster.scale_to(Role.DECODE, 2)
        for worker in cluster.workers[Role.PREFILL]:
            began.setdefault(worker, cluster.now)
            if worker.phase is Phase.SERVING:
                served.setdefault(worker, cluster.now)
        return 1.0

    cluster.run(decide)
    assert sorted(began.values()) == [0.0, 10.0]
    assert sorted(served.values()) == [0.0, 10.0 + 6.0 + 5.0]
    assert cluster.flips == 1
    assert cluster.drain_seconds() == {"decode": 6.0}


def test_a_flip_takes_a_worker_that_drains_already_and_leaves_those_that_serve(model):
    cluster = Cluster(model, trace([0.0] * 6, 100, 3000), 1, 3, NOW)
    serving = []

    def decide():
        if cluster.now == 2:
            cluster.scale_to(Role.DECODE, 2)
        if cluster.now == 4:
            cluster.flip(Role.DECODE, 1)
            cluster.scale_to(Role.PREFILL, 2)
            serving.append([len(cluster.serving[role]) for role in Role])
        return 1.0

    cluster.run(decide)
    assert serving == [[1, 2]]
    assert cluster.flips == 1
    assert cluster.finished == 6


def test_a_worker_without_a_gpu_waits_free_of_charge_and_can_be_cancelled(model, poisson):
    cluster = Cluster(model, poisson(5, 1000), 1, 1, replace(NOW, gpu_limit=2))

    def decide():
        cluster.scale_to(Role.PREFILL, 3 if cluster.now < 60 else 1)
        if cluster.now == 30:
            assert cluster.count(Role.PREFILL, Phase.PENDING) == 2
        return 30.0

    cluster.run(decide)
    assert cluster.gpu_seconds == pytest.approx(2 * cluster.trace.duration_seconds)
    assert cluster.count(Role.PREFILL, Phase.PENDING) == 0


def test_a_role_without_any_worker_is_an_error_that_says_so(model):
    with pytest.raises(RuntimeError, match="1 requests can not finish"):
        Cluster(model, trace([0.0], 10, 2), 1, 0, NOW).run()


def test_what_comes_before_the_counted_part_is_served_and_counts_in_no_figure(model):
    crowd, rest = [0.0] * 40, [100.0, 130.0, 160.0]
    arrivals, objectives = trace(crowd + rest, 1000, 11), Objectives(model.prefill_seconds(1000) * 1.1, 1.0)
    whole = run(arrivals, model, objectives, (1, 1), NOW)
    counted = run(arrivals, model, objectives, (1, 1), replace(NOW, counted_from_seconds=60.0))
    assert whole.attainment < 0.2
    assert counted.attainment == 1.0
    assert counted.gpu_hours * 3600 == pytest.approx(2 * 100)
