"""Server-side apply that is silent when there is nothing to say."""

import copy
from typing import Any

from dopd.cluster.apply import Applier, project

MANIFEST: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "m-decode", "namespace": "ns"},
    "spec": {"replicas": 1, "cpu": "1000m"},
}


class Server:
    """Stores what is applied as a real server does: rewritten, with more fields."""

    def __init__(self) -> None:
        self.writes = 0

    async def apply(self, kind: object, manifest: dict[str, Any], subresource: str = "") -> dict[str, Any]:
        self.writes += 1
        stored = copy.deepcopy(manifest)
        stored["spec"]["cpu"] = "1"
        stored["spec"]["paused"] = False
        return stored


async def test_the_first_apply_writes_and_the_next_does_not():
    server = Server()
    applier = Applier(server)  # type: ignore[arg-type]
    assert await applier.apply(MANIFEST, None)
    live = await server.apply(None, MANIFEST)
    server.writes = 0
    assert not await applier.apply(MANIFEST, live)
    assert server.writes == 0


async def test_a_change_of_the_manifest_a_drift_and_a_deletion_are_written():
    server = Server()
    applier = Applier(server)  # type: ignore[arg-type]
    await applier.apply(MANIFEST, None)
    live = await server.apply(None, MANIFEST)
    drifted = copy.deepcopy(live)
    drifted["spec"]["replicas"] = 5
    assert await applier.apply(MANIFEST, drifted)
    assert await applier.apply(MANIFEST, None)
    changed = {**MANIFEST, "spec": {"replicas": 2, "cpu": "1000m"}}
    assert await applier.apply(changed, live)


async def test_after_a_restart_each_child_is_applied_once():
    server = Server()
    live = await server.apply(None, MANIFEST)
    assert await Applier(server).apply(MANIFEST, live)  # type: ignore[arg-type]


async def test_forgetting_a_resource_leaves_others_alone():
    server = Server()
    applier = Applier(server)  # type: ignore[arg-type]
    await applier.apply(MANIFEST, None)
    live = await server.apply(None, MANIFEST)
    applier.forget("ns", "other")
    assert not await applier.apply(MANIFEST, live)
    applier.forget("ns", "m")
    assert await applier.apply(MANIFEST, live)


def test_a_projection_ignores_what_the_manifest_does_not_name_and_keeps_lists_whole():
    live = {"a": 1, "b": {"c": 2, "d": 3}, "ports": [{"name": "x"}, {"name": "y"}]}
    assert project(live, {"b": {"c": 0}, "ports": []}) == {"b": {"c": 2}, "ports": live["ports"]}
