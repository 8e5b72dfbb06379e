from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dopd.api.names import Role
from dopd.planning import Objectives
from dopd.replay.cluster import Cluster
from dopd.replay.policies import catalogue, static
from dopd.replay.policies.base import Setting
from dopd.replay.prefill_queue import FirstCome, Prompts
from dopd.replay.prefix_cache import BLOCK_TOKENS, PrefixCache, Prefixes, PrefixIndex
from dopd.replay.runner import run, with_uncached_tokens
from dopd.replay.telemetry import Telemetry
from dopd.replay.trace import Trace, load
from dopd.replay.workers import Dialect, PrefillWorker, Routing, Settings

NOW = Settings(startup_seconds={Role.PREFILL: 60.0, Role.DECODE: 60.0})
CHAINS = st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=30)


def prefixes(*chains):
    return Prefixes(
        np.array([block for chain in chains for block in chain], dtype=np.int64),
        np.cumsum([0, *map(len, chains)]),
    )


def trace(arrivals, inputs, *chains):
    count = len(arrivals)
    return Trace(
        "t",
        np.array(arrivals, dtype=float),
        np.broadcast_to(np.array(inputs), (count,)).astype(np.int64),
        np.full(count, 2),
        "requests",
        prefixes(*chains) if chains else None,
    )


def as_ids(chain, known):
    """Ids of a chain of contents: equal ids, equal prefixes."""
    return [known.setdefault(tuple(chain[: end + 1]), len(known)) for end in range(len(chain))]


# --- the cache of a worker ------------------------------------------------------------------------------------------


def test_only_leading_blocks_hit():
    cache = PrefixCache(10 * BLOCK_TOKENS)
    cache.use([1, 2, 3])
    assert cache.held([1, 2, 3, 4]) == 3
    assert cache.held([1, 9, 3]) == 1
    assert cache.held([9, 2, 3]) == 0


def test_the_least_recently_used_end_of_a_chain_goes_first():
    cache = PrefixCache(4 * BLOCK_TOKENS)
    cache.use([1, 2, 3])
    cache.use([7])
    cache.use([1])
    cache.use([8])
    assert [cache.held(chain) for chain in ([1, 2, 3], [7], [8])] == [2, 1, 1]


def test_a_prompt_greater_than_the_cache_leaves_its_beginning():
    cache = PrefixCache(2 * BLOCK_TOKENS + 5)
    cache.use([1, 2, 3])
    assert cache.held([1, 2, 3]) == 2


@given(chains=CHAINS, most=st.integers(0, 8))
def test_no_block_is_held_without_those_before_it(chains, most):
    cache, known = PrefixCache(most * BLOCK_TOKENS), {}
    for chain in chains:
        cache.use(as_ids(chain, known))
        assert len(cache) <= most
        before = {block: chain[:-1] for chain, block in known.items()}
        for block, parent in before.items():
            if cache.held([block]) and parent:
                assert cache.held([known[parent]])


# --- the trace ------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "trace.csv"
    rows = ["0,1100,5,5 6 7", "1,1536,5,5 8 9", "2,600,5,5 10"]
    path.write_text("\n".join(["arrival_s,input_tokens,output_tokens,hash_ids", *rows]))
    return path


def test_the_part_of_a_block_at_the_end_of_a_prompt_is_not_shared(path):
    blocks = [load(path).prefixes.of(request) for request in range(3)]
    assert [len(chain) for chain in blocks] == [2, 3, 1]
    assert len({chain[0] for chain in blocks}) == 1
    assert len({block for chain in blocks for block in chain}) == 4


def test_copies_share_only_what_every_prompt_begins_with(path):
    copies = load(path, rate_scale=3)
    chains = [tuple(copies.prefixes.of(request)) for request in range(len(copies))]
    assert [len(chain) for chain in chains] == (copies.input_tokens // BLOCK_TOKENS).tolist()
    assert len({chain[0] for chain in chains}) == 1
    rest = [block for chain in chains for block in chain[1:]]
    assert len(set(rest)) == len(rest) == 9


def test_a_part_of_a_trace_keeps_the_prefixes_of_its_requests(path):
    whole = load(path)
    assert whole.between(0.5, 9).prefixes.of(1) == whole.prefixes.of(2)


def test_ids_that_are_no_numbers_are_refused_by_their_line(path):
    path.write_text(path.read_text().replace("5 8 9", "5 x 9"))
    with pytest.raises(ValueError, match=r"line 3: hash_ids '5 x 9'; expected whole numbers"):
        load(path)


# --- the cluster ----------------------------------------------------------------------------------------------------


def test_a_cached_prefix_is_attended_to_and_not_computed(model):
    convex = replace(model, prefill_curve=((1.0, 0.010025), (8000.0, 0.210), (16000.0, 0.500)))
    cluster = Cluster(convex, trace([0.0, 10.0], 2000, [1, 2, 3], [1, 2, 4]), 1, 1, NOW)
    cluster.run()
    start = 2 * BLOCK_TOKENS
    assert cluster.uncached_tokens == [2000, 2000 - start]
    expected = convex.prefill_pass_seconds(2000 - start, 2000**2 - start**2)
    assert cluster.ttft_seconds[1] == pytest.approx(expected)


def test_a_prompt_that_is_cached_whole_computes_one_token(model):
    cluster = Cluster(model, trace([0.0, 10.0], 1024, [1, 2], [1, 2]), 1, 1, NOW)
    cluster.run()
    assert cluster.uncached_tokens == [1024, 1]


def test_prompts_of_one_pass_share_nothing_yet_and_those_that_wait_do(model):
    cluster = Cluster(model, trace([0.0, 0.001, 0.002], 8192, *[list(range(16))] * 3), 1, 1, NOW)
    seen = []
    cluster.run(lambda: seen.append(cluster.serving[Role.PREFILL][0].waiting_tokens) or 0.0015)
    assert cluster.uncached_tokens == [8192, 1, 1]
    assert seen[2] == 2 * 8192, "nothing is cached when they arrive"
    assert seen[-1] == 0


def test_a_new_worker_is_cold_and_one_that_is_gone_has_lost_its_cache(model):
    cluster = Cluster(model, trace([0.0, 100.0, 200.0, 210.0], 1024, *[[1, 2]] * 4), 1, 1, NOW)

    def decide():
        cluster.scale_to(Role.PREFILL, 1 if cluster.now != 110 else 0)
        return 10.0

    cluster.run(decide)
    assert cluster.uncached_tokens == [1024, 1, 1024, 1]


def test_a_small_cache_forgets(model):
    small = replace(model, kv_tokens=3 * BLOCK_TOKENS)
    cluster = Cluster(small, trace([0.0, 10.0, 20.0], 1024, [1, 2], [3, 4], [1, 2]), 1, 1, NOW)
    cluster.run()
    assert cluster.uncached_tokens == [1024, 1024, 1024 - BLOCK_TOKENS]


def test_prefixes_that_nobody_shares_change_no_result(model, poisson):
    plain = poisson(40, 2000, inputs=lambda g, n: g.integers(1, 4000, n), outputs=20)
    blocks = plain.input_tokens // BLOCK_TOKENS
    offsets = np.concatenate(([0], np.cumsum(blocks)))
    told = replace(plain, prefixes=Prefixes(np.arange(offsets[-1]), offsets))
    results = []
    for each in (plain, told):
        cluster = Cluster(model, each, 2, 2, NOW)
        cluster.run()
        results.append((cluster.ttft_seconds, cluster.itl_seconds, cluster.gpu_seconds))
    assert results[0] == results[1]


@settings(max_examples=30, deadline=None)
@given(
    data=st.lists(
        st.tuples(st.floats(0, 100), st.integers(0, 511), st.lists(st.integers(0, 1), max_size=20)), min_size=1
    ),
    moves=st.lists(st.integers(1, 4), max_size=8),
    routing=st.sampled_from(list(Routing)),
    dialect=st.sampled_from(list(Dialect)),
)
def test_every_token_is_cached_or_computed_whatever_the_scaling(model, data, moves, routing, dialect):
    data.sort(key=lambda row: row[0])
    known = {}
    chains = [as_ids(chain, known) for _, _, chain in data]
    inputs = [max(1, len(chain) * BLOCK_TOKENS + rest) for _, rest, chain in data]
    small = replace(model, kv_tokens=30 * BLOCK_TOKENS)
    chosen = replace(NOW, routing=routing, dialect=dialect, return_seconds=10.0)
    cluster = Cluster(small, trace([at for at, _, _ in data], inputs, *chains), 2, 1, chosen)
    plan, workers = iter(moves), {*cluster.workers[Role.PREFILL]}

    def decide():
        cluster.scale_to(Role.PREFILL, next(plan, 1))
        workers.update(cluster.workers[Role.PREFILL])
        return 15.0

    cluster.run(decide)
    assert cluster.finished == len(data)
    assert cluster.prefilled_tokens == sum(inputs)
    assert cluster.computed_tokens == sum(cluster.uncached_tokens)
    assert all(1 <= uncached <= tokens for uncached, tokens in zip(cluster.uncached_tokens, inputs, strict=True))
    assert all(worker.waiting_tokens == 0 and not worker.queue for worker in workers)


# --- the gateway ----------------------------------------------------------------------------------------------------


def workers(*loads):
    caches = [PrefixCache(100 * BLOCK_TOKENS) for _ in loads]
    made = [PrefillWorker(FirstCome(Prompts([], [], None, []), cache), cache) for cache in caches]
    for worker, load_ in zip(made, loads, strict=True):
        worker.assigned = load_
    return made


def test_a_prompt_follows_its_prefix_and_a_strange_one_goes_to_the_least_loaded():
    index, serving = PrefixIndex(), workers(2, 0, 1)
    assert index.choose([1, 2, 3], 1536, serving) is serving[1]
    serving[1].assigned = 3
    assert index.choose([1, 2, 4], 1536, serving) is serving[1]
    assert index.choose([5, 6, 7], 1536, serving) is serving[2]


def test_a_match_of_a_small_part_of_the_prompt_does_not_count():
    index, serving = PrefixIndex(), workers(0, 0)
    first = index.choose([1, 2], 1024, serving)
    first.assigned = 1
    assert index.choose([1, 2, *range(10, 20)], 12 * BLOCK_TOKENS, serving) is not first


def test_a_worker_far_above_the_mean_is_passed_over():
    index, serving = PrefixIndex(), workers(0, 3, 3, 3)
    first = index.choose([1, 2], 1024, serving)
    first.assigned = 8  # mean 4.25, of which a deviation of two is 4.1
    assert index.choose([1, 2], 1024, serving) is first
    first.assigned = 9
    second = index.choose([1, 2], 1024, serving)
    assert second is not first
    first.assigned = 2
    assert index.choose([1, 2], 1024, serving) is first, "both hold it now"


def test_a_worker_that_serves_no_more_is_not_chosen():
    index, serving = PrefixIndex(), workers(0, 5)
    first = index.choose([1, 2], 1024, serving)
    assert index.choose([1, 2], 1024, [worker for worker in serving if worker is not first]) is not first


def test_an_index_forgets_beyond_its_size():
    index, serving = PrefixIndex(most_blocks=2), workers(0, 5)
    index.choose([1, 2], 1024, serving)
    index.choose([3, 4], 1024, serving)
    serving[0].assigned = 6
    assert index.choose([1, 2], 1024, serving) is serving[1]


def test_routing_that_knows_prefixes_computes_less_than_a_choice_by_load(model):
    turns = [list(range(10 * user, 10 * user + 4)) for user in range(8)] * 12
    arrivals = trace(np.arange(len(turns)) * 0.4, 4 * BLOCK_TOKENS, *turns)
    shares = {}
    for routing in (Routing.POWER_OF_TWO, Routing.CACHE_AWARE, Routing.LEAST_WORK):
        cluster = Cluster(replace(model, kv_tokens=40 * BLOCK_TOKENS), arrivals, 4, 1, replace(NOW, routing=routing))
        cluster.run()
        shares[routing] = cluster.computed_tokens / cluster.prefilled_tokens
    assert shares[Routing.CACHE_AWARE] < 0.7 * shares[Routing.POWER_OF_TWO]
    assert shares[Routing.LEAST_WORK] < 0.7 * shares[Routing.POWER_OF_TWO]


# --- what policies see ----------------------------------------------------------------------------------------------


def test_policies_see_the_share_that_was_computed(model):
    arrivals = trace(np.arange(0.0, 100.0), 1024, *[[1, 2]] * 100)
    cluster = Cluster(model, arrivals, 1, 1, NOW)
    telemetry, seen = Telemetry(cluster), {}

    def decide():
        telemetry.scrape()
        seen[cluster.now] = telemetry.demand(20.0)
        return 5.0

    cluster.run(decide)
    assert seen[0.0].uncached_share == 1.0
    assert seen[15.0].uncached_share == pytest.approx((1024 + 9) / (10 * 1024))
    assert seen[50.0].uncached_tokens == pytest.approx(1.0)
    assert seen[50.0].input_tokens == 1024


def test_hindsight_sizes_with_what_a_first_replay_computed_and_reaches_the_objective(model, poisson):
    plain = poisson(60, 3000, inputs=2048, outputs=20)
    chains = [[4 * (request % 20) + block for block in range(4)] for request in range(3000)]
    told = replace(plain, prefixes=prefixes(*chains))
    setting = Setting(model, Objectives(1.5, 0.05, 0.99), 60.0)
    hindsight = with_uncached_tokens(told, model, static.peak(setting, told), NOW)
    assert static.peak(setting, hindsight)[0] < static.peak(setting, told)[0]
    tries = list(catalogue.search("static-peak", setting, hindsight))
    assert [attempt.label for attempt in tries] == ["load x 1", "load x 1.15", "load x 1.3", "load x 1.5"]
    best = max(run(hindsight, model, setting.objectives, attempt.start, NOW).attainment for attempt in tries)
    assert best >= setting.objectives.attainment
