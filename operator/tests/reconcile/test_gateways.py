"""Which gateways must be scraped, since when their counters count, and what those of two pairs are called."""

from dataclasses import replace
from typing import Any

import pytest

from dopd.api.names import Role
from dopd.api.pairs import ANY, Pair
from dopd.reconcile.gateways import (
    LEFT_SECONDS,
    answers_unready,
    kept_gateways,
    named,
    pair_gateways,
    serving_gateways,
)
from dopd.reconcile.observe import Observed
from dopd.telemetry.present import Gateway

from .test_conditions import ALL_WELL, IDLE_SPEC, look
from .test_conditions import pod as pod_of

NOON = "2026-01-01T12:00:00Z"
NOON_SECONDS = 1767268800.0


def pod(ready: bool = True, started: str = "", **status: Any) -> dict[str, Any]:
    containers = [{"state": {"running": {"startedAt": started}}}] if started else [{"state": {"waiting": {}}}]
    conditions = [{"type": "Ready", "status": str(ready)}]
    known = {"podIP": "10.0.0.1", "startTime": NOON, "conditions": conditions, "containerStatuses": containers}
    return {"metadata": {"name": "g"}, "status": known | status}


def test_a_gateway_counts_since_its_container_started():
    assert serving_gateways([pod(started="2026-01-01T12:01:00Z")]) == [Gateway("g", "10.0.0.1", NOON_SECONDS + 60)]
    assert serving_gateways([pod()]) == [Gateway("g", "10.0.0.1", NOON_SECONDS)]


def test_one_that_does_not_serve_need_not_be_scraped():
    assert serving_gateways([pod(ready=False), pod(podIP=None), pod(startTime=None)]) == []


A, B, C = Pair("a", "a"), Pair("b", "a"), Pair("c", "a")


def deployment(name: str, pair: Pair, replicas: int = 2) -> dict[str, Any]:
    labels = {"dopd.dev/pool": "router", **pair.labels}
    return {"kind": "Deployment", "metadata": {"name": name, "labels": labels}, "spec": {"replicas": replicas}}


def with_gateways(*deployments: dict[str, Any], closing: tuple[dict[str, Any], ...] = ()) -> Observed:
    children = {("Deployment", item["metadata"]["name"]): item for item in deployments}
    return replace(look(*ALL_WELL[:2]), children=children, closing=closing)


def names(observed: Observed, *pairs: Pair) -> list[str]:
    return [gateway.name for gateway in named(observed, dict.fromkeys(pairs, 1))]


def test_a_gateway_keeps_its_name_and_a_second_pair_gets_one_of_its_own():
    assert names(with_gateways(), A) == ["m-router"]
    first = deployment("m-router", A)
    assert names(with_gateways(first), A, B) == ["m-router", f"m-router-{B.name}"]
    second = deployment(f"m-router-{B.name}", B)
    assert names(with_gateways(second), B) == [f"m-router-{B.name}"]
    assert names(with_gateways(second), B, C) == [f"m-router-{B.name}", "m-router"]
    assert names(with_gateways(first), B) == [f"m-router-{B.name}"], "the plain name is free once that one is gone"


def test_the_gateway_of_an_earlier_version_is_left_as_it_is_until_it_leaves():
    observed = with_gateways(deployment("m-router", ANY))
    assert named(observed, {ANY: 2}) == []
    assert names(observed, ANY, A) == [f"m-router-{A.name}"]
    assert kept_gateways(observed, {ANY: 2, A: 2}) == {("Deployment", "m-router")}
    assert kept_gateways(observed, {A: 2}) == set()
    assert kept_gateways(observed, None) == {("Deployment", "m-router")}


@pytest.mark.parametrize(("seconds", "still"), [(LEFT_SECONDS - 1, 1), (LEFT_SECONDS + 1, 0)])
def test_a_gateway_that_leaves_may_take_a_request_for_some_seconds(seconds: float, still: int):
    leaving = pod(started="2026-01-01T11:00:00Z")
    ends = {"deletionTimestamp": "2026-01-01T12:05:00Z", "deletionGracePeriodSeconds": 300, "labels": A.labels}
    leaving["metadata"] |= ends
    (gateway,) = pair_gateways(with_gateways(closing=(leaving,)), NOON_SECONDS + seconds) or [None]
    assert (gateway.open if gateway else 0) == still


@pytest.mark.parametrize(
    ("idle", "target", "ready", "unready"),
    [
        (True, 0, True, True),  # it falls asleep: before its gateway notices
        (True, 0, False, True),
        (True, 1, False, True),  # it wakes, or starts for the first time
        (True, 1, True, False),
        (False, 0, False, False),
        (False, 1, False, False),
    ],
)
def test_clients_reach_a_gateway_without_workers_only_where_it_may_sleep(idle, target, ready, unready):
    observed = look(pod_of("router", ready=ready), spec=IDLE_SPEC if idle else None)
    assert answers_unready(observed, dict.fromkeys(Role, target)) is unready
