"""One pool on its way to its target: what must hold at every step, whatever happens in between."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dopd.api.names import Role
from dopd.rollout import Goal, PoolStep, Side, Worker, available, move, pool_step

NOW, DEADLINE = 1000.0, 60.0


def worker(name: str, **changes: object) -> Worker:
    serving = Worker(name, labelled=True, ready=True, scheduled=True, created_seconds=0.0, registered=True, idle=False)
    return replace(serving, **changes)


def drained(name: str, **changes: object) -> Worker:
    return worker(name, labelled=False, draining_since_seconds=NOW - 1, registered=False, idle=True, **changes)


def step(workers: list[Worker], target: int, **goal: object) -> PoolStep:
    return pool_step(workers, Goal(target, **goal), now_seconds=NOW, drain_deadline_seconds=DEADLINE)


def test_a_pool_at_its_target_is_left_alone():
    assert step([worker("a"), worker("b")], 2) == PoolStep()


def test_growth_starts_what_is_missing():
    assert step([worker("a")], 3) == PoolStep(create=2)


def test_the_least_loaded_worker_loses_its_label_and_stays_until_it_is_idle():
    taken = step([worker("busy", load=5), worker("calm", load=1)], 1)
    assert taken == PoolStep(drain=("calm",))
    still_listed = worker("calm", labelled=False, draining_since_seconds=NOW - 1)
    assert step([worker("busy"), still_listed], 1) == PoolStep()
    gone_from_gateway = replace(still_listed, registered=False)
    assert step([worker("busy"), gone_from_gateway], 1) == PoolStep()
    idle = replace(gone_from_gateway, idle=True)
    assert step([worker("busy"), idle], 1) == PoolStep(release=("calm",))


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
    assert step([worker("a"), worker("b"), cancelled], 2) == PoolStep(release=("new",))


def test_a_drained_worker_serves_again_before_a_new_one_is_started():
    assert step([worker("a"), drained("b")], 2) == PoolStep(serve=("b",))


def test_a_worker_that_the_gateway_still_drains_is_not_labelled_again():
    draining = worker("b", labelled=False, draining_since_seconds=NOW - 1, registered=True)
    assert step([worker("a"), draining], 2) == PoolStep(create=1)


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
    alive = [w for w in pool if w.labelled or w.registered is False]
    assert min(len(alive), target) + taken.create == target, "never below the target"
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


def test_a_rebalance_shrinks_first_and_grows_when_the_gpus_are_free():
    def starts(prefill: list[Worker], leaving: list[Worker]) -> tuple[int, int]:
        sides = {
            Role.PREFILL: Side(prefill, Goal(1), leaving),
            Role.DECODE: Side([worker("c"), worker("d")], Goal(3)),
        }
        steps = move(sides, 4, now_seconds=NOW, drain_deadline_seconds=DEADLINE)
        return steps[Role.PREFILL].create, steps[Role.DECODE].create

    assert starts([worker("a"), worker("b")], []) == (0, 0)
    assert starts([worker("a"), drained("b")], []) == (0, 0), "the draining worker still holds its GPU"
    assert starts([worker("a")], [worker("b")]) == (0, 0), "so does one that is being deleted"
    assert starts([worker("a")], []) == (0, 1)


def test_of_few_free_gpus_the_role_that_is_furthest_from_its_target_gets_the_first():
    sides = {Role.PREFILL: Side([worker("a")], Goal(2)), Role.DECODE: Side([worker("b")], Goal(4))}
    steps = move(sides, 3, now_seconds=NOW, drain_deadline_seconds=DEADLINE)
    assert (steps[Role.PREFILL].create, steps[Role.DECODE].create) == (0, 1)


def test_a_worker_of_an_old_revision_counts_with_its_own_gpus():
    sides = {
        Role.PREFILL: Side([worker("a", gpus=4)], Goal(1, "new"), gpus=2),
        Role.DECODE: Side([worker("b")], Goal(1)),
    }
    grown = {**sides, Role.PREFILL: replace(sides[Role.PREFILL], goal=Goal(1, "new", surge=1))}
    assert move(grown, 6, now_seconds=NOW, drain_deadline_seconds=DEADLINE)[Role.PREFILL].create == 0
    assert move(grown, 7, now_seconds=NOW, drain_deadline_seconds=DEADLINE)[Role.PREFILL].create == 1


def test_a_rollout_takes_no_worker_while_the_gateways_do_not_answer():
    silent = [worker("a", revision="old", registered=None), worker("b", revision="old", registered=None)]
    assert step(silent, 2, revision="new", surge=0) == PoolStep()


def test_a_rollout_keeps_the_worker_that_no_gateway_lists_only_while_it_is_needed():
    unlisted = worker("a", revision="old", registered=False)
    assert step([unlisted], 1, revision="new").drain == ()
    assert step([unlisted, worker("b", revision="new")], 1, revision="new").drain == ("a",)


def test_an_old_worker_that_is_drained_already_comes_back_where_too_few_serve():
    assert step([drained("a", revision="old")], 1, revision="new", surge=1) == PoolStep(serve=("a",), create=1)


def test_a_worker_without_a_node_is_given_back_and_not_started_anew_at_once():
    pending = worker("b", ready=False, scheduled=False, registered=False, created_seconds=NOW - 100)
    given = step([worker("a"), pending], 2, pending_deadline_seconds=60.0)
    assert (given.drain, given.give_back) == (("b",), ("b",))
    assert step([worker("a")], 2, may_start=False) == PoolStep()


def test_available_workers_are_those_that_serve_or_can_at_once():
    draining = worker("c", labelled=False, registered=True)
    assert available([worker("a"), drained("b"), draining]) == 2


def test_a_start_that_a_queue_has_not_let_in_is_not_given_back():
    """The next one would begin at the end of the queue. One that is not wanted any more goes first."""
    queued = worker("queued", ready=False, scheduled=False, registered=False, gated=True)
    assert step([worker("a"), queued], 2, pending_deadline_seconds=60.0) == PoolStep()
    assert step([worker("a"), queued], 1, pending_deadline_seconds=60.0).drain == ("queued",)


def test_a_role_with_a_limit_of_its_own_starts_no_more_than_that_holds():
    sides = {
        Role.PREFILL: Side([worker("p", gpus=2)], Goal(3), gpus=2, most_gpus=4),
        Role.DECODE: Side([worker("d")], Goal(3), most_gpus=2),
    }
    steps = move(sides, None, now_seconds=NOW, drain_deadline_seconds=DEADLINE)
    assert {role: taken.create for role, taken in steps.items()} == {Role.PREFILL: 1, Role.DECODE: 1}
