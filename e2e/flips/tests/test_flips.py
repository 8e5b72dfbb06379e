"""Workers change their role under load, with the real gateway: no request is lost, no pod is replaced.

FLIPS says how many (20). Prints how long they took, from the loss of the label until it came back.
"""

import os
import re
import statistics
from functools import partial
from typing import Any

from e2e.load import Schedule
from e2e.stack import OPERATOR_NAMESPACE, Stack, wait_for
from e2e.tests.conftest import Apply, until_ready
from e2e.tests.losses import none_lost
from e2e.tests.resources import GATEWAY_NODE_PORT, changed, static

Json = dict[str, Any]
FLIPS = int(os.environ.get("FLIPS", "20"))
LOAD = Schedule.steady(requests_per_second=6, seconds=600, input_tokens=200, output_tokens=200)
MOST_SECONDS = 60
"""Of two flips at once, gateway and operator included."""


def test_no_request_is_lost_while_workers_change_their_role(stack: Stack, apply: Apply) -> None:
    resource = convertible("flips")
    name = apply(resource)
    until_ready(stack, name)
    before, shapes = uids(stack, name), ((3, 1), (1, 3))
    with none_lost(stack, LOAD):
        for turn in range(FLIPS // 2):
            shape(stack, resource, *shapes[turn % 2])
    assert uids(stack, name) == before
    took = changes_seconds(stack, name)
    print(f"{len(took)} flips, {statistics.median(took):.0f} s each ({min(took):.0f} to {max(took):.0f})")
    assert len(took) == 2 * (FLIPS // 2)


def test_an_operator_that_is_killed_on_the_way_loses_nothing(stack: Stack, apply: Apply) -> None:
    resource = convertible("killed")
    name = apply(resource)
    until_ready(stack, name)
    before = uids(stack, name)
    with none_lost(stack, LOAD):
        for target in ((2, 2), (1, 3)):
            stack.apply(changed(resource, {"prefill__replicas": target[0], "decode__replicas": target[1]}))
            wait_for(lambda: on_their_way(stack, name), "one is on its way", timeout_seconds=30, every_seconds=0.2)
            stack.kubectl("delete", "pods", "--all", "-n", OPERATOR_NAMESPACE, "--force", "--grace-period=0")
            wait_for(partial(settled, stack, name, *target), f"{target} serve", timeout_seconds=120)
    assert uids(stack, name) == before


def convertible(name: str) -> Json:
    return static(name, prefill=1, decode=3, node_port=GATEWAY_NODE_PORT, roleSwitching__enabled=True)


def shape(stack: Stack, resource: Json, prefill: int, decode: int) -> None:
    """Ask for numbers of workers, and wait until they serve."""
    stack.apply(changed(resource, {"prefill__replicas": prefill, "decode__replicas": decode}))
    name = resource["metadata"]["name"]
    what = f"{prefill} prefill and {decode} decode workers serve"
    wait_for(lambda: settled(stack, name, prefill, decode), what, timeout_seconds=MOST_SECONDS)


def settled(stack: Stack, name: str, prefill: int, decode: int) -> bool:
    status: Json = (stack.inference(name) or {}).get("status", {})
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
    told = all(conditions.get(kind) == "True" for kind in ("WorkersAvailable", "RouterInSync"))
    numbers = {role: (status[role]["ready"], len(stack.pods(name, role))) for role in ("prefill", "decode")}
    return told and numbers == {"prefill": (prefill, prefill), "decode": (decode, decode)}


def on_their_way(stack: Stack, name: str) -> bool:
    return any("dopd.dev/flip-to" in pod["metadata"].get("annotations", {}) for pod in stack.pods(name))


def uids(stack: Stack, name: str) -> set[str]:
    return {pod["metadata"]["uid"] for role in ("prefill", "decode") for pod in stack.pods(name, role)}


def changes_seconds(stack: Stack, name: str) -> list[int]:
    """What the Events of a resource tell of finished changes."""
    events = stack.items("/apis/events.k8s.io/v1/namespaces/default/events")
    mine = [e["note"] for e in events if e["reason"] == "RoleChanged" and e["regarding"]["name"] == name]
    return [int(found[1]) for note in mine if (found := re.search(r"(\d+) s after", note))]
