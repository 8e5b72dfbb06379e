"""One cluster for the whole run, and one resource at a time on its gateway port.

E2E_NAME names the cluster (by default after the checkout, so that two never meet); E2E_KEEP=1 leaves it up, so
that the next run begins at once.
"""

import os
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import httpx
import pytest

from e2e import stack as stacks
from e2e.stack import Stack, collect, condition, wait_for
from e2e.tests.resources import GATEWAY_NODE_PORT, profile_objects

Json = dict[str, Any]
TEST_SECONDS = 240
START_SECONDS = 90

_stack: Stack | None = None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real starts take real time; what the fixtures take (a first build of all programs) is not limited."""
    limit(items, TEST_SECONDS)


def limit(items: list[pytest.Item], seconds: float) -> None:
    """Give tests so long on a cluster, without their fixtures; for the folders of tests that stand on the same."""
    for item in items:
        item.add_marker(pytest.mark.timeout(seconds, func_only=True))
        # A Docker daemon of our own is meant to outlive the call that started it.
        item.add_marker(pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """When a test fails, keep what the cluster looked like at that moment."""
    report = yield
    if report.failed and _stack is not None:
        report.sections.append(("cluster", f"what the cluster looked like: {collect(_stack, item.name)}"))
    return report


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The cluster with Prometheus and the operator."""
    global _stack
    name = os.environ.get("E2E_NAME") or stacks.cluster_name("e2e")
    try:
        _stack = stacks.up(name)
        _stack.apply(*profile_objects())
        yield _stack
    finally:
        if os.environ.get("E2E_KEEP") != "1":
            stacks.down(name)


Apply = Callable[[Json], str]


@pytest.fixture
def apply(stack: Stack) -> Iterator[Apply]:
    """Apply a resource and return its name; afterwards it is deleted with all its pods."""
    names: list[str] = []

    def apply_one(resource: Json) -> str:
        name: str = resource["metadata"]["name"]
        names.append(name)
        stack.apply(resource)
        return name

    yield apply_one
    if names:
        delete(stack, *names)


def delete(stack: Stack, *names: str) -> None:
    """Delete resources and wait until their pods are gone: they hold GPUs and the node port."""
    stack.kubectl("delete", "pdi", *names, "--ignore-not-found")
    wait_for(lambda: not any(map(stack.pods, names)), f"the pods of {', '.join(names)} are gone", timeout_seconds=90)


def until_ready(stack: Stack, name: str, *, timeout_seconds: float = START_SECONDS) -> Json:
    """Wait until the resource is Ready, every worker serves, and the tests' port leads to its gateway; returns it."""

    def look() -> Json | None:
        resource = stack.inference(name)
        kinds = ("Ready", "WorkersAvailable", "RouterInSync")
        current = (resource or {}).get("status", {}).get("observedGeneration") == (resource or {}).get(
            "metadata", {}
        ).get("generation")
        return resource if current and all(condition(resource, k).get("status") == "True" for k in kinds) else None

    found = wait_for(look, f"{name} is ready", timeout_seconds=timeout_seconds)
    assert found is not None
    if found["spec"]["router"].get("service", {}).get("nodePort") == GATEWAY_NODE_PORT:
        # A node's rules follow the Service a moment later; until then its port accepts and closes.
        wait_for(lambda: _lets_in(stack), f"the port leads to the gateway of {name}", timeout_seconds=30)
    return found


def _lets_in(stack: Stack) -> bool:
    try:
        return httpx.get(f"{stack.gateway_url}/readiness", trust_env=False, timeout=5).status_code == HTTPStatus.OK
    except httpx.HTTPError:
        return False
