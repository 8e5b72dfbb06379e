"""Workers of several nodes on their way: all or none, and two halves do not wait for each other."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dopd.rollout import Worker

from .cluster import Want
from .group_cluster import NODES, GroupCluster
from .test_pool import NOW, drained, step, worker


@given(gpus=st.integers(0, 6), want=st.integers(1, 3), budget=st.integers(2, 6))
def test_groups_never_pass_the_budget_and_as_many_serve_as_find_nodes(gpus: int, want: int, budget: int):
    cluster = GroupCluster(gpus=gpus, budget=budget)
    for _ in range(60):
        cluster.tick(Want(want, 0, pending_deadline=4.0))
        assert cluster.held() <= budget
    expected = min(want, gpus // NODES, budget // NODES)
    serving = sum(cluster.worker(pod).serves for pod in cluster.pools["P"])
    assert serving == expected


def half(name: str, age_seconds: float) -> Worker:
    return worker(
        name, ready=False, scheduled=False, registered=False, idle=None, partial=True, created_seconds=NOW - age_seconds
    )


def test_a_half_is_kept_while_another_worker_is_about_to_leave_nodes():
    goal = {"pending_deadline_seconds": 60.0}
    assert step([half("a", 61.0), half("b", 61.0)], 2, **goal).give_back == ("b",)
    assert step([half("a", 61.0)], 1, **goal).give_back == ("a",)
    assert step([half("a", 59.0), half("b", 59.0)], 2, **goal).give_back == ()
    leaving = replace(drained("c"), registered=True)
    assert step([half("a", 61.0), leaving], 1, **goal).give_back == ()


def test_none_is_started_in_the_moment_in_which_one_is_given_back():
    taken = step([half("a", 61.0)], 1, pending_deadline_seconds=60.0)
    assert (taken.give_back, taken.create, taken.lacks) == (("a",), 0, 1)


def test_a_group_whose_node_is_lost_leaves_and_is_replaced():
    broken = worker("a", ready=False, broken=True, registered=False, idle=None)
    taken = step([broken], 1)
    assert (taken.drain, taken.create) == (("a",), 1)
    assert step([replace(broken, labelled=False, draining_since_seconds=NOW)], 1).release == ("a",)
