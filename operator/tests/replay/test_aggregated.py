"""Engines that do prefill and decode both, against a simulation of each single pass."""

import math
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dopd.api.names import Role
from dopd.replay.aggregated import AggregatedCluster
from dopd.replay.pass_times import PassTimes
from dopd.replay.prefix_cache import BLOCK_TOKENS, Prefixes
from dopd.replay.trace import Trace
from dopd.replay.workers import Routing, Settings
from dopd_scheduling import ORDERS

SETTINGS = Settings(startup_seconds=dict.fromkeys(Role, 60.0), gpus=dict.fromkeys(Role, 2))


def trace(arrivals, inputs, outputs, prefixes=None):
    count = len(arrivals)
    lengths = [np.broadcast_to(np.array(tokens), (count,)).astype(np.int64) for tokens in (inputs, outputs)]
    return Trace("t", np.array(arrivals, dtype=float), *lengths, "requests", prefixes)


def serve(model, load, engines=1, mixed=False, chunk=None, chosen=SETTINGS):
    cluster = AggregatedCluster(model, PassTimes(model, chunk), load, engines, chosen, mixed)
    cluster.run()
    return cluster


def one_pass_at_a_time(model, load, engines, mixed, chunk):
    """The same engines by brute force: every pass is looked at, every token of every answer is made one by one."""
    times = PassTimes(model, chunk)
    count = len(load)
    first, whole = [math.nan] * count, [math.nan] * count
    waiting = [deque() for _ in range(engines)]
    running = [[] for _ in range(engines)]  # of each answer [request, tokens that it has]
    done = [0] * engines  # tokens of the first prompt
    free_at = [0.0] * engines
    current = [None] * engines  # (prompts that it completes, answers that get a token)
    arrivals = deque(zip(load.arrival_seconds.tolist(), range(count), strict=True))
    inputs, outputs = load.input_tokens.tolist(), load.output_tokens.tolist()

    def in_flight(e):
        return len(waiting[e]) + len(running[e]) + (len(current[e][0]) if current[e] else 0)

    def begin(e, now):
        room = chunk - (len(running[e]) if mixed else 0)
        completes, tokens, attended = [], 0, 0
        while waiting[e] and tokens < room:
            request = waiting[e][0]
            admitted = [r for r, _ in running[e]] + completes
            needed = sum(inputs[r] + outputs[r] for r in [*admitted, request])
            full = len(admitted) >= model.max_running_requests or needed > model.kv_tokens
            if not done[e] and admitted and full:
                break
            piece = min(inputs[request] - done[e], room - tokens)
            attended += (done[e] + piece) ** 2 - done[e] ** 2
            tokens += piece
            done[e] += piece
            if done[e] == inputs[request]:
                completes.append(waiting[e].popleft())
                done[e] = 0
        n = len(running[e])
        context = sum(inputs[r] + made for r, made in running[e]) / n if n else 0.0
        if tokens and mixed and n:
            free_at[e] = now + times.mixed_seconds(tokens, attended, n, context)
            current[e] = (completes, True)
        elif tokens:
            free_at[e] = now + times.prefill_seconds(tokens, attended)
            current[e] = (completes, False)
        elif n:
            free_at[e] = now + times.decode_seconds(n, context)
            current[e] = ([], True)

    def end(e, now):
        completes, step = current[e]
        current[e] = None
        if step:
            for answer in running[e]:
                answer[1] += 1
                if answer[1] == outputs[answer[0]] - 1:
                    whole[answer[0]] = (now - first[answer[0]]) / answer[1]
            running[e] = [answer for answer in running[e] if answer[1] < outputs[answer[0]] - 1]
        for request in completes:
            first[request] = now
            if outputs[request] == 1:
                whole[request] = 0.0
            else:
                running[e].append([request, 0])

    while arrivals or any(current):
        busy = [e for e in range(engines) if current[e]]
        soonest = min(busy, key=lambda e: free_at[e], default=None)
        if arrivals and (soonest is None or arrivals[0][0] <= free_at[soonest]):
            now, request = arrivals.popleft()
            e = min(range(engines), key=in_flight)
            waiting[e].append(request)
            if not current[e]:
                begin(e, now)
        else:
            now = free_at[soonest]
            end(soonest, now)
            begin(soonest, now)
    return [at - arrived for at, arrived in zip(first, load.arrival_seconds.tolist(), strict=True)], whole


@settings(max_examples=150, deadline=None)
@given(
    data=st.lists(
        st.tuples(st.floats(0, 2, width=32), st.integers(1, 900), st.integers(1, 40)), min_size=1, max_size=25
    ),
    engines=st.integers(1, 3),
    mixed=st.booleans(),
    chunk=st.sampled_from([64, 256, 1024]),
    kv_tokens=st.sampled_from([1000, 3000, 100_000]),
    most=st.sampled_from([3, 16]),
)
def test_each_pass_ends_when_it_would_if_all_were_simulated_one_by_one(
    model, data, engines, mixed, chunk, kv_tokens, most
):
    """With a context that steps grow longer with, across points of the profile."""
    data.sort()
    load = trace(*zip(*data, strict=True))
    curves = ((100.0, ((1.0, 0.005), (16.0, 0.009))), (400.0, ((1.0, 0.006), (16.0, 0.02))))
    engine = replace(model, itl_curves=curves, kv_tokens=kv_tokens, max_running_requests=most)
    fast = serve(engine, load, engines, mixed, chunk)
    ttft, itl = one_pass_at_a_time(engine, load, engines, mixed, chunk)
    assert fast.ttft_seconds == pytest.approx(ttft, abs=1e-9)
    assert fast.itl_seconds == pytest.approx(itl, abs=1e-9)


def test_a_prompt_stalls_the_answers_by_default_and_slows_them_down_where_passes_are_mixed(model):
    load = trace([0.0, 0.5], [100, 8000], [201, 1])
    alone = serve(model, trace([0.0], [100], [201])).itl_seconds[0]
    stalled, mixed = serve(model, load).itl_seconds[0], serve(model, load, mixed=True).itl_seconds[0]
    assert stalled == pytest.approx(alone + model.prefill_seconds(8000) / 200)
    assert alone < mixed < stalled


def test_small_chunks_spare_the_answers_and_delay_the_prompt_where_passes_are_mixed(model):
    load = trace([0.0, 0.0, 0.5], [100, 100, 8000], [11, 201, 2])
    small, large = (serve(model, load, mixed=True, chunk=chunk) for chunk in (500, 8192))
    assert small.itl_seconds[1] > large.itl_seconds[1]  # more passes, each with its fixed time
    assert small.ttft_seconds[2] > large.ttft_seconds[2]


def test_nothing_is_transferred_and_gpus_count_for_the_part_that_counts(model):
    far = replace(model, transfer_base_seconds=10.0)
    cluster = serve(far, trace([0.0, 100.0], 1000, 2), engines=3, chosen=replace(SETTINGS, counted_from_seconds=40.0))
    assert cluster.ttft_seconds[0] == pytest.approx(far.prefill_seconds(1000))
    assert cluster.gpu_seconds == pytest.approx(3 * 2 * 60)


@pytest.mark.parametrize("routing", list(Routing))
@pytest.mark.parametrize("order", list(ORDERS))
@pytest.mark.parametrize("mixed", [False, True])
def test_every_request_is_answered_whatever_the_routing_and_the_order(model, poisson, routing, order, mixed):
    load = poisson(40, 300, inputs=lambda g, n: g.integers(1, 3000, n), outputs=lambda g, n: g.integers(1, 200, n))
    cluster = serve(model, load, 3, mixed, chosen=replace(SETTINGS, routing=routing, order=order))
    assert min(cluster.ttft_seconds) > 0
    assert not np.isnan(cluster.itl_seconds).any()


def test_a_prefix_that_the_engine_holds_is_not_computed_again(model):
    tokens = 4 * BLOCK_TOKENS
    prefixes = Prefixes.of_blocks(np.array([1, 2, 3, 4] * 2), np.array([4, 4]), np.array([tokens, tokens]))
    cluster = serve(model, trace([0.0, 5.0], tokens, 2, prefixes))
    assert cluster.ttft_seconds[1] < cluster.ttft_seconds[0] / 2
    assert cluster.prefilled_tokens - cluster.computed_tokens == tokens - 1
