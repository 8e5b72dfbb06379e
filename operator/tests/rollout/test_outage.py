"""Where an outage is accepted a rollout goes on with every GPU in use: within the cap, by drains, if it must."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .cluster import DEADLINE
from .domain_cluster import DomainCluster
from .paired_cluster import PairedCluster, PairWant

SETTLE_TICKS = 200
counts = st.integers(1, 3)
wants = st.builds(
    PairWant,
    prefill=counts,
    decode=counts,
    revision=st.sampled_from("abc"),
    decode_revision=st.sampled_from(["", "a", "b"]),
    surge=st.integers(0, 1),
    max_unavailable=st.integers(1, 2),
    fewest=st.just(0),
    gateways=st.integers(1, 2),
)


def answers(cluster: PairedCluster) -> bool:
    return any(gateway.ready for gateway in cluster.seen_gateways())


def checked_tick(cluster: PairedCluster, want: PairWant, writes: int | None = None) -> int:
    """One pass and what must hold after it; the number of its writes."""
    before, at_work = answers(cluster), {pod.name for pod in cluster.pods if pod.requests and pod.deleted_at is None}
    sent = cluster.tick(want, writes)
    last = "\n".join(cluster.lines[-4:])
    assert cluster.budget is None or cluster.held() <= cluster.budget, f"over the cap\n{last}"
    for pod in cluster.pods:
        waited = cluster.now - (cluster.now if pod.drained_at is None else pod.drained_at)
        if pod.deleted_at == cluster.now - 1 and pod.name in at_work:
            assert waited > DEADLINE, f"{pod.name} is deleted with what it had accepted\n{last}"
    assert writes is not None or answers(cluster) or not before or cluster.outage, f"nobody serves, untold\n{last}"
    return sent


def settle(cluster: PairedCluster, want: PairWant) -> None:
    for _ in range(SETTLE_TICKS):
        if cluster.settled(want):
            return
        checked_tick(cluster, want)
    pytest.fail("not settled\n" + "\n".join(cluster.lines[-12:]))


def full(prefill: int, decode: int, spare: int = 0) -> PairedCluster:
    gpus = prefill + decode + spare
    cluster = PairedCluster(gpus=gpus, budget=gpus)
    cluster.serve(prefill, decode, requests=2)
    return cluster


@given(st.lists(st.tuples(wants, st.integers(1, 20)), max_size=5), wants, st.integers(0, 2))
def test_any_sequence_of_specs_settles_within_the_cap(
    world: list[tuple[PairWant, int]], last: PairWant, spare: int
) -> None:
    cluster = full(last.prefill, last.decode, spare)
    for want, ticks in world:
        for _ in range(ticks):
            checked_tick(cluster, want)
    settle(cluster, last)


@pytest.mark.parametrize("fewest", [0, 1])
def test_the_last_old_pair_gives_way_where_it_holds_the_gpus_that_the_new_one_lacks(fewest: int):
    """The spec asks for more workers and another revision while the budget holds one pair of each revision."""
    cluster, fewer = full(1, 3), PairWant(1, 1, "a", fewest=fewest)
    for _ in range(4):
        checked_tick(cluster, fewer)
    settle(cluster, PairWant(1, 3, "b", surge=1, fewest=fewest))


@pytest.mark.parametrize("decode_revision", ["", "a"], ids=["both roles", "prefill alone"])
@pytest.mark.parametrize(("prefill", "decode"), [(1, 1), (1, 3), (3, 1)])
def test_a_full_budget_is_rolled_out(prefill: int, decode: int, decode_revision: str):
    settle(full(prefill, decode), PairWant(prefill, decode, "b", decode_revision=decode_revision, fewest=0))


@pytest.mark.parametrize(("prefill", "decode", "spare"), [(1, 1, 2), (2, 2, 0), (1, 3, 1)])
def test_nobody_is_left_without_where_there_is_room(prefill: int, decode: int, spare: int):
    cluster, want = full(prefill, decode, spare), PairWant(prefill, decode, "b", surge=1, fewest=0)
    for _ in range(SETTLE_TICKS):
        checked_tick(cluster, want)
        assert answers(cluster), "\n".join(cluster.lines[-4:])
    assert cluster.settled(want)


def test_a_domain_without_a_spare_gpu_is_rolled_out():
    cluster = DomainCluster(gpus=2, budget=2, room={"x": 2})
    cluster.serve_in({"x": (1, 1)})
    settle(cluster, PairWant(1, 1, "b", fewest=0))


def test_while_one_domain_serves_nobody_the_other_does_and_no_outage_is_told():
    cluster, want = DomainCluster(gpus=4, budget=4, room={"x": 2, "y": 2}), PairWant(2, 2, "b", fewest=0)
    cluster.serve_in({"x": (1, 1), "y": (1, 1)})
    for _ in range(SETTLE_TICKS):
        checked_tick(cluster, want)
        assert answers(cluster), "\n".join(cluster.lines[-4:])
        assert not cluster.outage
    assert cluster.settled(want)


def test_a_revision_that_does_not_come_up_makes_room_for_the_one_before():
    cluster, want = full(1, 1), PairWant(1, 1, "b", fewest=0)
    cluster.broken = frozenset("b")
    for _ in range(20):
        checked_tick(cluster, want)
    assert not answers(cluster)
    settle(cluster, PairWant(1, 1, "a", fewest=0))


@pytest.mark.parametrize(("prefill", "decode"), [(1, 1), (1, 2)])
def test_the_operator_is_killed_at_every_write(prefill: int, decode: int):
    want = PairWant(prefill, decode, "b", fewest=0)

    def played(kill_at: int | None) -> int:
        cluster, sent = full(prefill, decode), 0
        for _ in range(40):
            left = None if kill_at is None or kill_at < sent else kill_at - sent
            sent += checked_tick(cluster, want, left)
        assert cluster.settled(want), f"killed at write {kill_at}\n" + "\n".join(cluster.lines)
        return sent

    writes = played(None)
    assert writes > 0
    for write in range(writes):
        played(write)
