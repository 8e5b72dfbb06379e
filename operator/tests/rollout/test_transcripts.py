"""Transcripts of pools on their way: a reader sees each step, and a change of behaviour is a change of text.

Set DOPD_GOLDEN=write to write the files anew.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from .cluster import Cluster, Want
from .flipping import FlippingCluster
from .group_cluster import GroupCluster
from .paired_cluster import PairedCluster, PairWant

GOLDEN = Path(__file__).parent / "golden"


def run(cluster: Cluster, want: Want, ticks: int) -> None:
    for _ in range(ticks):
        cluster.tick(want)


def scale_down(cluster: Cluster) -> None:
    cluster.serve(1, 3, requests=2)
    run(cluster, Want(1, 1), 10)


def rebalance_within_a_budget(cluster: Cluster) -> None:
    cluster.serve(2, 2, requests=1)
    run(cluster, Want(1, 3), 12)


def load_comes_back_while_a_worker_drains(cluster: Cluster) -> None:
    cluster.serve(1, 2, requests=3)
    run(cluster, Want(1, 1), 2)
    run(cluster, Want(1, 2), 8)


def a_start_that_finds_no_node_is_cancelled(cluster: Cluster) -> None:
    cluster.serve(1, 1)
    run(cluster, Want(1, 4), 3)
    run(cluster, Want(1, 2), 5)


def a_start_that_finds_no_node_is_given_back(cluster: Cluster) -> None:
    cluster.serve(2, 1)
    run(cluster, Want(2, 2, pending_deadline=4.0), 8)


def an_evicted_worker_is_replaced_when_its_gpu_is_free(cluster: Cluster) -> None:
    cluster.serve(1, 2, requests=2)
    cluster.delete(cluster.pools["D"][0])
    run(cluster, Want(1, 2), 9)


def rollout_without_a_spare_gpu(cluster: Cluster) -> None:
    cluster.serve(2, 2, requests=1)
    run(cluster, Want(2, 2, "b"), 22)


def rollout_of_single_workers_takes_a_spare_gpu_each(cluster: Cluster) -> None:
    cluster.serve(1, 1, requests=1)
    run(cluster, Want(1, 1, "b", surge=1), 14)


def rollout_of_single_workers_on_a_full_cluster_waits(cluster: Cluster) -> None:
    cluster.serve(1, 1)
    run(cluster, Want(1, 1, "b", surge=1), 4)


def rollout_with_an_outage_allowed(cluster: Cluster) -> None:
    cluster.serve(1, 1)
    run(cluster, Want(1, 1, "b", fewest=0), 12)


def load_grows_while_a_rollout_runs(cluster: Cluster) -> None:
    cluster.serve(1, 3)
    run(cluster, Want(1, 3, "b", surge=1), 5)
    run(cluster, Want(1, 5, "b", surge=1), 20)


def load_falls_while_a_rollout_runs(cluster: Cluster) -> None:
    cluster.serve(1, 4)
    run(cluster, Want(1, 4, "b", surge=1), 5)
    run(cluster, Want(1, 2, "b", surge=1), 14)


def a_bad_revision_stops_at_the_first_worker(cluster: Cluster) -> None:
    cluster.serve(2, 3)
    run(cluster, Want(2, 3, "b"), 16)
    run(cluster, Want(2, 3, "a"), 12)


def flip(cluster: Cluster) -> None:
    cluster.serve(1, 3, requests=1)
    run(cluster, Want(2, 2), 9)


def flips_there_and_back(cluster: Cluster) -> None:
    cluster.serve(1, 3)
    run(cluster, Want(3, 1), 9)
    run(cluster, Want(1, 3), 9)


def a_flip_that_is_superseded(cluster: Cluster) -> None:
    cluster.serve(1, 3, requests=3)
    run(cluster, Want(2, 2), 2)
    run(cluster, Want(1, 3), 6)


def a_flip_and_a_start(cluster: Cluster) -> None:
    cluster.serve(1, 3)
    run(cluster, Want(3, 2), 10)


def a_flip_that_is_refused(cluster: Cluster) -> None:
    cluster.serve(1, 3)
    run(cluster, Want(2, 2), 14)


def a_flip_whose_pairs_do_not_answer(cluster: Cluster) -> None:
    cluster.serve(1, 3)
    run(cluster, Want(2, 2), 18)


def two_halves_of_groups(cluster: Cluster) -> None:
    run(cluster, Want(2, 0, pending_deadline=4.0), 16)


def both_roles_of_a_full_budget_wait(cluster: Cluster) -> None:
    cluster.serve(1, 1, requests=1)
    run(cluster, PairWant(1, 1, "b", surge=1), 3)


def both_roles_of_a_full_budget_with_an_outage_allowed(cluster: Cluster) -> None:
    cluster.serve(1, 1, requests=2)
    run(cluster, PairWant(1, 1, "b", surge=1, fewest=0), 13)


def one_prefill_worker_and_three_of_decode_with_an_outage_allowed(cluster: Cluster) -> None:
    cluster.serve(1, 3, requests=1)
    run(cluster, PairWant(1, 3, "b", surge=1, fewest=0), 16)


def an_outage_is_allowed_and_there_is_room(cluster: Cluster) -> None:
    cluster.serve(1, 1, requests=1)
    run(cluster, PairWant(1, 1, "b", surge=1, fewest=0), 14)


def an_outage_that_is_called_off(cluster: Cluster) -> None:
    cluster.serve(1, 1, requests=4)
    run(cluster, PairWant(1, 1, "b", surge=1, fewest=0), 3)
    run(cluster, PairWant(1, 1, "a", surge=1, fewest=0), 6)


SCENARIOS: list[tuple[Callable[[Cluster], None], Cluster]] = [
    (scale_down, Cluster(gpus=8)),
    (rebalance_within_a_budget, Cluster(gpus=8, budget=4)),
    (load_comes_back_while_a_worker_drains, Cluster(gpus=8)),
    (a_start_that_finds_no_node_is_cancelled, Cluster(gpus=3)),
    (a_start_that_finds_no_node_is_given_back, Cluster(gpus=3, budget=4)),
    (an_evicted_worker_is_replaced_when_its_gpu_is_free, Cluster(gpus=8, budget=3)),
    (rollout_without_a_spare_gpu, Cluster(gpus=4, budget=4)),
    (rollout_of_single_workers_takes_a_spare_gpu_each, Cluster(gpus=4, budget=4)),
    (rollout_of_single_workers_on_a_full_cluster_waits, Cluster(gpus=2, budget=2)),
    (rollout_with_an_outage_allowed, Cluster(gpus=2, budget=2)),
    (load_grows_while_a_rollout_runs, Cluster(gpus=8, budget=8)),
    (load_falls_while_a_rollout_runs, Cluster(gpus=8, budget=8)),
    (a_bad_revision_stops_at_the_first_worker, Cluster(gpus=5, budget=5, broken=frozenset("b"))),
    (both_roles_of_a_full_budget_wait, PairedCluster(gpus=2, budget=2)),
    (both_roles_of_a_full_budget_with_an_outage_allowed, PairedCluster(gpus=2, budget=2)),
    (one_prefill_worker_and_three_of_decode_with_an_outage_allowed, PairedCluster(gpus=4, budget=4)),
    (an_outage_is_allowed_and_there_is_room, PairedCluster(gpus=4, budget=4)),
    (an_outage_that_is_called_off, PairedCluster(gpus=2, budget=2)),
    (two_halves_of_groups, GroupCluster(gpus=2)),
    (flip, FlippingCluster(gpus=4, budget=4)),
    (flips_there_and_back, FlippingCluster(gpus=4, budget=4)),
    (a_flip_that_is_superseded, FlippingCluster(gpus=4, budget=4)),
    (a_flip_and_a_start, FlippingCluster(gpus=5, budget=5)),
    (a_flip_that_is_refused, FlippingCluster(gpus=4, budget=4, refusal="no room for decode graphs")),
    (a_flip_whose_pairs_do_not_answer, FlippingCluster(gpus=4, budget=4, mute=frozenset({"D0"}))),
]


@pytest.mark.parametrize(("scenario", "cluster"), SCENARIOS, ids=[scenario.__name__ for scenario, _ in SCENARIOS])
def test_transcript(scenario: Callable[[Cluster], None], cluster: Cluster):
    scenario(cluster)
    path, text = GOLDEN / f"{scenario.__name__}.txt", "\n".join(cluster.lines) + "\n"
    if os.environ.get("DOPD_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()
