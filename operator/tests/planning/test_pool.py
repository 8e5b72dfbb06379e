"""One pool on its way to its target: what must hold at every step, whatever happens in between."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dopd.planning.pool import PoolStep, Worker, admit_growth, available, pool_step

NOW, DEADLINE = 1000.0, 60.0


def worker(name: str, **changes: object) -> Worker:
    serving = Worker(name, labelled=True, ready=True, scheduled=True, created_seconds=0.0, registered=True, idle=False)
    return replace(serving, **changes)


def drained(name: str, **changes: object) -> Worker:
    return worker(name, labelled=False, draining_since_seconds=NOW - 1, registered=False, idle=True, **changes)


def step(workers: list[Worker], target: int, *, rolling: bool = False) -> PoolStep:
    return pool_step(workers, target, rolling=rolling, now_seconds=NOW, drain_deadline_seconds=DEADLINE)


def test_a_pool_at_its_target_is_left_alone():
    assert step([worker("a"), worker("b")], 2) == PoolStep((), (), (), 2)


def test_growth_only_raises_replicas():
    assert step([worker("a")], 3) == PoolStep((), (), (), 3)


def test_the_least_loaded_worker_loses_its_label_and_stays_until_it_is_idle():
    taken = step([worker("busy", load=5), worker("calm", load=1)], 1)
    assert taken == PoolStep(serve=(), drain=("calm",), release=(), replicas=2)
    still_listed = worker("calm", labelled=False, draining_since_seconds=NOW - 1)
    assert step([worker("busy"), still_listed], 1).replicas == 2
    gone_from_gateway = replace(still_listed, registered=False)
    assert step([worker("busy"), gone_from_gateway], 1).replicas == 2
    idle = replace(gone_from_gateway, idle=True)
    assert step([worker("busy"), idle], 1) == PoolStep((), (), ("calm",), 1)


def test_an_engine_that_does_not_answer_is_not_taken_for_idle():
    silent = worker("b", labelled=False, draining_since_seconds=NOW - 1, registered=False, idle=None)
    assert step([worker("a"), silent], 1).release == ()


def test_a_gateway_that_does_not_answer_holds_the_release():
    unknown = worker("b", labelled=False, draining_since_seconds=NOW - 1, registered=None, idle=True)
    assert step([worker("a"), unknown], 1).release == ()


def test_the_deadline_releases_a_busy_worker():
    stuck = worker("b", labelled=False, draining_since_seconds=NOW - DEADLINE)
    assert step([worker("a"), stuck], 1).release == ("b",)


def test_a_start_is_cancelled_before_a_serving_worker_is_drained():
    pending = worker("new", ready=False, scheduled=False, registered=False, idle=None)
    assert step([worker("a"), worker("b"), pending], 2).drain == ("new",)
    cancelled = replace(pending, labelled=False, draining_since_seconds=NOW - 1)
    assert step([worker("a"), worker("b"), cancelled], 2) == PoolStep((), (), ("new",), 2)


def test_a_drained_worker_serves_again_before_a_new_one_is_started():
    assert step([worker("a"), drained("b")], 2) == PoolStep(("b",), (), (), 2)


def test_a_worker_that_the_gateway_still_drains_is_not_labelled_again():
    draining = worker("b", labelled=False, draining_since_seconds=NOW - 1, registered=True)
    assert step([worker("a"), draining], 2) == PoolStep((), (), (), 3)


def test_a_rollout_is_the_deployments_affair():
    surge = [worker("old"), worker("new", ready=False, registered=False, idle=None)]
    assert step(surge, 1, rolling=True) == PoolStep((), (), (), 1)


workers = st.builds(
    Worker,
    name=st.just(""),
    labelled=st.booleans(),
    ready=st.booleans(),
    scheduled=st.booleans(),
    created_seconds=st.floats(0, NOW),
    draining_since_seconds=st.none() | st.floats(0, NOW),
    registered=st.none() | st.booleans(),
    idle=st.none() | st.booleans(),
    load=st.floats(0, 100),
).map(lambda w: replace(w, draining_since_seconds=None) if w.labelled else w)
pools = st.lists(workers, max_size=8).map(lambda ws: [replace(w, name=f"w{i}") for i, w in enumerate(ws)])


@given(pools, st.integers(0, 8))
def test_invariants_of_a_step(pool: list[Worker], target: int):
    taken = step(pool, target)
    by_name = {w.name: w for w in pool}
    assert taken.replicas >= target, "never below the target"
    assert set(taken.drain).isdisjoint(taken.serve)
    assert all(by_name[name].labelled for name in taken.drain)
    assert all(not by_name[name].labelled for name in (*taken.serve, *taken.release))
    serving = [w for w in pool if w.labelled and w.ready]
    dropped = [w for w in serving if w.name in taken.drain]
    assert len(serving) - len(dropped) >= min(target, len(serving)), "no serving worker is dropped while it is needed"
    if dropped:
        kept = [w for w in serving if w.name not in taken.drain]
        assert all(w.load >= max(d.load for d in dropped) for w in kept), "the least loaded go"
    for name in taken.release:
        w = by_name[name]
        since = w.draining_since_seconds
        overdue = since is not None and NOW - since >= DEADLINE
        assert overdue or (w.registered is False and (w.idle or not w.ready))


@given(pools, st.integers(0, 8))
def test_the_next_look_finds_nothing_more_to_label(pool: list[Worker], target: int):
    first = step(pool, target)
    settled = [
        replace(w, labelled=True, draining_since_seconds=None)
        if w.name in first.serve
        else replace(w, labelled=False, draining_since_seconds=NOW)
        if w.name in first.drain
        else w
        for w in pool
    ]
    again = step(settled, target)
    assert again.drain == ()


roles = st.tuples(st.integers(0, 20), st.integers(0, 20))


@given(roles, roles, roles, st.tuples(st.integers(1, 8), st.integers(1, 8)), st.integers(1, 100))
def test_growth_never_takes_the_sum_over_the_budget(targets, extra, usable, gpus, budget):
    present = (usable[0] + extra[0], usable[1] + extra[1])
    admitted = admit_growth(targets, usable, present, gpus, budget)
    grown = tuple(max(0, a - u) for a, u in zip(admitted, usable, strict=True))
    held = sum(n * g for n, g in zip(present, gpus, strict=True))
    assert all(a <= t for a, t in zip(admitted, targets, strict=True))
    assert held + sum(n * g for n, g in zip(grown, gpus, strict=True)) <= max(budget, held)


def test_a_rebalance_shrinks_first_and_grows_when_the_gpus_are_free():
    assert admit_growth((1, 3), (2, 2), (2, 2), (1, 1), 4) == (1, 2)
    assert admit_growth((1, 3), (1, 2), (2, 2), (1, 1), 4) == (1, 2), "the draining worker still holds its GPU"
    assert admit_growth((1, 3), (1, 2), (1, 2), (1, 1), 4) == (1, 3)


def test_available_workers_are_those_that_serve_or_can_at_once():
    draining = worker("c", labelled=False, registered=True)
    assert available([worker("a"), drained("b"), draining]) == 2
