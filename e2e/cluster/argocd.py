"""Argo CD's application controller and repository server as processes on loopback, beside a control plane.

    with argo_cd(plane, health={"dopd.dev_DisaggregatedInference": script}) as folder: ...

They sync from git repositories on this machine (`file://`) into the cluster of the control plane. No server, no
ApplicationSet controller, no notifications.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from e2e.cluster import programs
from e2e.cluster.beside import running
from e2e.cluster.ports import LOOPBACK, free_ports

NAMESPACE = "argocd"
WAVE = "argocd.argoproj.io/sync-wave"
"""Annotation on a manifest: lower ones are synced first, and waited for."""
LOOKS_EVERY_SECONDS = 3
"""Argo CD asks for new commits so often."""


class Cluster(Protocol):
    """What Argo CD syncs to: a control plane on loopback, or a kind cluster."""

    @property
    def kubeconfig(self) -> Path:
        """Credentials of an administrator."""

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as that, and return what it prints."""


class Repository:
    """A git repository with the folder model.

    Args:
        folder: where it is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "model").mkdir(parents=True)
        self._git("init", "--quiet", "--initial-branch=main")

    def commit(self, **manifests: dict[str, Any] | None) -> None:
        """Write or, for None, remove manifests, and commit."""
        for name, manifest in manifests.items():
            path = self.folder / "model" / f"{name}.json"
            if manifest is None:
                path.unlink()
            else:
                path.write_text(json.dumps(manifest))
        self._git("add", "--all")
        self._git("-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "--message=x")

    def _git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.folder, check=True)


def waved(manifest: dict[str, Any], wave: int) -> dict[str, Any]:
    """A manifest that is synced in a wave."""
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": {WAVE: str(wave)}}}


def settings(name: str) -> dict[str, Any]:
    """An empty ConfigMap, to be seen in its wave."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}


@contextmanager
def argo_cd(plane: Cluster, health: Mapping[str, str]) -> Iterator[Path]:
    """Run Argo CD, and end it afterwards.

    Args:
        plane: the cluster that it syncs to.
        health: scripts of health checks in Lua, by GROUP_KIND.

    Yields:
        The folder with the logs of its parts.
    """
    found = programs.argocd()
    folder = Path(tempfile.mkdtemp(prefix="dopd-argocd-"))
    for kind in ("application", "applicationset", "appproject"):
        plane.kubectl("apply", "--server-side", f"--filename={found / 'crds' / f'{kind}-crd.yaml'}")
    plane.kubectl(
        "apply", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": _core(health)})
    )
    try:
        with running(_commands(found, plane), folder, _environment(folder, plane)):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def application(name: str, repository: Path, path: str, namespace: str) -> dict[str, Any]:
    """An Application that is synced by itself, prunes and heals, and takes its resources along when it is deleted."""
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "finalizers": ["resources-finalizer.argocd.argoproj.io"],
        },
        "spec": {
            "project": "default",
            "source": {"repoURL": f"file://{repository}", "targetRevision": "HEAD", "path": path},
            "destination": {"server": "https://kubernetes.default.svc", "namespace": namespace},
            "syncPolicy": {
                "automated": {"prune": True, "selfHeal": True},
                # A sync that failed is tried again with the commit of now: the one that mends it.
                "retry": {"limit": 5, "backoff": {"duration": "2s"}, "refresh": True},
            },
        },
    }


def project() -> dict[str, Any]:
    """The project `default`, which allows everything; Argo CD's server would make it."""
    everything = [{"group": "*", "kind": "*"}]
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AppProject",
        "metadata": {"name": "default", "namespace": NAMESPACE},
        "spec": {
            "sourceRepos": ["*"],
            "destinations": [{"namespace": "*", "server": "*"}],
            "clusterResourceWhitelist": everything,
        },
    }


def _core(health: Mapping[str, str]) -> list[dict[str, Any]]:
    labels = {"app.kubernetes.io/part-of": "argocd"}
    settings = {f"resource.customizations.health.{kind}": script for kind, script in health.items()}
    settings["timeout.reconciliation"] = f"{LOOKS_EVERY_SECONDS}s"
    settings["timeout.reconciliation.jitter"] = "0s"

    def named(kind: str, name: str, **content: Any) -> dict[str, Any]:
        meta = {"name": name, "namespace": NAMESPACE, "labels": labels}
        return {"apiVersion": "v1", "kind": kind, "metadata": meta, **content}

    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        named("ConfigMap", "argocd-cm", data=settings),
        named("ConfigMap", "argocd-rbac-cm"),
        named("ConfigMap", "argocd-cmd-params-cm"),
        named("ConfigMap", "argocd-ssh-known-hosts-cm"),
        named("ConfigMap", "argocd-tls-certs-cm"),
        named("Secret", "argocd-secret", stringData={"server.secretkey": "of-a-test"}),
    ]


def _commands(found: Path, plane: Cluster) -> dict[str, list[str | Path]]:
    redis, repository, *metrics = free_ports(4)
    return {
        "redis": [found / "redis", f"{LOOPBACK}:{redis}"],
        "repo-server": [
            found / "argocd-repo-server",
            f"--address={LOOPBACK}",
            f"--port={repository}",
            f"--metrics-address={LOOPBACK}",
            f"--metrics-port={metrics[0]}",
            f"--redis={LOOPBACK}:{redis}",
            "--disable-tls",
        ],
        "application-controller": [
            found / "argocd-application-controller",
            f"--kubeconfig={plane.kubeconfig}",
            f"--namespace={NAMESPACE}",
            f"--repo-server={LOOPBACK}:{repository}",
            "--repo-server-plaintext",
            f"--redis={LOOPBACK}:{redis}",
            f"--metrics-port={metrics[1]}",
            f"--app-resync={LOOKS_EVERY_SECONDS}",
            "--app-resync-jitter=0",
            "--status-processors=2",
            "--operation-processors=2",
        ],
    }


def _environment(folder: Path, plane: Cluster) -> dict[str, str]:
    home = folder / "home"
    for name in ("home/.kube", "tls", "ssh", "gpg", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(plane.kubeconfig, home / ".kube" / "config")
    (folder / "ssh" / "ssh_known_hosts").touch()
    return os.environ | {
        "HOME": str(home),
        "TMPDIR": str(folder / "tmp"),
        "ARGOCD_FAKE_IN_CLUSTER": "true",  # https://kubernetes.default.svc is the cluster of the kubeconfig
        "ARGOCD_CONTROLLER_REPLICAS": "1",
        "ARGOCD_GPG_ENABLED": "false",
        "ARGOCD_TLS_DATA_PATH": str(folder / "tls"),
        "ARGOCD_SSH_DATA_PATH": str(folder / "ssh"),
        "ARGOCD_GPG_DATA_PATH": str(folder / "gpg"),
        "GOMAXPROCS": "2",
    }
