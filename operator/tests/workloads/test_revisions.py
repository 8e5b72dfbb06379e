"""What makes a new revision, and what pods of it are called."""

import copy
from typing import Any

import pytest

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.workloads import Owner
from dopd.workloads.engines import worker_template
from dopd.workloads.meta import Manifest
from dopd.workloads.revisions import Revision, new_names, revision_of, stored_revision, worker_pod


def name(owner: Owner, raw_spec: dict[str, Any], role: Role = Role.DECODE) -> str:
    spec = DisaggregatedInferenceSpec.model_validate(raw_spec)
    return revision_of(owner, role, worker_template(owner, spec, role)).name


@pytest.mark.parametrize(
    "changes",
    [
        {"slo": {"ttftSeconds": 3}},
        {"decode": {"gpus": 1, "replicas": 7, "args": ["--max-running-requests", "128"]}},
        {"router": {"image": "smg:2"}},
        {"rollout": {"onFailure": "RollBack"}},
        {"scheduling": {"policy": "ShortestFirst"}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_needs_no_restart_makes_no_revision(owner: Owner, raw_spec: dict[str, Any], changes: dict[str, Any]):
    assert name(owner, {**raw_spec, **changes}) == name(owner, raw_spec)


@pytest.mark.parametrize(
    "changes",
    [
        {"engine": {"image": "sglang:v0.5.24"}},
        {"engine": {"image": "sglang:v0.5.23", "args": ["--page-size", "64"]}},
        {"decode": {"gpus": 2, "replicas": 3}},
        {"decode": {"gpus": 1, "replicas": 3, "template": {"spec": {"nodeSelector": {"gpu": "h200"}}}}},
        {"decode": {"gpus": 1, "replicas": 3, "template": {"metadata": {"labels": {"team": "chat"}}}}},
    ],
    ids=["image", "arguments", "GPUs", "template", "labels"],
)
def test_what_workers_are_made_from_makes_one(owner: Owner, raw_spec: dict[str, Any], changes: dict[str, Any]):
    assert name(owner, {**raw_spec, **changes}) != name(owner, raw_spec)


def test_a_change_of_one_role_is_none_of_the_other(owner: Owner, raw_spec: dict[str, Any]):
    changed = {**raw_spec, "decode": {"gpus": 1, "replicas": 3, "args": ["--max-running-requests", "64"]}}
    assert name(owner, changed, Role.PREFILL) == name(owner, raw_spec, Role.PREFILL)


def test_labels_of_our_own_are_no_part_of_it(owner: Owner, spec: DisaggregatedInferenceSpec):
    template = worker_template(owner, spec, Role.DECODE)
    other = copy.deepcopy(template)
    other["metadata"]["labels"]["dopd.dev/role"] = "prefill"
    assert revision_of(owner, Role.DECODE, other).name == revision_of(owner, Role.DECODE, template).name


def test_the_same_workers_get_the_same_names_whoever_starts_them(owner: Owner):
    revision = Revision("a1", {"spec": {}})
    taken = {"llama-decode-a1-0", "llama-decode-a1-2"}
    assert new_names(owner, Role.DECODE, revision, taken, 2) == ["llama-decode-a1-1", "llama-decode-a1-3"]


@pytest.mark.parametrize(
    ("said", "spread"),
    [
        ({}, True),
        ({"affinity": {"nodeAffinity": {}}}, True),
        ({"affinity": {"podAntiAffinity": {}}}, False),
        ({"topologySpreadConstraints": []}, False),
    ],
)
def test_workers_of_a_role_keep_apart_unless_the_template_says_where_they_go(
    owner: Owner, said: Manifest, spread: bool
):
    pod = worker_pod(owner, Role.DECODE, Revision("a1", {"spec": said}), "w", 1)
    assert (pod["spec"] != said) is spread
    for constraint in pod["spec"].get("topologySpreadConstraints", []):
        assert constraint["whenUnsatisfiable"] == "ScheduleAnyway", "a full cluster takes them all the same"
        assert constraint["labelSelector"] == {"matchLabels": owner.selector(Role.DECODE)}


def test_a_worker_belongs_to_the_resource_and_tells_its_revision(owner: Owner, spec: DisaggregatedInferenceSpec):
    revision = revision_of(owner, Role.PREFILL, worker_template(owner, spec, Role.PREFILL))
    pod = worker_pod(owner, Role.PREFILL, revision, "p", gpus=2)
    assert pod["metadata"]["ownerReferences"][0]["controller"] is True
    assert pod["metadata"]["labels"]["dopd.dev/revision"] == revision.name
    assert pod["metadata"]["annotations"]["dopd.dev/gpus"] == "2"
    assert "dopd.dev/revision" not in revision.template["metadata"]["labels"], "the template stays as it was"
    kept = stored_revision(owner, Role.PREFILL, revision)
    assert kept["data"] == revision.template
    assert kept["metadata"]["name"] == f"llama-prefill-{revision.name}"
