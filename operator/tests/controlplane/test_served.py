"""The resources as the API server serves them: documented, pruned, with a status apart from the spec."""

from typing import Any

import httpx
import pytest

from dopd.cluster import kinds
from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.errors import ClusterError

from .admission import INFERENCE, PROFILE, changed
from .resources import connect, eventually

MERGE = {"content-type": "application/merge-patch+json"}
STATUS: dict[str, Any] = {
    "prefill": {"desired": 3, "ready": 2, "summary": "3/2"},
    "decode": {"desired": 4, "ready": 4, "summary": "4/4"},
    "ratio": {"desired": "3:4", "current": "1:2"},
    "mode": "Auto",
    "conditions": [
        {"type": "Ready", "status": "True", "reason": "AsExpected", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    ],
}


def apply(api: httpx.Client, path: str, manifest: dict[str, Any], **query: str) -> httpx.Response:
    """Server-side apply."""
    headers = {"content-type": "application/apply-patch+yaml"}
    return api.patch(path, params={"fieldManager": "git", **query}, json=manifest, headers=headers)


@pytest.fixture(scope="module")
def published(plane: ControlPlane, crds: None) -> None:
    """The API server's OpenAPI document tells of the resources: it follows their definition by a moment."""

    def known() -> bool:
        try:
            return bool(plane.kubectl("explain", "pdi") and plane.kubectl("explain", "engineprofiles"))
        except ClusterError:
            return False

    eventually(known, "kubectl explain pdi")


@pytest.fixture
def stored(api: httpx.Client, crds: None, namespace: str) -> str:
    """Path of a stored resource."""
    api.post(kinds.INFERENCE.path(namespace), json=INFERENCE).raise_for_status()
    return kinds.INFERENCE.path(namespace, "llama")


def test_the_model_can_not_change(api: httpx.Client, stored: str):
    answer = api.patch(stored, json={"spec": {"model": "other"}}, headers=MERGE)
    assert answer.status_code == 422
    assert "spec.model: Invalid value" in answer.json()["message"]
    assert "cannot change; create another resource" in answer.json()["message"]


def test_spec_and_status_are_written_apart(api: httpx.Client, stored: str):
    answer = api.patch(stored, json={"status": STATUS}, headers=MERGE).raise_for_status().json()
    assert answer["status"] == {"observedGeneration": -1}, "not seen yet"
    change = {"spec": {"model": "other"}, "status": STATUS}
    answer = api.patch(f"{stored}/status", json=change, headers=MERGE).raise_for_status().json()
    assert answer["status"]["mode"] == "Auto"
    assert answer["spec"] == INFERENCE["spec"]
    assert answer["metadata"]["generation"] == 1, "a status is no new generation"


def test_kubectl_get_shows_the_workers(plane: ControlPlane, api: httpx.Client, stored: str, namespace: str):
    api.patch(f"{stored}/status", json={"status": STATUS}, headers=MERGE).raise_for_status()
    head, row = plane.kubectl("get", "pdi", f"--namespace={namespace}").splitlines()
    assert head.split() == ["NAME", "P", "D", "RATIO", "MODE", "READY", "REASON", "AGE"]
    assert row.split()[:7] == ["llama", "3/2", "4/4", "1:2", "Auto", "True", "AsExpected"]


def test_kubectl_get_shows_profiles(plane: ControlPlane, api: httpx.Client, crds: None, namespace: str):
    api.post(kinds.PROFILE.path(namespace), json=PROFILE).raise_for_status()
    head, row = plane.kubectl("get", "engineprofiles", f"--namespace={namespace}").splitlines()
    assert head.split() == ["NAME", "MODEL", "GPU", "GPUS", "ORIGIN", "AGE"]
    assert row.split()[1:3] == [PROFILE["spec"]["model"], "h100_sxm"]


def test_an_unknown_field_is_dropped_where_the_client_does_not_ask_for_strictness(
    api: httpx.Client, crds: None, namespace: str
):
    manifest = changed(INFERENCE, {"spec.scaling.behaviour": {"maxStep": 1}})
    query = {"fieldValidation": "Warn"}
    answer = api.post(kinds.INFERENCE.path(namespace), params=query, json=manifest).raise_for_status()
    assert answer.json()["spec"] == INFERENCE["spec"]
    assert "spec.scaling.behaviour" in answer.headers["warning"]


def test_server_side_apply_refuses_an_unknown_field_in_any_case(api: httpx.Client, crds: None, namespace: str):
    manifest = changed(INFERENCE, {"spec.scaling.behaviour": {"maxStep": 1}})
    answer = apply(api, kinds.INFERENCE.path(namespace, "llama"), manifest, fieldValidation="Ignore")
    assert answer.status_code == 500, answer.text  # the server's own choice of a status
    assert ".spec.scaling.behaviour: field not declared in schema" in answer.json()["message"]


def test_null_in_a_template_outlives_a_change_by_server_side_apply(api: httpx.Client, crds: None, namespace: str):
    for note in ("first", "second"):
        template = {"metadata": {"annotations": {"note": note}}, "spec": {"securityContext": None}}
        manifest = changed(INFERENCE, {"spec.prefill.template": template})
        answer = apply(api, kinds.INFERENCE.path(namespace, "llama"), manifest, fieldValidation="Strict")
        assert answer.raise_for_status().json()["spec"]["prefill"]["template"] == template


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("pdi.spec.scaling.gpuBudget.max", "Most GPUs, starting and draining workers included."),
        ("pdi.spec.scaling.behavior.interval", "Defaults to 15s."),
        ("pdi.status.conditions", "Aspects of the state"),
        ("engineprofiles.spec.decode.kvTokens", "Tokens of KV cache that one engine holds"),
    ],
)
def test_kubectl_explains_the_fields(plane: ControlPlane, published: None, field: str, words: str):
    text = " ".join(plane.kubectl("explain", field).split())
    assert words in text


def test_a_user_who_may_edit_resources_may_not_set_their_status(plane: ControlPlane, stored: str, namespace: str):
    create = ("create", f"--namespace={namespace}")
    plane.kubectl(*create, "role", "author", "--verb=get,patch", "--resource=disaggregatedinferences.dopd.dev")
    plane.kubectl(*create, "rolebinding", "author", "--role=author", "--user=ann")
    with connect(plane.kubeconfig_for("ann")) as ann:
        assert ann.patch(stored, json={"metadata": {"labels": {"a": "b"}}}, headers=MERGE).status_code == 200
        assert ann.patch(f"{stored}/status", json={"status": STATUS}, headers=MERGE).status_code == 403


def test_no_short_name_is_taken(api: httpx.Client, crds: None):
    """kubectl would choose Kubernetes' own kind, without a word."""
    groups = [group["preferredVersion"]["groupVersion"] for group in api.get("/apis").json()["groups"]]
    names: dict[str, set[str]] = {}
    for version in ("api/v1", *(f"apis/{group}" for group in groups)):
        for kind in api.get(f"/{version}").json()["resources"]:
            for name in (kind["name"], kind.get("singularName"), *kind.get("shortNames", [])):
                names.setdefault(name, set()).add(f"{version.rpartition('/')[0]}/{kind['name'].partition('/')[0]}")
    for name in ("pdi", "dopdprofile", "engineprofile"):
        assert len(names[name]) == 1, name


def test_what_was_stored_before_a_rule_came_can_still_be_changed(api: httpx.Client, crds: None, namespace: str):
    """A field that broke a rule before it existed does not keep its author from changing another one."""
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kinds.INFERENCE.plural}.{kinds.INFERENCE.group}"
    definition = api.get(path).json()
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    rules = schema["engine"]["properties"]["args"].pop("x-kubernetes-validations")
    api.put(path, json=definition).raise_for_status()
    old = changed(INFERENCE, {"spec.engine.args": ["--tp", "2"]})

    def stored() -> bool:
        return api.post(kinds.INFERENCE.path(namespace), json=old).status_code == 201

    eventually(stored, "the definition without the rule")
    definition = api.get(path).json()
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    schema["engine"]["properties"]["args"]["x-kubernetes-validations"] = rules
    api.put(path, json=definition).raise_for_status()
    new = {**old, "metadata": {"name": "other"}}
    eventually(
        lambda: api.post(kinds.INFERENCE.path(namespace), params={"dryRun": "All"}, json=new).status_code == 422,
        "the definition with the rule",
    )
    answer = api.patch(
        kinds.INFERENCE.path(namespace, "llama"), json={"spec": {"slo": {"ttftSeconds": 2}}}, headers=MERGE
    )
    assert answer.status_code == 200, answer.text
