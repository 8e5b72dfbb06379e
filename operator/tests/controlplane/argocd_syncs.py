"""A real Argo CD syncs a model (`make gitops`): waves wait for it, it never drifts, it is pruned and deleted.

Not run with the other tests: the first build of Argo CD takes a quarter of an hour.
"""

import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dopd.cluster import kinds
from e2e.cluster.argocd import NAMESPACE, Repository, application, argo_cd, project, settings, waved
from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.errors import ClusterError

from ..gitops.lua import ARGOCD
from .cluster import MERGE, Cluster
from .resources import eventually, inference
from .runs import GPUS, Run, running

pytestmark = pytest.mark.timeout(600)
APPLICATIONS = f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/applications"


@pytest.fixture(scope="module")
def argo(plane: ControlPlane) -> Iterator[Path]:
    with argo_cd(plane, {"dopd.dev_DisaggregatedInference": (ARGOCD / "health.lua").read_text()}) as logs:

        def made() -> bool:
            try:
                plane.kubectl("apply", "--filename=-", stdin=json.dumps(project()))
            except ClusterError:
                return False  # the definition is not served yet
            return True

        eventually(made, "the project default")
        yield logs


class Model(Run):
    """A resource m that Argo CD syncs while passes of the operator bring it on its way."""

    def told(self) -> None:
        """Tell Argo CD of a commit, as a webhook does: by itself it looks every three minutes."""
        change = {"metadata": {"annotations": {"argocd.argoproj.io/refresh": "normal"}}}
        self.api.patch(f"{APPLICATIONS}/model", json=change, headers=MERGE).raise_for_status()

    @property
    def app(self) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get(f"{APPLICATIONS}/model").json()
        return found

    def state(self) -> tuple[str, str]:
        """Sync and health of the Application."""
        status = self.app.get("status", {})
        return status.get("sync", {}).get("status", ""), status.get("health", {}).get("status", "")

    def syncs(self) -> int:
        """Syncs that have ended."""
        return len(self.app["status"].get("history", []))

    def there(self, name: str) -> bool:
        """Whether a ConfigMap is there."""
        return self.api.get(kinds.CONFIG_MAP.path(self.cluster.namespace, name)).status_code == 200

    def exists(self) -> bool:
        return self.api.get(kinds.INFERENCE.path(self.cluster.namespace, "m")).status_code == 200


@pytest.fixture
async def model(plane: ControlPlane, api: httpx.Client, crds: None, namespace: str) -> AsyncIterator[Model]:
    async with running(plane, api, Cluster(api, namespace, 2 * GPUS), Model) as one:
        yield one


def served(prefill: int, decode: int, **spec: Any) -> dict[str, Any]:
    return waved(json.loads(inference("m", prefill, decode, **spec)), 1)


async def test_a_model_is_synced_in_waves_scales_without_drift_and_is_pruned(model: Model, argo: Path, tmp_path: Path):
    repository = Repository(tmp_path / "repository")
    repository.commit(before=waved(settings("before"), 0), m=served(1, 1), after=waved(settings("after"), 2))
    app = application("model", repository.folder, "model", model.cluster.namespace)
    model.api.post(APPLICATIONS, json=app).raise_for_status()

    def log() -> str:
        return (argo / "application-controller.log").read_text()[-3000:]

    eventually(lambda: model.exists(), f"the resource is synced: {log()}", seconds=120)
    eventually(lambda: model.state()[1] == "Progressing", "nobody acted on it yet", seconds=60)
    assert model.there("before")
    assert not model.there("after"), "the wave waits for requests to be served"

    async def comes(what: str, sync: str, health: str, passes: int = 300) -> None:
        def looked() -> bool:
            time.sleep(0.3)
            return model.state() == (sync, health)

        try:
            await model.until(what, looked, passes)
        except pytest.fail.Exception:
            print(json.dumps(model.app.get("status"), indent=1)[:6000])
            raise

    await comes("it serves", "Synced", "Healthy")
    assert model.there("after")

    repository.commit(m=served(2, 2))
    model.told()
    states = set()

    def scaled() -> bool:
        time.sleep(0.3)
        states.add(model.state())
        return model.settled(2, 2) and model.state() == ("Synced", "Healthy")

    await model.until("it scales", scaled, 300)
    assert ("Synced", "Progressing") in states, "its workers come while nothing drifts"
    eventually(lambda: model.syncs() == 2, "the sync of the second commit ends", seconds=60)
    for _ in range(10):
        await comes("it stays", "Synced", "Healthy")
    assert model.syncs() == 2, "nothing was healed"

    broken = {"image": "never.pulled/engine", "imagePullPolicy": "Never", "args": ["--broken"]}
    repository.commit(m=served(2, 2, engine=broken))
    model.told()
    await comes("a bad revision", "Synced", "Degraded")
    repository.commit(m=served(2, 2))
    model.told()
    await comes("it is mended", "Synced", "Healthy")

    repository.commit(m=None)
    model.told()
    await model.until("it is pruned, with its workers", lambda: not model.exists() and not model.cluster.workers(), 300)
    eventually(lambda: model.state() == ("Synced", "Healthy"), "the rest stays", seconds=60)
    model.api.delete(f"{APPLICATIONS}/model").raise_for_status()
    eventually(lambda: model.app.get("code") == 404, "the Application is deleted", seconds=60)
    assert not model.there("after")


@pytest.mark.parametrize("name", ["root.yaml", "apps/operator.yaml", "apps/models.yaml"])
def test_what_config_holds_for_argo_cd_is_accepted(plane: ControlPlane, argo: Path, name: str):
    options = ("--server-side", "--dry-run=server", "--validate=strict")
    plane.kubectl("apply", *options, f"--filename={ARGOCD / name}")
