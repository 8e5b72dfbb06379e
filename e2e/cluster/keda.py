"""KEDA's operator and metrics adapter as processes on loopback, beside a control plane with an aggregation layer.

    with control_plane(aggregation=True) as plane, keda(plane) as folder: ...

The API server asks the adapter for external metrics by way of an APIService; the adapter asks the operator. KEDA's
admission webhooks do not run.
"""

import base64
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2e.cluster import programs
from e2e.cluster.beside import running
from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.ports import LOOPBACK, free_ports
from e2e.cluster.steps import Command

NAMESPACE = "keda"
SERVICE = "keda-metrics-apiserver"
API = "v1beta1.external.metrics.k8s.io"


@contextmanager
def keda(plane: ControlPlane) -> Iterator[Path]:
    """Run KEDA, and end it afterwards.

    Args:
        plane: the control plane whose workloads it scales; with `aggregation`.

    Yields:
        The folder with the logs of its parts.
    """
    found = programs.keda()
    folder = Path(tempfile.mkdtemp(prefix="dopd-keda-"))
    plane.kubectl("apply", "--server-side", f"--filename={found / 'crds'}")
    certificates = plane.certificates_for("keda", [f"{SERVICE}.{NAMESPACE}.svc"])
    as_client = _as_client(certificates)
    metrics, adapter, *others = free_ports(6)
    objects = {"apiVersion": "v1", "kind": "List", "items": _objects(adapter, (certificates / "ca.crt").read_bytes())}
    plane.kubectl("apply", "--filename=-", stdin=json.dumps(objects))
    commands: dict[str, Command] = {
        "operator": [
            found / "operator",
            f"--kubeconfig={plane.kubeconfig}",
            f"--cert-dir={certificates}",
            f"--metrics-service-bind-address={LOOPBACK}:{metrics}",
            f"--metrics-bind-address={LOOPBACK}:{others[0]}",
            f"--health-probe-bind-address={LOOPBACK}:{others[1]}",
        ],
        "adapter": [
            found / "adapter",
            f"--kubeconfig={plane.kubeconfig}",
            f"--lister-kubeconfig={plane.kubeconfig}",
            f"--authentication-kubeconfig={plane.kubeconfig}",
            f"--authorization-kubeconfig={plane.kubeconfig}",
            f"--client-ca-file={certificates / 'ca.crt'}",
            f"--tls-cert-file={certificates / 'tls.crt'}",
            f"--tls-private-key-file={certificates / 'tls.key'}",
            f"--cert-dir={as_client}",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={adapter}",
            f"--port={others[2]}",
            f"--metrics-service-address=localhost:{metrics}",
        ],
    }
    try:
        with running(commands, folder, _environment(plane)):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_client(certificates: Path) -> Path:
    """The adapter shows the operator the certificate `tls.crt` of its folder; ours is of its server alone."""
    folder = certificates / "client"
    folder.mkdir()
    shutil.copyfile(certificates / "ca.crt", folder / "ca.crt")
    for suffix in ("crt", "key"):
        shutil.copyfile(certificates / f"client.{suffix}", folder / f"tls.{suffix}")
    return folder


def _objects(adapter_port: int, authority: bytes) -> list[dict[str, Any]]:
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": SERVICE, "namespace": NAMESPACE},
            # An endpoint can not be a loopback address; a name that leads there can.
            "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": adapter_port}]},
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": API},
            "spec": {
                "group": API.partition(".")[2],
                "version": API.partition(".")[0],
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "service": {"name": SERVICE, "namespace": NAMESPACE, "port": adapter_port},
                "caBundle": base64.b64encode(authority).decode(),
            },
        },
    ]


def _environment(plane: ControlPlane) -> dict[str, str]:
    return os.environ | {
        "KUBECONFIG": str(plane.kubeconfig),
        "POD_NAMESPACE": NAMESPACE,
        "KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE,
        "WATCH_NAMESPACE": "",
        "GOMAXPROCS": "2",
    }
