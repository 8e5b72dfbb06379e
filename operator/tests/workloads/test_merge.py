"""A user's pod template over the operator's, by the rules of Kubernetes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.workloads.merge import MOST_LEVELS, overlay
from dopd.workloads.refusal import Refusal

ENGINE: dict[str, Any] = {
    "name": "engine",
    "image": "x",
    "command": ["serve"],
    "env": [{"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
    "ports": [{"name": "http", "containerPort": 30000}],
    "readinessProbe": {"httpGet": {"path": "/ready", "port": 30000}, "periodSeconds": 2},
    "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}, {"name": "cache", "mountPath": "/cache"}],
}
BASE: dict[str, Any] = {
    "metadata": {"labels": {"a": "1"}},
    "spec": {
        "containers": [ENGINE],
        "tolerations": [{"key": "own"}],
        "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}, {"name": "cache", "emptyDir": {}}],
    },
}


def merged(**spec: Any) -> dict[str, Any]:
    result: dict[str, Any] = overlay(BASE, {"spec": spec}, "spec.prefill.template")["spec"]
    return result


def engine(**fields: Any) -> dict[str, Any]:
    """The engine's container with these fields of the user."""
    result: dict[str, Any] = merged(containers=[{"name": "engine", **fields}])["containers"][0]
    return result


def test_maps_merge_key_by_key_and_null_removes():
    told = overlay(BASE, {"metadata": {"labels": {"a": None, "b": "2"}, "annotations": {"c": "3"}}}, "template")
    assert told["metadata"] == {"labels": {"b": "2"}, "annotations": {"c": "3"}}


def test_containers_merge_by_name():
    containers = merged(containers=[{"name": "side"}, {"name": "engine", "image": "y"}])["containers"]
    assert containers == [{**ENGINE, "image": "y"}, {"name": "side"}]


def test_two_mounts_of_one_volume_are_two_mounts():
    mounts = [
        {"name": "data", "mountPath": "/a", "readOnly": True},
        {"name": "data", "mountPath": "/b", "subPath": "b"},
        {"name": "shm", "mountPath": "/scratch"},
    ]
    assert engine(volumeMounts=mounts)["volumeMounts"] == [*ENGINE["volumeMounts"], *mounts]


@pytest.mark.parametrize("path", ["/dev/shm", "/dev/shm/"])
def test_a_mount_at_the_operators_place_takes_it(path: str):
    assert engine(volumeMounts=[{"name": "mine", "mountPath": path}])["volumeMounts"] == [
        {"name": "mine", "mountPath": path},
        ENGINE["volumeMounts"][1],
    ]


def test_ports_merge_by_number_and_protocol():
    ports = [
        {"name": "api", "containerPort": 30000, "protocol": "TCP"},
        {"name": "quic", "containerPort": 30000, "protocol": "UDP"},
    ]
    assert engine(ports=ports)["ports"] == ports
    assert engine(ports=[{"containerPort": 30000}])["ports"] == ENGINE["ports"]


def test_topology_constraints_are_told_apart_by_both_keys():
    constraints = [
        {"topologyKey": "zone", "whenUnsatisfiable": when, "maxSkew": 1} for when in ("DoNotSchedule", "ScheduleAnyway")
    ]
    assert merged(topologySpreadConstraints=constraints)["topologySpreadConstraints"] == constraints


def test_lists_without_keys_are_replaced_whole():
    assert merged(tolerations=[{"key": "theirs"}])["tolerations"] == [{"key": "theirs"}]
    assert engine(command=["other"])["command"] == ["other"]


@pytest.mark.parametrize(
    ("field", "theirs", "expected"),
    [
        ("env", [{"name": "HOST_IP", "value": "::1"}], [{"name": "HOST_IP", "value": "::1"}]),
        (
            "env",
            [{"name": "HOST_IP", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            [{"name": "HOST_IP", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        ),
        ("readinessProbe", {"tcpSocket": {"port": 1}}, {"tcpSocket": {"port": 1}, "periodSeconds": 2}),
        (
            "readinessProbe",
            {"httpGet": {"path": "/health"}, "timeoutSeconds": 9},
            {"httpGet": {"path": "/health", "port": 30000}, "periodSeconds": 2, "timeoutSeconds": 9},
        ),
    ],
)
def test_another_member_of_a_union_takes_the_place_of_the_operators(field: str, theirs: Any, expected: Any):
    assert engine(**{field: theirs})[field] == expected


def test_a_volume_has_one_source():
    claim = {"name": "cache", "persistentVolumeClaim": {"claimName": "c"}}
    assert merged(volumes=[claim])["volumes"] == [BASE["spec"]["volumes"][0], claim]
    limited = {"name": "shm", "emptyDir": {"sizeLimit": "1Gi"}}
    assert merged(volumes=[limited])["volumes"][0]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ({"spec": {"containers": {}}}, ["template.spec.containers: is an object", "a list"]),
        ({"spec": {"containers": [{"image": "y"}]}}, ["template.spec.containers[0]: has no name"]),
        ({"spec": {"containers": ["engine"]}}, ["template.spec.containers[0]: is text", "an object"]),
        ({"spec": {"initContainers": {"name": "x"}}}, ["template.spec.initContainers: is an object"]),
        ({"metadata": "x"}, ["template.metadata: is text", "an object"]),
        ({"metadata": {"labels": ["a"]}}, ["template.metadata.labels: is a list"]),
        (
            {"spec": {"containers": [{"name": "engine", "env": [{"name": "A", "value": "1"}, {"name": "A"}]}]}},
            ["template.spec.containers[engine].env[A]: is there twice"],
        ),
        (
            {"spec": {"containers": [{"name": "side", "volumeMounts": [{"name": "x", "mountPath": "/a"}] * 2}]}},
            ["template.spec.containers[side].volumeMounts[/a]: is there twice"],
        ),
        ({"spec": {"volumes": [{"name": {"a": 1}}]}}, ["template.spec.volumes[0]: has no name"]),
    ],
)
def test_what_can_not_be_merged_is_refused_by_name(template: dict[str, Any], words: list[str]):
    with pytest.raises(Refusal) as caught:
        overlay(BASE, template, "template")
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("wrap", [lambda inner: {"a": inner}, lambda inner: [inner]])
def test_no_pod_is_nested_that_deep(wrap):
    deep: Any = "x"
    for _ in range(MOST_LEVELS + 900):
        deep = wrap(deep)
    for name in ("affinity", "tolerations"):
        with pytest.raises(Refusal, match=r"spec\.\w+.* nested more than"):
            overlay(BASE, {"spec": {name: [deep] if name == "tolerations" else {"b": deep}}}, "template")


scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
trees = st.recursive(
    scalars, lambda inner: st.dictionaries(st.text("abc", max_size=2), inner, max_size=3), max_leaves=8
)


@given(st.dictionaries(st.text("abc", max_size=2), trees, max_size=3))
def test_an_empty_template_changes_nothing(base: dict[str, Any]):
    assert overlay(base, {}, "template") == base


def test_neither_side_is_changed():
    over: dict[str, Any] = {"spec": {"containers": [{"name": "engine", "env": [{"name": "HOST_IP", "value": "1"}]}]}}
    before = repr((BASE, over))
    overlay(BASE, over, "template")
    assert repr((BASE, over)) == before
