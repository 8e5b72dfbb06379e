"""What a pod tells of a worker on its way: whether it comes up, what it holds, and when it is lost."""

from datetime import UTC, datetime
from typing import Any

import pytest

from dopd.api.names import Role
from dopd.reconcile import pods as pod_reading
from dopd.reconcile.pods import FAILED_SECONDS, OVERDUE_SECONDS
from dopd.telemetry.engines import EngineLoad
from dopd.telemetry.gateway import GatewayView

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


def convertible(pool: str, role: str | None) -> dict[str, Any]:
    one = pod(pool)
    one["metadata"]["labels"] |= {"dopd.dev/launched-as": "decode", "dopd.dev/pool": pool}
    one["metadata"]["labels"].pop("dopd.dev/role", None)
    if role:
        one["metadata"]["labels"]["dopd.dev/role"] = role
    one["metadata"]["annotations"] = {}
    ports = [{"name": "http", "containerPort": 30000}, {"name": "bootstrap", "containerPort": 8998}]
    one["spec"]["containers"] = [{"name": "engine", "ports": ports}]
    return one


def load_of(role: str) -> EngineLoad:
    return EngineLoad(0, 0, 0, 0, 0.0, counters=None, role=role)  # type: ignore[arg-type]


GATEWAY = GatewayView(frozenset(), (), ())


def test_a_worker_on_its_way_counts_for_the_role_that_it_comes_to():
    one = convertible("decode", None)
    one["metadata"]["annotations"] = {"dopd.dev/flip-to": "prefill"}
    assert pod_reading.of_pool([one], Role.PREFILL) == [one]
    assert pod_reading.of_pool([one], Role.DECODE) == []
    look = pod_reading.worker(one, GATEWAY, load_of("decode"))
    assert (look.turning, look.in_role, look.available, look.may_serve) == (True, False, True, False)
    assert pod_reading.worker(one, GATEWAY, load_of("prefill")).may_serve
    assert not pod_reading.worker(one, GATEWAY, None).may_serve, "an engine that does not tell"


def test_annotations_of_strangers_move_nobody():
    one = pod("decode")
    one["metadata"]["annotations"] = {"dopd.dev/flip-to": "prefill"}
    assert pod_reading.of_pool([one], Role.DECODE) == [one], "it was not made to change its role"
    other = convertible("decode", None)
    other["metadata"]["annotations"] = {"dopd.dev/flip-to": "router"}
    assert pod_reading.of_pool([other], Role.DECODE) == [other]


@pytest.mark.parametrize(
    ("told", "port", "fresh"), [(None, 8998, 8998), ("8998", 8998, 8999), ("9061", 9061, 9062), ("9062", 9062, None)]
)
def test_each_turn_as_prefill_has_a_bootstrap_port_of_its_own(told: str | None, port: int, fresh: int | None):
    one = convertible("decode", "decode")
    one["metadata"]["annotations"] = {"sglang.ai/bootstrap-port": told} if told else {}
    assert (pod_reading.bootstrap_port(one), pod_reading.fresh_bootstrap_port(one)) == (port, fresh)
    assert pod_reading.worker(one, GATEWAY, load_of("decode")).may_flip is (fresh is not None)


def test_one_that_refused_keeps_its_role():
    one = convertible("prefill", "prefill")
    assert pod_reading.worker(one, GATEWAY, load_of("prefill")).may_flip
    one["metadata"]["annotations"] = {"dopd.dev/keeps-role": "no room"}
    assert not pod_reading.worker(one, GATEWAY, load_of("prefill")).may_flip
    assert not pod_reading.worker(pod("prefill"), GATEWAY, load_of("prefill")).may_flip
