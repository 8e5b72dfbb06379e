"""Which gateways must be scraped, and since when their counters count."""

from typing import Any

from dopd.reconcile.gateways import serving_gateways
from dopd.telemetry.present import Gateway

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
