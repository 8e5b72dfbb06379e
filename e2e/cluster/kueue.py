"""Kueue's manager as a process on loopback, beside a control plane; it takes pods alone.

    with control_plane() as plane, kueue(plane) as log: ...

Its webhooks are those of a release: the Service that they name leads to this machine.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import programs
from e2e.cluster.beside import running
from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.errors import ClusterError
from e2e.cluster.ports import LOOPBACK, free_ports
from e2e.cluster.steps import Command, tail

NAMESPACE = "kueue-system"
SERVICE = "kueue-webhook-service"
SECRET = "kueue-webhook-server-cert"
KINDS = (
    "Namespace",
    "Secret",
    "CustomResourceDefinition",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
)
"""Of the manifests of a release. It runs as an administrator, so that it needs no roles."""
READY_TIMEOUT_SECONDS = 120.0
Json = dict[str, Any]


@contextmanager
def kueue(plane: ControlPlane) -> Iterator[Path]:
    """Run Kueue, and end it afterwards.

    Args:
        plane: the control plane whose pods it lets in.

    Yields:
        Its log.

    Raises:
        ClusterError: it does not become ready; holds the end of its log.
    """
    found = programs.kueue()
    folder = Path(tempfile.mkdtemp(prefix="dopd-kueue-"))
    webhooks, probes, metrics = free_ports(3)
    manifests = _manifests(found / "manifests.yaml", webhooks)
    plane.kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(manifests))
    config = folder / "config.json"
    config.write_text(json.dumps(_config(folder / "certificates", webhooks, probes, metrics)))
    command: Command = [
        found / "kueue",
        f"--kubeconfig={plane.kubeconfig}",
        f"--config={config}",
        "--feature-gates=VisibilityOnDemand=false",  # an API server of its own, that would need an APIService
    ]
    log = folder / "kueue.log"
    try:
        with running({"kueue": command}, folder, os.environ | {"GOMAXPROCS": "2"}) as processes:
            _mount_certificates(plane, folder / "certificates")
            _wait_ready(processes["kueue"], f"http://{LOOPBACK}:{probes}/readyz", log)
            yield log
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _config(certificates: Path, webhooks: int, probes: int, metrics: int) -> Json:
    return {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "health": {"healthProbeBindAddress": f"{LOOPBACK}:{probes}"},
        "metrics": {"bindAddress": f"{LOOPBACK}:{metrics}"},
        "webhook": {"host": LOOPBACK, "port": webhooks, "certDir": str(certificates)},
        "leaderElection": {"leaderElect": False},
        "integrations": {"frameworks": ["pod"]},
    }


def _manifests(path: Path, port: int) -> Json:
    """Those of a release that are needed, with a Service that leads to a port of this machine."""
    items = [one for one in yaml.load_all(path.read_text(), yaml.CSafeLoader) if one["kind"] in KINDS]
    for one in items:
        conversion = one.get("spec", {}).get("conversion", {}).get("webhook")
        for webhook in [*one.get("webhooks", []), *([conversion] if conversion else [])]:
            webhook["clientConfig"]["service"]["port"] = port
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": SERVICE, "namespace": NAMESPACE},
        "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
    }
    return {"apiVersion": "v1", "kind": "List", "items": [*items, service]}


def _mount_certificates(plane: ControlPlane, folder: Path) -> None:
    """What a kubelet does: write the Secret that the manager made to the folder that it reads."""
    folder.mkdir()
    deadline = time.monotonic() + READY_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        secret = json.loads(plane.kubectl("get", "secret", SECRET, f"--namespace={NAMESPACE}", "--output=json"))
        if "tls.key" in secret.get("data", {}):
            for name, content in secret["data"].items():
                (folder / name).write_bytes(base64.b64decode(content))
            return
        time.sleep(0.2)
    raise ClusterError(f"Kueue made no certificates within {READY_TIMEOUT_SECONDS:.0f} s")


def _wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:  # refused, or an HTTP error while it is not ready
            time.sleep(0.2)
    raise ClusterError(f"Kueue is not ready\n{tail(log)}")
