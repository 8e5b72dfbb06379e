"""Health in Argo CD: of statuses that an operator wrote, and of each reason that a condition can have."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dopd.api.conditions import REASONS, ConditionReason, ConditionType

from .lua import health

STATUSES = Path(__file__).parent / "statuses"
"""Recorded by controlplane/test_gitops.py, each named after its health and what it shows."""

BROKEN = {
    ConditionReason.INVALID_SPEC,
    ConditionReason.SPEC_REFUSED,
    ConditionReason.CHILD_REFUSED,
    ConditionReason.NAME_TAKEN,
    ConditionReason.PORT_TAKEN,
    ConditionReason.NO_LEADER_WORKER_SETS,
    ConditionReason.IMAGE_PULL,
    ConditionReason.CONFIG,
    ConditionReason.CRASHING,
    ConditionReason.ROLLOUT_HELD,
    ConditionReason.ROLLED_BACK,
    ConditionReason.NO_SPARE_GPU,
    ConditionReason.ROUTER_OUT_OF_SYNC,
    ConditionReason.API_KEY_UNREADABLE,
    ConditionReason.NO_PROFILE,
}
"""What a person has to mend."""
FOR_ALERTS = {
    ConditionType.SPEC_HONORED,
    ConditionType.TOPOLOGY_HONORED,
    ConditionType.SCHEDULING_ACTIVE,
    ConditionType.PROFILE_MATCHES,
    ConditionType.METRICS_AVAILABLE,
    ConditionType.FORECAST_TRUSTED,
    ConditionType.BUDGET_LIMITED,
    ConditionType.GPUS_GRANTED,
}
"""What says nothing of whether the cluster is as Git says."""


def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((STATUSES / f"{name}.yaml").read_text())
    return found


@pytest.mark.parametrize("name", sorted(path.stem for path in STATUSES.iterdir()))
def test_recorded_statuses_have_the_health_of_their_name(name: str):
    status, message = health(recorded(name))
    assert status.lower() == name.partition("-")[0], message
    assert message


def test_each_kind_of_health_was_recorded():
    names = {path.stem.partition("-")[0] for path in STATUSES.iterdir()}
    assert names == {"healthy", "progressing", "degraded", "suspended"}


@pytest.mark.parametrize(("kind", "reason"), [(kind, reason) for kind in REASONS for reason in REASONS[kind]])
def test_each_reason_has_a_health(kind: ConditionType, reason: ConditionReason):
    resource = recorded("healthy-serving")
    others = [condition for condition in resource["status"]["conditions"] if condition["type"] != kind]
    bad = {"type": kind.value, "status": "False", "reason": reason.value, "message": "do this"}
    resource["status"]["conditions"] = [*others, bad]
    status, message = health(resource)
    if kind in FOR_ALERTS:
        assert status == "Healthy"
    else:
        assert (status, message) == ("Degraded" if reason in BROKEN else "Progressing", f"{reason}: do this")


def test_what_is_broken_counts_more_than_what_moves():
    resource = recorded("healthy-serving")
    for condition in resource["status"]["conditions"]:
        if condition["type"] in ("Ready", "RolledOut"):
            condition["status"] = "False"
            condition["reason"] = "Starting" if condition["type"] == "Ready" else "RolloutHeld"
    assert health(resource)[0] == "Degraded"


def test_a_status_of_an_older_generation_says_nothing():
    resource = recorded("degraded-held")
    resource["metadata"]["generation"] += 1
    assert health(resource)[0] == "Progressing"


@pytest.mark.parametrize("status", [None, {}, {"observedGeneration": -1}, {"observedGeneration": 1, "conditions": []}])
def test_a_resource_that_nobody_saw_is_progressing(status: dict[str, Any] | None):
    assert health({"metadata": {"generation": 1}, "status": status})[0] == "Progressing"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, "Progressing"),
        ({"health": {"status": "Healthy"}}, "Healthy"),
        ({"health": {"status": "Degraded", "message": "m"}}, "Degraded"),
    ],
)
def test_an_application_has_the_health_that_it_tells(status: dict[str, Any], expected: str):
    assert health({"status": status}, "application-health.lua")[0] == expected


@pytest.mark.parametrize(("mode", "expected"), [("Auto", "Healthy"), ("Paused", "Suspended")])
def test_a_resource_that_sleeps_as_its_spec_wants_is_well(mode: str, expected: str):
    resource = recorded("healthy-serving")
    resource["status"]["mode"] = mode
    for condition in resource["status"]["conditions"]:
        if condition["type"] == "Ready":
            condition["reason"] = "Asleep"
    status, message = health(resource)
    assert status == expected
    assert message.startswith("asleep: ")
