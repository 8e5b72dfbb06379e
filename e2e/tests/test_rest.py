"""When nothing changes nothing is written, and a deleted resource takes everything with it."""

import time
from datetime import datetime

import pytest

from e2e.cluster.daemon import docker_session
from e2e.stack import OPERATOR_NAMESPACE, Stack, condition, wait_for
from e2e.tests.audit import writes
from e2e.tests.conftest import Apply, until_ready
from e2e.tests.resources import auto

OPERATOR_USER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:dopd"
JUDGED_SECONDS = 150.0
QUIET_SECONDS = 60.0
SETTLING = 3
"""So many minutes may go by until one is quiet: of what was learnt in the first ones the status still tells."""
CHILDREN = (
    "deployments,controllerrevisions,pods,services,serviceaccounts,roles,rolebindings,poddisruptionbudgets,configmaps"
)


@pytest.mark.timeout(540, func_only=True)
def test_at_rest_only_the_lease_is_written_and_deletion_needs_no_operator(stack: Stack, apply: Apply) -> None:
    name = apply(auto("rest"))
    until_ready(stack, name)
    wait_for(lambda: judged(stack, name), "the forecaster is judged", timeout_seconds=JUDGED_SECONDS)
    for _ in range(SETTLING):
        start = datetime.now().astimezone()
        time.sleep(QUIET_SECONDS)
        with docker_session(stack.cluster.docker_host) as docker:
            done = writes(stack.audit_log(docker), since=start, user=OPERATOR_USER)
        if {write.resource for write in done} == {"leases"}:
            break
    assert {write.resource for write in done} == {"leases"}

    stack.kubectl("-n", OPERATOR_NAMESPACE, "scale", "deployment/dopd", "--replicas=0")
    try:
        stack.kubectl("delete", "pdi", name, "--timeout=10s")
        wait_for(lambda: children(stack, name) == "", "all children are gone", timeout_seconds=60)
    finally:
        stack.kubectl("-n", OPERATOR_NAMESPACE, "scale", "deployment/dopd", "--replicas=1")
        stack.kubectl("-n", OPERATOR_NAMESPACE, "rollout", "status", "deployment/dopd", "--timeout=60s")


def judged(stack: Stack, name: str) -> bool:
    """Whether the first whole minute of the resource is over: from then on a condition tells of its forecaster."""
    told = condition(stack.inference(name), "ForecastTrusted")
    pending = told.get("reason") == "ForecastPending" or told.get("message", "no history").startswith("no history")
    return not pending


def children(stack: Stack, name: str) -> str:
    """Names of what is left of a resource."""
    return stack.kubectl("get", CHILDREN, "-l", f"dopd.dev/instance={name}", "-o", "name").strip()
