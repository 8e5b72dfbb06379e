"""Whatever is asked for and whatever happens: the cap holds at every moment, no worker is deleted before its drain, and
in the end all is as it is wanted. Each pass starts from what is there alone, so a restart at any point is a pass like
any other."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dopd.api.names import Role

from .cluster import DEADLINE, Cluster, Want
from .flipping import FlippingCluster

BUDGET = 8
SETTLE_TICKS = 150
counts = st.integers(1, 3)
wants = st.builds(
    Want,
    prefill=counts,
    decode=counts,
    revision=st.sampled_from("abc"),
    surge=st.integers(0, 2),
    max_unavailable=st.integers(1, 3),
    pending_deadline=st.sampled_from([3.0, 30.0]),
)
moments = st.one_of(
    wants,
    st.tuples(st.just("pass"), st.integers(1, 12)),
    st.tuples(st.just("delete"), st.integers(0, 7)),
    st.tuples(st.just("work"), st.integers(0, 7)),
    st.tuples(st.just("break"), st.sampled_from(["", "b", "bc"])),
)


def checked_tick(cluster: Cluster, want: Want) -> None:
    steps = cluster.decided(want)
    for pool, role in (("P", Role.PREFILL), ("D", Role.DECODE)):
        for pod in cluster.pools[pool]:
            if pod.name in steps[role].release:
                waited = cluster.now - (pod.drained_at if pod.drained_at is not None else cluster.now)
                assert not pod.labelled, f"{pod.name} is deleted and has its label"
                works = cluster.ready(pod) and (cluster.listed(pod) or pod.requests)  # a broken one does not
                assert waited >= DEADLINE or not works, f"{pod.name} is deleted at work"
    cluster.tick(want)
    assert cluster.held() <= BUDGET, cluster.lines[-1]


@given(st.lists(moments, max_size=25), wants, st.booleans())
def test_any_world(world: list, last: Want, flips: bool):
    cluster, want = (FlippingCluster if flips else Cluster)(gpus=BUDGET, budget=BUDGET), Want(2, 2)
    cluster.serve(2, 2)
    for moment in world:
        pods = cluster.pods
        if isinstance(moment, Want):
            want = moment
        elif moment[0] == "delete" and pods:
            cluster.delete(pods[moment[1] % len(pods)])
        elif moment[0] == "work" and pods and cluster.listed(pods[moment[1] % len(pods)]):
            pods[moment[1] % len(pods)].requests += 3
        elif moment[0] == "break":
            cluster.broken = frozenset(moment[1])
        for _ in range(moment[1] if isinstance(moment, tuple) and moment[0] == "pass" else 1):
            checked_tick(cluster, want)
    cluster.broken = frozenset()
    last = replace(last, surge=max(last.surge, 1))  # single workers need room beside them
    for _ in range(SETTLE_TICKS):
        if cluster.settled(last):
            break
        checked_tick(cluster, last)
    assert cluster.settled(last), "\n".join(cluster.lines[-10:])


@given(wants, st.integers(1, 3), st.integers(1, 3))
def test_a_rollout_never_takes_the_last_worker_that_answers(want: Want, prefill: int, decode: int):
    cluster = Cluster(gpus=BUDGET, budget=BUDGET)
    cluster.serve(prefill, decode)
    for _ in range(SETTLE_TICKS):
        if cluster.settled(want):
            break
        checked_tick(cluster, want)
        assert cluster.serving("P") >= 1 <= cluster.serving("D"), "\n".join(cluster.lines[-5:])
