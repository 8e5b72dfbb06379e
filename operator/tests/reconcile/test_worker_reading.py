"""What a pod tells of a worker on its way: whether it comes up, what it holds, and when it is lost."""

from datetime import UTC, datetime
from typing import Any

import pytest

from dopd.reconcile import pods as pod_reading
from dopd.reconcile.pods import FAILED_SECONDS, OVERDUE_SECONDS

from .test_conditions import UNSCHEDULABLE, pod, waiting

BORN = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
DEADLINE = 600.0
CRASH = {"terminated": {"exitCode": 1, "reason": "Error"}}


@pytest.mark.parametrize(
    ("status", "age_seconds", "expected"),
    [
        ({}, DEADLINE - 1, True),
        ({}, DEADLINE, False),
        (waiting("CrashLoopBackOff", restarts=1, **CRASH), 60.0, True),
        (waiting("CrashLoopBackOff", restarts=2, **CRASH), 60.0, False),
        (waiting("ImagePullBackOff"), FAILED_SECONDS - 1, True),
        (waiting("ImagePullBackOff"), FAILED_SECONDS, False),
        (UNSCHEDULABLE, 10 * DEADLINE, True),
    ],
    ids=["starting", "too late", "one end", "two ends", "an image soon", "no image", "no node is no fault of it"],
)
def test_whether_a_worker_comes_up(status: dict[str, Any], age_seconds: float, expected: bool):
    assert pod_reading.comes_up(pod("decode", ready=False, **status), BORN + age_seconds, DEADLINE) is expected


def test_one_that_serves_came_up_however_often_it_ended():
    assert pod_reading.comes_up(pod("decode", **waiting("", restarts=9, **CRASH)), BORN + 10 * DEADLINE, DEADLINE)


@pytest.mark.parametrize(
    ("annotation", "limits", "expected"),
    [("4", {}, 4), (None, {"nvidia.com/gpu": "2", "cpu": "8"}, 2), ("many", {"amd.com/gpu": "8"}, 8), (None, {}, 1)],
)
def test_the_gpus_of_a_worker(annotation: str | None, limits: dict[str, str], expected: int):
    one = pod("decode")
    one["spec"]["containers"] = [{"name": "engine", "resources": {"limits": limits}}]
    if annotation:
        one["metadata"]["annotations"] = {"dopd.dev/gpus": annotation}
    assert pod_reading.gpus(one) == expected


def test_a_pod_that_outlives_its_grace_period_is_on_a_node_that_is_lost():
    one = pod("decode")
    one["metadata"]["deletionTimestamp"] = "2026-01-01T00:10:00Z"
    end_of_grace = BORN + 600
    assert not pod_reading.overdue(one, end_of_grace + OVERDUE_SECONDS)
    assert pod_reading.overdue(one, end_of_grace + OVERDUE_SECONDS + 1)
