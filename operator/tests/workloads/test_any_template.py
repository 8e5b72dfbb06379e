"""Specs of whatever form: children are built, or what stands in the way is named."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.workloads import Owner, Targets
from dopd.workloads.children import child_builders
from dopd.workloads.engines import worker_template
from dopd.workloads.pod_fields import LIST_KEYS, UNIONS
from dopd.workloads.refusal import Refusal
from dopd.workloads.revisions import revision_of, worker_pod

OWNER = Owner("m", "ns", "uid")
SPEC: dict[str, Any] = {
    "model": "m",
    "engine": {"image": "lmsysorg/sglang:v0.5.23"},
    "prefill": {"gpus": 1, "replicas": 1},
    "decode": {"gpus": 1, "replicas": 1},
    "router": {"image": "smg"},
}
NAMES = sorted(
    {part for path in (*LIST_KEYS, *UNIONS) for part in path.split(".")}
    | {key for keys in LIST_KEYS.values() for key in keys}
    | {"labels", "annotations", "securityContext", "capabilities", "add", "privileged", "runAsUser", "command", "args"}
    | {
        "limits",
        "requests",
        "nvidia.com/gpu",
        "terminationGracePeriodSeconds",
        "sleep",
        "seconds",
        "value",
        "secretKeyRef",
    }
)
WORDS = ["engine", "router", "cache", "shared-memory", "/dev/shm", "http", "HOST_IP", "TCP", "dopd.dev/role", "1", ""]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=30,
)
containers = st.lists(
    st.dictionaries(st.sampled_from(NAMES), anything, max_size=4).map(lambda c: {"name": "engine", **c}) | anything,
    max_size=3,
)
pods = st.dictionaries(st.sampled_from(NAMES), anything, max_size=4)
templates = st.one_of(
    st.dictionaries(st.sampled_from(["metadata", "spec", "x"]), anything, max_size=3),
    st.builds(lambda pod, listed: {"spec": {**pod, "containers": listed}}, pods, containers),
    st.builds(lambda pod, listed: {"spec": {**pod, "containers": listed[:1], "volumes": listed}}, pods, containers),
)
variables = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["A", "B", "HOST_IP"])},
        optional={
            "value": st.text(max_size=3),
            "valueFrom": st.dictionaries(st.text(max_size=3), anything, max_size=2),
        },
    ),
    max_size=4,
)


def built(spec: dict[str, Any]) -> None:
    try:
        read = DisaggregatedInferenceSpec.model_validate(spec)
    except ValidationError:
        return
    named: list[str] = []
    for child in child_builders(OWNER, read, Targets(1, 1)):
        try:
            manifest = child.build()
        except Refusal as refusal:
            named.append(refusal.field)
            continue
        assert (manifest["kind"], manifest["metadata"]["name"]) == (child.kind, child.name)
        json.dumps(manifest)
    for role in Role:
        try:
            revision = revision_of(OWNER, role, worker_template(OWNER, read, role))
            json.dumps(worker_pod(OWNER, role, revision, "p", 1))
        except Refusal as refusal:
            named.append(refusal.field)
    assert all(field.startswith("spec.") for field in named)


@given(templates, templates, variables)
def test_children_are_built_or_what_stands_in_the_way_is_named(
    worker: dict[str, Any], gateway: dict[str, Any], env: list[dict[str, Any]]
):
    gateway = json.loads(json.dumps(gateway).replace('"engine"', '"router"'))
    prefill = {**SPEC["prefill"], "template": worker}
    engine, router = {**SPEC["engine"], "env": env}, {**SPEC["router"], "template": gateway}
    built({**SPEC, "prefill": prefill, "engine": engine, "router": router})


@given(st.sampled_from(["prefill", "decode", "router", "engine"]), st.integers(1, 3_000), st.booleans())
def test_however_deep(part: str, levels: int, lists: bool):
    deep: Any = "x"
    for _ in range(levels):
        deep = [deep] if lists else {"a": deep}
    if part == "engine":
        built({**SPEC, "engine": {**SPEC["engine"], "env": [{"name": "A", "valueFrom": {"a": deep}}]}})
    else:
        built({**SPEC, part: {**SPEC[part], "template": {"spec": {"affinity": {"a": deep}}}}})
