"""Whatever is asked for: clients always reach a whole pair of one revision each, and never a gateway without one."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.api.pairs import ANY, Pair

from .cluster import GATEWAY_TICKS
from .paired_cluster import BOOT_TICKS, LEAVE_TICKS, PairedCluster, PairWant

BUDGET = 8
SETTLE_TICKS = 250

counts = st.integers(1, 4)
wants = st.builds(
    PairWant,
    prefill=counts,
    decode=counts,
    revision=st.sampled_from("abc"),
    decode_revision=st.sampled_from(["", "a", "b"]),
    surge=st.integers(0, 2),
    max_unavailable=st.integers(1, 3),
    gateways=st.integers(1, 3),
)


def checked_tick(cluster: PairedCluster, want: PairWant) -> None:
    before = cluster.in_service()
    cluster.tick(want)
    after = cluster.in_service()
    assert after or not before, "nobody serves\n" + "\n".join(cluster.lines[-6:])
    for pair in after:
        assert all(cluster.partners(pair)), f"the gateway of {pair} has nobody to send to\n" + "\n".join(
            cluster.lines[-6:]
        )
    assert cluster.budget is None or cluster.held() <= cluster.budget


def settle(cluster: PairedCluster, want: PairWant) -> None:
    for _ in range(SETTLE_TICKS):
        if cluster.settled(want):
            return
        checked_tick(cluster, want)
    pytest.fail("not settled\n" + "\n".join(cluster.lines[-12:]))


@given(st.lists(st.tuples(wants, st.integers(1, 25)), max_size=6), wants)
def test_any_sequence_of_specs(world: list[tuple[PairWant, int]], last: PairWant):
    """Rollouts, rollbacks in the middle, third revisions, changes of one role alone, all while it scales."""
    cluster = PairedCluster(gpus=BUDGET, budget=BUDGET)
    cluster.serve(2, 2, requests=1)
    for want, ticks in world:
        for _ in range(ticks):
            checked_tick(cluster, want)
    settle(cluster, replace(last, prefill=min(last.prefill, 3), decode=min(last.decode, 3), surge=1))


@pytest.mark.parametrize(("prefill", "decode"), [(2, 2), (2, 3), (3, 3), (4, 4), (2, 6)])
def test_a_full_cluster_needs_no_spare_gpu(prefill: int, decode: int):
    cluster = PairedCluster(gpus=prefill + decode, budget=prefill + decode)
    cluster.serve(prefill, decode, requests=1)
    settle(cluster, PairWant(prefill, decode, "b"))


def in_the_middle(prefill: int = 2, decode: int = 2, ticks: int = 4) -> tuple[PairedCluster, PairWant]:
    """A full cluster in which a rollout has begun."""
    cluster = PairedCluster(gpus=prefill + decode, budget=prefill + decode)
    cluster.serve(prefill, decode, requests=1)
    want = PairWant(prefill, decode, "b")
    for _ in range(ticks):
        checked_tick(cluster, want)
    return cluster, want


def serves_again(cluster: PairedCluster, want: PairWant) -> None:
    for _ in range(SETTLE_TICKS):
        cluster.tick(want)
        if cluster.in_service() and cluster.settled(want):
            return
    pytest.fail("not settled\n" + "\n".join(cluster.lines[-12:]))


@pytest.mark.parametrize("pool", ["P", "D"])
@pytest.mark.parametrize("ticks", range(1, 40, 3))
def test_old_workers_whose_partners_are_lost_make_room_for_new_ones(pool: str, ticks: int):
    cluster, want = in_the_middle(ticks=ticks)
    for pod in cluster.pools[pool]:
        if pod.revision == "a":
            pod.deleted_at = cluster.now
    serves_again(cluster, want)


@pytest.mark.parametrize("ticks", range(1, 40, 3))
def test_a_gateway_that_somebody_deletes_comes_back_for_the_old_workers(ticks: int):
    cluster, want = in_the_middle(ticks=ticks)
    cluster.scale(Pair("a", "a"), 0)
    for _ in range(LEAVE_TICKS + BOOT_TICKS + GATEWAY_TICKS):
        cluster.tick(want)
    assert cluster.in_service()
    serves_again(cluster, want)


def test_a_change_of_one_role_replaces_no_worker_of_the_other():
    cluster = PairedCluster(gpus=5, budget=5)
    cluster.serve(2, 3, requests=1)
    before = {pod.name for pod in cluster.pools["D"]}
    settle(cluster, PairWant(2, 3, "b", decode_revision="a"))
    assert {pod.name for pod in cluster.pools["D"]} == before


@pytest.mark.parametrize(("prefill", "decode"), [("a", "a"), ("b", "b"), ("b", "a"), ("a", "b")])
def test_the_gateway_of_an_earlier_version_never_pairs_two_revisions(prefill: str, decode: str):
    """The operator is upgraded, and what workers are made from changes in the same moment."""
    cluster = PairedCluster(gpus=5, budget=5)
    cluster.serve(2, 3, requests=1)
    cluster.doors, cluster.replicas = {ANY: cluster.doors[Pair("a", "a")]}, {ANY: 2}
    want = PairWant(2, 3, prefill, decode_revision=decode)
    for _ in range(SETTLE_TICKS):
        checked_tick(cluster, want)
        if ANY in cluster.in_service():
            assert {pod.revision for pods in cluster.pools.values() for pod in pods} == {"a"}
    assert cluster.settled(want)
