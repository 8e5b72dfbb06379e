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


def served(role: str = "prefill", *, restarts: int = 1, age_seconds: float = 5.0, ready: bool = True) -> dict[str, Any]:
    """A worker that a gateway has listed, whose engine began so long before BORN."""
    began = datetime.fromtimestamp(BORN - age_seconds, UTC).isoformat()
    engine = {"name": "engine", "restartCount": restarts, "state": {"running": {"startedAt": began}}}
    one = pod(role, ready=ready, containerStatuses=[{"name": "log", "restartCount": 7}, engine])
    one["metadata"]["labels"]["dopd.dev/serving"] = "true"
    return one


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (served(), True),
        (served(age_seconds=3600.0, ready=False), True),
        (served(age_seconds=3600.0), False),
        (served(restarts=0), False),
        (served("decode"), False),
    ],
    ids=["a moment ago", "not ready yet", "serves for an hour", "another container", "decode finds prefill anew"],
)
def test_whether_decode_engines_may_hold_an_engine_for_the_one_before(one: dict[str, Any], expected: bool):
    assert pod_reading.began_anew(one, BORN) is expected


@pytest.mark.parametrize(("proved", "expected"), [("1", False), ("0", True), ("", True), ("x", True)])
def test_each_start_is_proved_once(proved: str, expected: bool):
    one = served()
    one["metadata"]["annotations"] = {"dopd.dev/proved": proved}
    assert pod_reading.began_anew(one, BORN) is expected


@pytest.mark.parametrize("label", ["dopd.dev/role", "dopd.dev/serving"])
def test_one_that_no_gateway_has_listed_is_unknown_to_decode(label: str):
    one = served()
    del one["metadata"]["labels"][label]
    assert not pod_reading.began_anew(one, BORN)


def test_one_that_is_to_be_proved_comes_and_serves_once_no_gateway_lists_it():
    one = served()
    one["metadata"]["annotations"] = {"dopd.dev/proving": "1"}
    assert not pod_reading.proving(one), "it has its label"
    del one["metadata"]["labels"]["dopd.dev/role"]
    gateways = [GatewayView(frozenset({at}), ({at: "prefill"},), ()) for at in ("10.0.0.1:30000", "10.0.0.9:30000")]
    listed, unlisted = (pod_reading.worker(one, gateway, None) for gateway in gateways)
    assert (listed.available, listed.may_serve) == (True, False)
    assert (unlisted.available, unlisted.may_serve) == (True, True)
