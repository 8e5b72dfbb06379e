"""What GitOps tools see while a resource lives: health in Argo CD by Lua, kstatus (Flux) by real Helm, no drift."""

import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from dopd.cluster import kinds
from e2e.cluster.controlplane import ControlPlane

from ..gitops.lua import health
from ..gitops.test_health import STATUSES
from .chart import helm
from .cluster import MERGE
from .resources import inference
from .runs import Run, create

pytestmark = pytest.mark.timeout(120)
RECORD = "DOPD_RECORD_STATUSES"
"""With this variable set, the statuses that are seen here are written for gitops/test_health.py."""


@pytest.fixture
def life(run: Run) -> Run:
    return run


def seen(life: Run, what: str) -> str:
    """Health of the resource now; recorded as HEALTH-WHAT where that is asked for."""
    resource = life.resource
    status, message = health(resource)
    if os.environ.get(RECORD):
        kept = {
            **{key: resource[key] for key in ("apiVersion", "kind")},
            "metadata": {key: resource["metadata"][key] for key in ("name", "generation")},
            **{key: resource[key] for key in ("spec", "status")},
        }
        text = f"# Recorded by controlplane/test_gitops.py with {RECORD}=1.\n{yaml.safe_dump(kept, sort_keys=False)}"
        (STATUSES / f"{status.lower()}-{what}.yaml").write_text(text)
    assert message
    return status


async def becomes(life: Run, status: str, what: str) -> None:
    """Passes until the resource has a health, which is then recorded."""
    await life.until(f"{status} while {what}", lambda: health(life.resource)[0] == status)
    assert seen(life, what) == status


async def test_health_follows_start_scaling_rollout_and_a_bad_revision(life: Run):
    create(life, 2, 1)
    assert seen(life, "unseen") == "Progressing"
    await becomes(life, "Progressing", "starting")
    await becomes(life, "Healthy", "serving")
    life.change(decode={"replicas": 2})
    assert seen(life, "changed") == "Progressing"
    await life.until("it scales", lambda: life.condition("WorkersAvailable")["reason"] == "Starting")
    assert seen(life, "scaling") == "Progressing"
    await becomes(life, "Healthy", "scaled")
    life.change(engine={"args": ["--chunked-prefill-size", "4096"]})
    await life.until("it rolls", lambda: life.condition("RolledOut")["reason"] == "RollingOut")
    assert seen(life, "rolling") == "Progressing"
    await becomes(life, "Healthy", "rolled")
    life.change(engine={"args": ["--broken"]})
    await becomes(life, "Degraded", "held")
    life.change(engine={"args": []})
    await becomes(life, "Healthy", "mended")


async def test_health_says_what_is_refused(life: Run):
    create(life, 1, 1)
    await life.until("all serve", lambda: life.settled(1, 1))
    life.change(decode={"template": {"spec": {"nodeSelectr": {"a": "b"}}}})
    await becomes(life, "Degraded", "refused")
    assert "nodeSelectr" in health(life.resource)[1]


async def test_workers_that_end_again_and_again_are_no_progress(life: Run):
    create(life, 1, 1, engine={"image": "never.pulled/engine", "imagePullPolicy": "Never", "args": ["--broken"]})
    await becomes(life, "Degraded", "crashing")


async def test_a_paused_resource_is_suspended_and_nothing_drifts(life: Run):
    manifest = json.loads(inference("m"))
    del manifest["spec"]["prefill"]["replicas"], manifest["spec"]["decode"]["replicas"]
    bounds = {"min": 1, "max": 2}
    scaling = {"mode": "Paused", "prefill": bounds, "decode": bounds, "gpuBudget": {"max": 4}}
    manifest["spec"]["scaling"] = {**scaling, "profileRef": {"name": "p"}}
    path = kinds.INFERENCE.path(life.cluster.namespace, "m")
    applied = {"content-type": "application/apply-patch+yaml"}
    life.api.patch(path, params={"fieldManager": "git"}, json=manifest, headers=applied).raise_for_status()
    await becomes(life, "Suspended", "paused")
    resource = life.resource
    assert resource["spec"] == manifest["spec"]
    assert resource["metadata"]["generation"] == 1
    owners = {entry["manager"]: entry for entry in resource["metadata"]["managedFields"]}
    for manager, entry in owners.items():
        assert manager == "git" or set(entry["fieldsV1"]) == {"f:status"}, manager


def test_kstatus_waits_until_requests_are_served(
    plane: ControlPlane, api: httpx.Client, crds: None, namespace: str, tmp_path: Path
):
    """Helm 4 waits by kstatus, as Flux does: for a resource that nobody saw, and for one that does not serve."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("{apiVersion: v2, name: model, version: 0.0.1}")
    (tmp_path / "templates" / "inference.yaml").write_text(inference("m"))
    path = kinds.INFERENCE.path(namespace, "m")

    def waited(generation: int, ready: str) -> str:
        """What `helm upgrade --wait` says while the resource has this status; "" once it is content."""
        told = {"type": "Ready", "status": ready, "reason": "X", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        status: dict[str, Any] = {"observedGeneration": generation, "conditions": [told]}
        api.patch(f"{path}/status", json={"status": status}, headers=MERGE).raise_for_status()
        return upgraded()

    def upgraded() -> str:
        where = (f"--kubeconfig={plane.kubeconfig}", f"--namespace={namespace}")
        done = helm("upgrade", "--install", "m", tmp_path, *where, "--wait", "--timeout=3s")
        return done.stderr if done.returncode else ""

    assert "InProgress" in upgraded()  # nobody saw it
    assert "InProgress" in waited(1, "False")
    assert "InProgress" in waited(0, "True")
    assert waited(1, "True") == ""
