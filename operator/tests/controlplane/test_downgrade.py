"""Definitions that go back to an earlier version: what stays stored, what a write does to it, what comes back."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from dopd.api.crds import build
from dopd.cluster import kinds
from e2e.cluster.controlplane import ControlPlane, control_plane

from .resources import connect, eventually, inference

NEW_FIELD = "roleSwitching"
"""Of the spec: the earlier definition does not know it."""
NEW_MODE = "External"
"""Of spec.scaling.mode: the earlier definition does not take it."""
NAME = "kept"

pytestmark = pytest.mark.timeout(180)
Definition = dict[str, Any]


@pytest.fixture(scope="module")
def cluster() -> Iterator[ControlPlane]:
    """A cluster of this file's own: other files need the definitions as they are."""
    with control_plane(controllers=False) as running:
        yield running


@pytest.fixture(scope="module")
def api(cluster: ControlPlane) -> Iterator[httpx.Client]:
    with connect(cluster.kubeconfig) as connection:
        connection.timeout = httpx.Timeout(30.0)  # a definition that was just changed is compiled first
        yield connection


@pytest.fixture
def resource(cluster: ControlPlane, api: httpx.Client) -> Iterator[None]:
    """A resource under the definition of now, with the field and the mode that are new."""
    install(cluster, api, now())
    scaling = {role: {"min": 1, "max": 2} for role in ("prefill", "decode")} | {"mode": NEW_MODE}
    manifest = json.loads(inference(NAME, scaling=scaling, **{NEW_FIELD: {"enabled": False}}))
    for role in ("prefill", "decode"):
        del manifest["spec"][role]["replicas"]
    api.post(kinds.INFERENCE.path("default"), json=manifest).raise_for_status()
    yield
    install(cluster, api, now())
    api.delete(kinds.INFERENCE.path("default", NAME)).raise_for_status()


def now() -> Definition:
    return next(one for one in build().values() if one["spec"]["names"]["kind"] == kinds.INFERENCE.kind)


def earlier() -> Definition:
    """As a version wrote it that knew neither."""
    definition: Definition = json.loads(json.dumps(now()))
    spec = schema_of_spec(definition)
    del spec["properties"][NEW_FIELD]
    spec["x-kubernetes-validations"] = [r for r in spec["x-kubernetes-validations"] if NEW_FIELD not in r["rule"]]
    spec["properties"]["scaling"]["properties"]["mode"]["enum"].remove(NEW_MODE)
    return definition


def schema_of_spec(definition: Definition) -> dict[str, Any]:
    found: dict[str, Any] = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def install(cluster: ControlPlane, api: httpx.Client, definition: Definition) -> None:
    """Apply a definition, as Helm does, and wait until the API server goes by it."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=json.dumps(definition))
    knows = NEW_FIELD in schema_of_spec(definition)["properties"]
    probe = json.loads(inference(f"probe-{time.monotonic_ns()}", **{NEW_FIELD: {"enabled": True}}))

    def served() -> bool:
        query = {"dryRun": "All", "fieldValidation": "Ignore"}
        answer = api.post(kinds.INFERENCE.path("default"), params=query, json=probe)
        return answer.status_code == 201 and (NEW_FIELD in answer.json()["spec"]) == knows

    eventually(served, "the definition is served", seconds=90.0)


def spec(api: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = api.get(kinds.INFERENCE.path("default", NAME)).raise_for_status().json()["spec"]
    return found


def patch(api: httpx.Client, content: dict[str, Any], subresource: str = "") -> httpx.Response:
    path = kinds.INFERENCE.path("default", NAME) + subresource
    return api.patch(path, json=content, headers={"Content-Type": "application/merge-patch+json"})


def write_status(api: httpx.Client) -> None:
    """As an operator does."""
    patch(api, {"status": {"endpoint": f"http://{time.monotonic_ns()}"}}, "/status").raise_for_status()


def test_a_field_that_the_earlier_definition_lacks_is_hidden_and_comes_back_if_nobody_wrote(
    cluster: ControlPlane, api: httpx.Client, resource: None
):
    before = spec(api)
    install(cluster, api, earlier())
    assert NEW_FIELD not in spec(api)
    install(cluster, api, now())
    assert spec(api) == before


@pytest.mark.parametrize(
    "write", [write_status, lambda api: patch(api, {"metadata": {"labels": {"a": "b"}}}).raise_for_status()]
)
def test_it_is_lost_with_the_first_write_even_of_the_status(
    cluster: ControlPlane, api: httpx.Client, resource: None, write: Callable[[httpx.Client], None]
):
    before = spec(api)
    install(cluster, api, earlier())
    write(api)
    install(cluster, api, now())
    assert spec(api) == {name: value for name, value in before.items() if name != NEW_FIELD} | default_of_field(api)


def default_of_field(api: httpx.Client) -> dict[str, Any]:
    """What the definition of now puts in its place, when it is read."""
    plain = json.loads(inference("probe"))
    answer = api.post(kinds.INFERENCE.path("default"), params={"dryRun": "All"}, json=plain).raise_for_status()
    made: dict[str, Any] = answer.json()["spec"]
    return {NEW_FIELD: made[NEW_FIELD]} if NEW_FIELD in made else {}


def test_a_value_that_it_does_not_take_stays_and_everything_else_can_still_be_changed(
    cluster: ControlPlane, api: httpx.Client, resource: None
):
    install(cluster, api, earlier())
    assert spec(api)["scaling"]["mode"] == NEW_MODE
    write_status(api)
    patch(api, {"spec": {"scaling": {"prefill": {"max": 3}}}}).raise_for_status()
    refused = patch(api, {"spec": {"scaling": {"mode": "Externl"}}})
    assert refused.status_code == 422
    assert spec(api)["scaling"]["mode"] == NEW_MODE
    install(cluster, api, now())
    assert spec(api)["scaling"] | {"mode": NEW_MODE} == spec(api)["scaling"]


def test_there_is_one_version_and_it_is_stored(cluster: ControlPlane, api: httpx.Client, resource: None):
    for definition in build().values():
        assert [(v["name"], v["served"], v["storage"]) for v in definition["spec"]["versions"]] == [
            (kinds.INFERENCE.version, True, True)
        ]
        assert "conversion" not in definition["spec"]
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{now()['metadata']['name']}"
    assert api.get(path).raise_for_status().json()["status"]["storedVersions"] == [kinds.INFERENCE.version]
