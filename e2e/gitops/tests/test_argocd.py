"""A real Argo CD syncs a model to kind: its wave waits for it, nothing drifts while it scales, and it is pruned."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.argocd import NAMESPACE, Repository, application, argo_cd, project, settings, waved
from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import REPOSITORY
from e2e.stack import Stack, wait_for
from e2e.tests.resources import GATEWAY_NODE_PORT, auto

Json = dict[str, Any]
APPLICATION_PATH = f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/applications/model"
MODEL = "synced"


class Kind:
    """The kind cluster, as Argo CD is told of it."""

    def __init__(self, stack: Stack) -> None:
        self.kubeconfig, self._stack = stack.cluster.kubeconfig, stack

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as administrator."""
        return self._stack.kubectl(*arguments, stdin=stdin)


@pytest.fixture
def argo(stack: Stack) -> Iterator[Path]:
    """Argo CD, with the project that its server would make."""
    health = (REPOSITORY / "config" / "argocd" / "health.lua").read_text()
    with argo_cd(Kind(stack), {"dopd.dev_DisaggregatedInference": health}) as logs:

        def made() -> bool:
            try:
                stack.apply(project())
            except ClusterError:  # the definition is not served yet
                return False
            return True

        wait_for(made, "the project default", timeout_seconds=60)
        yield logs


def test_a_model_is_synced_scales_without_drift_and_is_pruned(stack: Stack, argo: Path, tmp_path: Path) -> None:
    bounds = {"min": 1, "max": 3}
    model = auto(
        MODEL,
        router__service={"type": "NodePort", "nodePort": GATEWAY_NODE_PORT},
        scaling={"mode": "External", "prefill": bounds, "decode": bounds, "gpuBudget": {"max": 6}},
    )
    repository = Repository(tmp_path / "repository")
    repository.commit(before=waved(settings("before"), 0), m=waved(model, 1), after=waved(settings("after"), 2))
    seen: set[tuple[str, str]] = set()

    def status() -> Json:
        found: Json = (stack.read(APPLICATION_PATH) or {}).get("status", {})
        return found

    def is_now(sync: str, health: str) -> bool:
        found = status()
        now = (found.get("sync", {}).get("status", ""), found.get("health", {}).get("status", ""))
        seen.add(now)
        return now == (sync, health)

    def there(name: str) -> bool:
        return stack.read(f"/api/v1/namespaces/default/configmaps/{name}") is not None

    def serves(workers: int) -> bool:
        return is_now("Synced", "Healthy") and len(stack.pods(MODEL, "decode")) == workers

    def told() -> None:
        stack.kubectl(
            "annotate",
            "application",
            "model",
            f"--namespace={NAMESPACE}",
            "argocd.argoproj.io/refresh=normal",
            "--overwrite",
        )

    stack.apply(application("model", repository.folder, "model", "default"))
    wait_for(lambda: stack.inference(MODEL), "the resource is synced", timeout_seconds=90)
    assert there("before")
    assert not there("after"), "the wave waits for requests to be served"
    wait_for(lambda: is_now("Synced", "Healthy"), "it serves", timeout_seconds=120)
    assert there("after")

    seen.clear()
    for workers in (3, 1):
        stack.kubectl("scale", f"workerscale/{MODEL}-decode", f"--replicas={workers}")
        wait_for(partial(serves, workers), f"{workers} decode workers serve", timeout_seconds=120)
    assert {sync for sync, _ in seen} == {"Synced"}, "nothing drifts"
    assert ("Synced", "Progressing") in seen, "its workers come and go meanwhile"
    assert len(status()["history"]) == 1, "nothing was healed"

    repository.commit(m=None)
    told()
    wait_for(lambda: not stack.inference(MODEL) and not stack.pods(MODEL), "it is pruned", timeout_seconds=120)
    stack.kubectl("delete", "application", "model", f"--namespace={NAMESPACE}", "--wait=false")
    wait_for(lambda: stack.read(APPLICATION_PATH) is None, "the Application is deleted", timeout_seconds=90)
    assert not there("after")
