"""What engines and gateway are told so that requests without a deadline stand behind all others."""

import json
from typing import Any

import pytest

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.workloads import Owner
from dopd.workloads.batch import CLASSES_ANNOTATION
from dopd.workloads.engines import engine_flags
from dopd.workloads.router import Gateway, router_deployment
from dopd.workloads.scheduling import scheduling_config
from dopd_sglang.prefill_order.settings import parse


@pytest.fixture
def batch(raw_spec: dict[str, Any]) -> dict[str, Any]:
    raw_spec["scheduling"] = {"batch": {"slotShare": 0.3, "maxWait": "2h", "queueTimeout": "10m"}}
    return raw_spec


def read(raw: dict[str, Any]) -> DisaggregatedInferenceSpec:
    return DisaggregatedInferenceSpec.model_validate(raw)


def gateway(owner: Owner, spec: DisaggregatedInferenceSpec) -> dict[str, Any]:
    template: dict[str, Any] = router_deployment(owner, spec, Gateway("llama-router", 2))["spec"]["template"]
    return template


def flags(spec: DisaggregatedInferenceSpec, role: Role) -> list[str]:
    return engine_flags(spec, role, spec.prefill if role is Role.PREFILL else spec.decode)


def test_without_the_field_nothing_tells_a_batch_apart(owner: Owner, spec: DisaggregatedInferenceSpec):
    assert "--enable-priority-scheduling" not in flags(spec, Role.DECODE)
    template = gateway(owner, spec)
    assert "annotations" not in template["metadata"]
    assert not any("priority" in word for word in template["spec"]["containers"][0]["command"])
    assert not parse(scheduling_config(owner, spec)["data"]["scheduling.json"]).batch


def test_the_plugin_is_told(owner: Owner, batch: dict[str, Any]):
    told = parse(scheduling_config(owner, read(batch))["data"]["scheduling.json"])
    assert told.batch
    assert told.batch_wait_seconds == 7200
    del batch["scheduling"]["batch"]["maxWait"]
    told = parse(scheduling_config(owner, read(batch))["data"]["scheduling.json"])
    assert told.batch
    assert told.batch_wait_seconds == float("inf")


def test_decode_engines_go_by_priority_and_prefill_engines_by_the_plugin(batch: dict[str, Any]):
    decode = " ".join(flags(read(batch), Role.DECODE))
    assert "--enable-priority-scheduling --disable-priority-preemption --default-priority-value 0" in decode
    assert "--retraction-policy priority" in decode
    assert "--enable-priority-scheduling" not in flags(read(batch), Role.PREFILL)


def test_workers_that_may_change_their_role_have_one_set_of_flags(batch: dict[str, Any]):
    batch["roleSwitching"] = {"enabled": True}
    assert "--enable-priority-scheduling" not in flags(read(batch), Role.DECODE)


def test_the_gateway_keeps_the_rest_of_the_slots_from_the_batch(owner: Owner, batch: dict[str, Any]):
    template = gateway(owner, read(batch))
    [container] = template["spec"]["containers"]
    path = container["command"][container["command"].index("--priority-scheduler-config") + 1]
    [mount], [volume] = container["volumeMounts"], template["spec"]["volumes"]
    [item] = volume["downwardAPI"]["items"]
    assert path == f"{mount['mountPath']}/{item['path']}"
    assert item["fieldRef"]["fieldPath"] == f"metadata.annotations['{CLASSES_ANNOTATION}']"
    classes = json.loads(template["metadata"]["annotations"][CLASSES_ANNOTATION])["classes"]
    replicas = read(batch).router.replicas
    assert classes["default"]["reserved_per_slot"] == pytest.approx(1 - 0.3 / replicas)
    assert classes["default"]["can_preempt"]
    assert classes["bulk"]["queue_timeout_secs"] == 600
    assert not classes["bulk"]["can_preempt"]
    assert {name: each["reserved_floor"] for name, each in classes.items()} == dict.fromkeys(
        ("system", "interactive", "default", "bulk"), 0
    )
