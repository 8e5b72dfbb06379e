"""What nodes need after kind has joined them: a pod network (on built images), GPU capacity, and patience."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from e2e.cluster.docker import Docker
from e2e.cluster.errors import ClusterError
from e2e.cluster.kind import POD_SUBNET
from e2e.cluster.state import State
from e2e.cluster.steps import PULSE_SECONDS, say

GPU_RESOURCE = "nvidia.com/gpu"
GPUS_PER_WORKER = 8
READY_TIMEOUT_SECONDS = 180.0
_POLL_SECONDS = 0.5

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class NodeAddress:
    """Where a node's pods are: `pod_cidr` behind the node's own address `ip`."""

    name: str
    pod_cidr: str
    ip: str


def kubectl(docker: Docker, state: State, *arguments: str) -> str:
    """Run kubectl on the control-plane node as administrator and return what it prints.

    Raises:
        ClusterError: it failed; holds what kubectl said.
    """
    return docker.execute(state.control_plane, "kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", *arguments)


def connect(docker: Docker, state: State) -> None:
    """Give the nodes of built images a pod network: a bridge on each, and routes between them.

    The routes are laid from outside because a kubelet may read only its own node, so no node knows the others' ranges.
    """
    nodes = _addresses(docker, state)
    for node in nodes:
        docker.execute(node.name, "sh", "-euc", setup_script(node, nodes), stdin=json.dumps(bridge(node.pod_cidr)))


def bridge(pod_cidr: str) -> dict[str, object]:
    """Return the CNI configuration of a node whose pods have addresses of `pod_cidr`."""
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "hairpinMode": True,  # a pod may reach itself through a Service
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": pod_cidr}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def setup_script(node: NodeAddress, nodes: list[NodeAddress]) -> str:
    """Return the shell script that sets up pod networking on `node`; it reads the CNI configuration from stdin."""
    outside = f"-s {POD_SUBNET} ! -d {POD_SUBNET} -j MASQUERADE"
    routes = [f"ip route replace {other.pod_cidr} via {other.ip}" for other in nodes if other != node]
    return "\n".join(
        [
            *routes,
            f"iptables -t nat -C POSTROUTING {outside} 2>/dev/null || iptables -t nat -A POSTROUTING {outside}",
            # Last: with this file the node reports Ready.
            "cat > /etc/cni/net.d/10-pods.conflist",
        ]
    )


def _addresses(docker: Docker, state: State) -> list[NodeAddress]:
    def read() -> list[NodeAddress] | None:
        items = json.loads(kubectl(docker, state, "get", "nodes", "--output=json"))["items"]
        if len(items) < len(state.nodes) or any("podCIDR" not in item["spec"] for item in items):
            return None
        return [
            NodeAddress(name, item["spec"]["podCIDR"], docker.address(name, state.kind_name))
            for item in items
            for name in [item["metadata"]["name"]]
        ]

    return wait_for(read, "the nodes' pod address ranges")


def add_gpus(docker: Docker, state: State) -> None:
    """Give each worker GPUs that the scheduler counts; kubelet keeps resources that it does not know."""
    escaped = GPU_RESOURCE.replace("/", "~1")
    patch = [
        {"op": "add", "path": f"/status/{field}/{escaped}", "value": str(GPUS_PER_WORKER)}
        for field in ("capacity", "allocatable")
    ]
    for worker in state.workers:
        status = ("--subresource=status", "--type=json", f"--patch={json.dumps(patch)}")
        kubectl(docker, state, "patch", "node", worker, *status)


def wait_until_ready(docker: Docker, state: State) -> None:
    """Wait until every node is Ready and CoreDNS serves.

    Raises:
        ClusterError: three minutes passed; says what is missing.
    """

    def probe() -> bool:
        missing = not_ready(docker, state)
        if missing:
            raise ClusterError("; ".join(missing))
        return True

    wait_for(probe, "Ready nodes and cluster DNS")


def not_ready(docker: Docker, state: State) -> list[str]:
    """Return what keeps the cluster from being usable, in words; nothing when it is.

    Raises:
        ClusterError: the API server does not answer.
    """
    nodes = json.loads(kubectl(docker, state, "get", "nodes", "--output=json"))["items"]
    ready = {node["metadata"]["name"] for node in nodes if _is_ready(node)}
    dns = json.loads(kubectl(docker, state, "get", "deployment", "coredns", "--namespace=kube-system", "--output=json"))
    missing = [f"node {name} is not Ready" for name in state.nodes if name not in ready]
    if not dns["status"].get("readyReplicas"):
        missing.append("CoreDNS has no ready pod")
    return missing


def _is_ready(node: dict[str, dict[str, list[dict[str, str]]]]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in node["status"].get("conditions", []))


def wait_for(probe: Callable[[], _Found | None], what: str) -> _Found:
    """Return what `probe` finds, trying until it finds something.

    Args:
        probe: returns None, or raises ClusterError, when it has to be tried again.
        what: what is waited for, in words.

    Raises:
        ClusterError: three minutes passed; says why the last try failed.
    """
    start = last_said = time.monotonic()
    while True:
        problem = "not there yet"
        try:
            found = probe()
            if found is not None:
                return found
        except ClusterError as error:
            problem = str(error)
        now = time.monotonic()
        if now - start > READY_TIMEOUT_SECONDS:
            raise ClusterError(f"waited {READY_TIMEOUT_SECONDS:.0f} s for {what}: {problem}")
        if now - last_said > PULSE_SECONDS:
            say(f"  waiting for {what}: {now - start:.0f} s")
            last_said = now
        time.sleep(_POLL_SECONDS)
