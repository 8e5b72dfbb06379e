"""Several domains: no request crosses, clients always reach a whole pair, the cap holds, and all comes to its place."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.api.names import Role
from dopd.api.pairs import Pair

from .domain_cluster import DomainCluster
from .paired_cluster import PairWant

ROOM = {"a": 6, "b": 6, "c": 6}
SETTLE_TICKS = 300
counts = st.integers(1, 5)
wants = st.builds(
    PairWant,
    prefill=counts,
    decode=counts,
    revision=st.sampled_from("ab"),
    surge=st.integers(1, 2),
    max_unavailable=st.integers(1, 2),
    gateways=st.integers(1, 3),
)


def checked_tick(cluster: DomainCluster, want: PairWant) -> None:
    before = cluster.in_service()
    cluster.tick(want)
    after, last = cluster.in_service(), "\n".join(cluster.lines[-8:])
    assert after or not before, f"nobody serves\n{last}"
    for pair in after:
        assert all(cluster.partners(pair)), f"the gateway of {pair} has nobody to send to\n{last}"
    assert cluster.budget is None or cluster.held() <= cluster.budget, last
    for name, limit in cluster.room.items():
        of_domain = sum(len(cluster.of_domain(pool, name)) for pool in "PD")
        assert of_domain <= limit, f"{name} is overfull\n{last}"


def settle(cluster: DomainCluster, want: PairWant) -> None:
    for _ in range(SETTLE_TICKS):
        if cluster.settled(want):
            return
        checked_tick(cluster, want)
    pytest.fail("not settled\n" + "\n".join(cluster.lines[-12:]))


def roomy(want: PairWant) -> PairWant:
    """One that leaves GPUs of its domain free: the only worker of a role is not replaced without a spare one."""
    return replace(want, prefill=min(want.prefill, 2), decode=min(want.decode, 2))


@given(st.lists(st.tuples(wants, st.integers(1, 15)), max_size=3), wants)
def test_any_sequence_of_specs(world: list[tuple[PairWant, int]], last: PairWant):
    """Scaling, rollouts and rollbacks, over domains that are begun and emptied meanwhile."""
    cluster = DomainCluster(gpus=40, budget=16, room=ROOM)
    cluster.serve_in({"a": (2, 2)})
    for want, ticks in world:
        for _ in range(ticks):
            checked_tick(cluster, want)
    settle(cluster, roomy(last))


@given(st.integers(1, 3), st.integers(1, 3), wants)
def test_workers_without_a_domain_and_of_one_that_is_unlisted_move_to_the_listed_ones(p: int, d: int, last: PairWant):
    cluster = DomainCluster(gpus=60, budget=30, room=ROOM)
    cluster.serve_in({"": (p, d), "old": (1, 1)})
    settle(cluster, roomy(last))


def test_without_a_spare_gpu_workers_move_to_a_list_one_by_one():
    cluster = DomainCluster(gpus=4, budget=4, room={"x": 4})
    cluster.serve_in({"": (2, 2)})
    settle(cluster, PairWant(2, 2))


def test_domains_are_rolled_out_one_after_the_other():
    cluster = DomainCluster(gpus=20, budget=14, room={"x": 6, "y": 6})
    cluster.serve_in({"x": (2, 4), "y": (2, 4)})
    want = PairWant(4, 8, "b")
    for _ in range(SETTLE_TICKS):
        if cluster.settled(want):
            break
        checked_tick(cluster, want)
        mixed = [n for n in "xy" if len({p.revision for pool in "PD" for p in cluster.of_domain(pool, n)}) == 2]
        assert len(mixed) <= 1, cluster.lines[-1]
    assert cluster.settled(want)


def test_without_any_target_the_workers_leave_and_a_gateway_stays():
    cluster = DomainCluster(gpus=20, room={"x": 6, "y": 6})
    cluster.serve_in({"x": (2, 4), "y": (1, 2)})
    for _ in range(60):
        cluster.tick(PairWant(0, 0))
    assert not cluster.pods
    assert any(cluster.replicas.values())
    assert sum(DomainCluster(gpus=2, room={"x": 2}).decide(PairWant(0, 0)).gateways.values()) == 2  # type: ignore[union-attr]


def test_gateways_are_as_many_as_each_domain_can_carry():
    cluster = DomainCluster(gpus=20, room={"x": 9, "y": 3})
    cluster.serve_in({"x": (3, 6), "y": (1, 2)})
    assert cluster.decide(PairWant(4, 8)).gateways == {Pair("a", "a", "x"): 3, Pair("a", "a", "y"): 1}


def test_a_lost_worker_comes_back_in_its_domain():
    cluster = DomainCluster(gpus=20, room={"x": 6, "y": 6})
    cluster.serve_in({"x": (2, 4), "y": (2, 4)})
    lost = cluster.pools["P"].pop(0)
    step = cluster.decide(PairWant(4, 8))
    assert step.steps[Role.PREFILL].domains == (lost.domain,)


@given(st.integers(1, 6), counts, counts)
def test_a_limit_of_a_role_holds_over_all_domains_together(most: int, prefill: int, decode: int):
    cluster = DomainCluster(gpus=40, room=ROOM, most=most)
    for _ in range(60):
        cluster.tick(PairWant(prefill, decode))
        for pool in "PD":
            assert len(cluster.pools[pool]) <= most, cluster.lines[-1]
