"""One form for where an engine is, whoever says it."""

from typing import Any

import pytest

from dopd.telemetry.addresses import engine_address, engine_port, listed_address


def pod(ip: str | None, *ports: dict[str, Any]) -> dict[str, Any]:
    containers = [
        {"name": "proxy", "ports": [{"name": "http", "containerPort": 1}]},
        {"name": "engine", "ports": ports},
    ]
    return {"metadata": {"name": "p"}, "spec": {"containers": containers}, "status": {"podIP": ip} if ip else {}}


@pytest.mark.parametrize(
    ("ip", "port", "url"),
    [
        ("10.0.0.1", 30000, "http://10.0.0.1:30000"),
        ("10.0.0.1", 30001, "http://10.0.0.1:30001@3"),
        ("fd00::1", 30000, "http://[fd00:0:0::1]:30000"),
        ("fd00:0::1", 30000, "http://[FD00::1]:30000"),
    ],
)
def test_a_pod_and_the_gateway_say_the_same_of_a_worker(ip: str, port: int, url: str):
    worker = pod(ip, {"name": "http", "containerPort": port})
    assert engine_port(worker) == port
    assert engine_address(worker) == listed_address(url)


def test_two_workers_of_one_node_are_two():
    here, there = (pod("10.0.0.1", {"name": "http", "containerPort": port}) for port in (30000, 30001))
    assert engine_address(here) != engine_address(there)


def test_a_pod_that_does_not_say_has_the_usual_port_and_one_without_an_address_has_none():
    assert engine_address({"status": {"podIP": "10.0.0.1"}}) == "10.0.0.1:30000"
    assert engine_address(pod(None)) is None


@pytest.mark.parametrize("url", ["", "nonsense", "http://[fd00", "http://x:99999", "http://"])
def test_what_is_no_url_is_nobody(url: str):
    assert listed_address(url) == ""
