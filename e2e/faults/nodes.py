"""What can be done to a node and to what runs on it. A node is a container of this run's cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from e2e.cluster.docker import Docker

Json = dict[str, Any]
_DROPPED = ("INPUT -i eth0", "OUTPUT -o eth0", "FORWARD -i eth0", "FORWARD -o eth0")


def kill_container(docker: Docker, pod: Json) -> None:
    """End the first container of a pod as a crash would (SIGKILL); its kubelet starts it again."""
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    docker.execute(pod["spec"]["nodeName"], "ctr", "--namespace=k8s.io", "tasks", "kill", "--signal=SIGKILL", container)


def restarts(pod: Json) -> int:
    """How often the first container of a pod was started again."""
    return int(pod["status"]["containerStatuses"][0]["restartCount"])


def ready(pod: Json) -> bool:
    """Whether all containers of a pod are ready, and it is to stay."""
    states = pod["status"].get("containerStatuses", [])
    return bool(states) and all(state["ready"] for state in states) and "deletionTimestamp" not in pod["metadata"]


@contextmanager
def paused(docker: Docker, node: str, program: str) -> Iterator[None]:
    """A program of a node does nothing (SIGSTOP), and goes on afterwards."""
    process = docker.execute(node, "pidof", "-s", program).strip()
    docker.execute(node, "kill", "-STOP", process)
    try:
        yield
    finally:
        docker.execute(node, "kill", "-CONT", process)


@contextmanager
def without_static_pod(docker: Docker, node: str, name: str) -> Iterator[None]:
    """A static pod of the control plane is ended, and started again afterwards."""
    there, away = f"/etc/kubernetes/manifests/{name}.yaml", f"/etc/kubernetes/{name}.away"
    docker.execute(node, "mv", there, away)
    try:
        yield
    finally:
        docker.execute(node, "mv", away, there)


@contextmanager
def cut_off(docker: Docker, node: str) -> Iterator[None]:
    """Nothing reaches a node or leaves it: for everybody else it is lost."""
    _rules(docker, node, "-I")
    try:
        yield
    finally:
        _rules(docker, node, "-D")


def _rules(docker: Docker, node: str, how: str) -> None:
    for rule in _DROPPED:
        docker.execute(node, "iptables", how, *rule.split(), "-j", "DROP")
