"""kind: the configuration of our clusters, and the one call that creates them."""

import json
from pathlib import Path
from typing import Any

from e2e.cluster import programs
from e2e.cluster.docker import Docker
from e2e.cluster.ports import LOOPBACK
from e2e.cluster.state import NODE_PORTS, State
from e2e.cluster.steps import run

POD_SUBNET = "10.244.0.0/16"
AUDIT_FOLDER = "/etc/kubernetes/audit"
AUDIT_LOG = "/var/log/kubernetes/audit.log"


def configuration(ports: dict[str, int], node_image: str, audit_policy: Path, *, way: str) -> dict[str, Any]:
    """Return kind's configuration for one control plane and two workers.

    Args:
        ports: the host port for each of `NODE_PORTS`, by name.
        node_image: image of the nodes.
        audit_policy: the API server's audit policy, a file of this machine.
        way: `published` images bring a pod network and suit any machine; `built` ones leave the network to us.
    """
    control_plane = {
        "role": "control-plane",
        "image": node_image,
        "extraMounts": [
            {"hostPath": str(audit_policy), "containerPath": f"{AUDIT_FOLDER}/policy.yaml", "readOnly": True}
        ],
        "extraPortMappings": [
            {"containerPort": NODE_PORTS[name], "hostPort": port, "listenAddress": LOOPBACK}
            for name, port in ports.items()
        ],
    }
    worker = {"role": "worker", "image": node_image}
    built = way == "built"
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "networking": {
            "apiServerAddress": LOOPBACK,
            "podSubnet": POD_SUBNET,
            "disableDefaultCNI": built,
        },
        "nodes": [control_plane, worker, dict(worker)],
        "kubeadmConfigPatches": [json.dumps(_BUILT_KUBELET)] if built else [],
        "kubeadmConfigPatchesJSON6902": [
            {
                "group": "kubeadm.k8s.io",
                "version": "v1beta4",
                "kind": "ClusterConfiguration",
                "patch": json.dumps(_CLUSTER_PATCH),
            }
        ],
    }


def create(docker: Docker, state: State, node_image: str, *, log: Path) -> None:
    """Create the cluster's nodes and join them; returns before they are Ready.

    Raises:
        ClusterError: kind failed; holds the end of its log.
    """
    policy = state.folder / "audit-policy.yaml"
    config = state.folder / "kind.json"
    config.write_text(json.dumps(configuration(state.ports, node_image, policy, way=state.way), indent=2))
    command: list[str | Path] = [
        programs.kind(),
        "create",
        "cluster",
        f"--name={state.kind_name}",
        f"--config={config}",
        f"--kubeconfig={state.kubeconfig}",
        "--wait=0s",
        "--retain",  # a failed cluster is looked at, and removed by the next up or down
    ]
    # A network of its own: nothing is shared with another cluster, and `down` knows what to remove.
    env = docker.environment | {"KIND_EXPERIMENTAL_DOCKER_NETWORK": state.kind_name}
    run(command, what=f"kind creates cluster {state.kind_name}", usually="40 s", log=log, env=env)


# The built node image has no bus by which kubelet could ask systemd for control groups; the machine may lack
# CAP_SYS_RESOURCE, and version 2 of control groups.
_BUILT_KUBELET = {
    "kind": "KubeletConfiguration",
    "cgroupDriver": "cgroupfs",
    "failCgroupV1": False,
    "featureGates": {"KubeletInUserNamespace": True},
}

# kind has set some of these lists already: a merge would replace them, a JSON patch adds to them.
_CLUSTER_PATCH = [
    {
        "op": "add",
        "path": "/apiServer/extraArgs/-",
        "value": {"name": "audit-policy-file", "value": f"{AUDIT_FOLDER}/policy.yaml"},
    },
    {
        "op": "add",
        "path": "/apiServer/extraArgs/-",
        "value": {"name": "audit-log-path", "value": AUDIT_LOG},
    },
    {
        "op": "add",
        "path": "/apiServer/extraVolumes",
        "value": [
            {
                "name": "audit-policy",
                "hostPath": AUDIT_FOLDER,
                "mountPath": AUDIT_FOLDER,
                "readOnly": True,
                "pathType": "Directory",
            },
            {
                "name": "audit-log",
                "hostPath": str(Path(AUDIT_LOG).parent),
                "mountPath": str(Path(AUDIT_LOG).parent),
                "pathType": "DirectoryOrCreate",
            },
        ],
    },
    # The data does not outlive the cluster: no need to wait for a slow disk.
    {
        "op": "add",
        "path": "/etcd",
        "value": {"local": {"extraArgs": [{"name": "unsafe-no-fsync", "value": "true"}]}},
    },
]
