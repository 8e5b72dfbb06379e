"""Faults of the control plane, of nodes, of Prometheus, and of the operator itself."""

import copy
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from e2e.cluster.docker import Docker
from e2e.cluster.errors import ClusterError
from e2e.faults import nodes
from e2e.faults.catalog import Fault, Loses, Outcome
from e2e.faults.trial import Trial
from e2e.stack import (
    OPERATOR_DEPLOYMENT_PATH,
    OPERATOR_NAMESPACE,
    OPERATOR_PODS_PATH,
    PROMETHEUS_NAMESPACE,
    Stack,
    condition,
)
from e2e.tests.resources import Json

API_AWAY_SECONDS, ETCD_AWAY_SECONDS, KUBELET_AWAY_SECONDS = 60.0, 30.0, 90.0
TOLERATION_SECONDS, GRACE_SECONDS = 20, 20
LEASES_PATH = f"/apis/coordination.k8s.io/v1/namespaces/{OPERATOR_NAMESPACE}/leases"
SECOND = "second-operator"
THIEF = "a-thief"


def _plain_answer(trial: Trial) -> bool:
    try:
        return "ok" in trial.stack.kubectl("get", "--raw", "/readyz", timeout_seconds=5.0)
    except (ClusterError, subprocess.TimeoutExpired):
        return False


def _api_server_stopped(trial: Trial) -> Outcome:
    """While a worker of each role is on its way out."""
    trial.begin()
    trial.ground.scale((2, 2))
    with nodes.without_static_pod(trial.docker, trial.stack.cluster.control_plane, "kube-apiserver"):
        trial.until(lambda: not _plain_answer(trial), "the API server is away", 90)
        time.sleep(API_AWAY_SECONDS)
    trial.until(lambda: _plain_answer(trial), "it answers again", 120)
    answered = time.monotonic()
    trial.until_settled((2, 2), 240)
    return Outcome(f"{time.monotonic() - answered:.0f} s after it answered again, a scale-down of two workers included")


def _etcd_paused(trial: Trial) -> Outcome:
    trial.begin()
    trial.ground.scale((2, 2))
    with nodes.paused(trial.docker, trial.stack.cluster.control_plane, "etcd"):
        time.sleep(ETCD_AWAY_SECONDS)
    resumed = time.monotonic()
    trial.until_settled((2, 2), 240)
    return Outcome(f"{time.monotonic() - resumed:.0f} s after it went on, a scale-down of two workers included")


def _gateway_killed(trial: Trial) -> Outcome:
    ground = trial.ground
    victim = trial.stack.pods(ground.name, "router")[0]
    name, restarts = victim["metadata"]["name"], nodes.restarts(victim)
    trial.begin()
    nodes.kill_container(trial.docker, victim)

    def back() -> bool:
        pod = next(p for p in trial.stack.pods(ground.name, "router") if p["metadata"]["name"] == name)
        ready = pod["status"]["containerStatuses"][0]["ready"]
        return nodes.restarts(pod) > restarts and ready and ground.settled((3, 3))

    return Outcome(f"{trial.until(back, 'it routes again'):.0f} s after the kill, from an empty memory")


def _kubelet_stopped(trial: Trial) -> Outcome:
    node = _node_without_gateway(trial)
    _moved_off(trial, node)
    trial.begin()
    with nodes.paused(trial.docker, node, "kubelet"):
        time.sleep(KUBELET_AWAY_SECONDS)
    resumed = time.monotonic()
    trial.until_settled((3, 3), 240)
    return Outcome(f"{time.monotonic() - resumed:.0f} s after it went on")


def _node_lost(trial: Trial) -> Outcome:
    node = _node_without_gateway(trial)
    _moved_off(trial, node)
    held = [pod for pod in trial.ground.pods() if pod["spec"]["nodeName"] == node]
    trial.begin()
    with nodes.cut_off(trial.docker, node):

        def replaced() -> bool:
            pods = [p for p in trial.ground.pods() if p["spec"].get("nodeName") not in (None, node)]
            status = trial.ground.resource["status"]
            return len(pods) == 6 and all(status[role]["ready"] == 3 for role in ("prefill", "decode"))

        took = trial.until(replaced, "its workers serve elsewhere", 420)
    trial.until_settled((3, 3), 240)
    return Outcome(
        f"{took:.0f} s after the loss of {len(held)} workers (of it {TOLERATION_SECONDS} s toleration,"
        f" {GRACE_SECONDS + 5} s grace, 60 s more until their GPUs count as free; Kubernetes' own toleration is 300 s)",
        lost_gpus=len(held),
    )


def _node_without_gateway(trial: Trial) -> str:
    gateway = trial.stack.pods(trial.ground.name, "router")[0]["spec"]["nodeName"]
    return next(node for node in trial.stack.cluster.workers if node != gateway)


def _moved_off(trial: Trial, node: str) -> None:
    """The operator goes to another node. An installation for work has two, apart; the tests' has one."""
    there = [
        pod["metadata"]["name"] for pod in trial.stack.items(OPERATOR_PODS_PATH) if pod["spec"]["nodeName"] == node
    ]
    if not there:
        return

    def elsewhere() -> bool:
        pods = trial.stack.items(OPERATOR_PODS_PATH)
        states = [status for pod in pods for status in pod["status"].get("containerStatuses", [])]
        return all(pod["spec"].get("nodeName") not in (None, node) for pod in pods) and any(s["ready"] for s in states)

    trial.stack.kubectl("cordon", node)
    try:
        trial.stack.kubectl("-n", OPERATOR_NAMESPACE, "delete", "pods", *there)
        trial.until(elsewhere, "the operator acts on another node", 120)
    finally:
        trial.stack.kubectl("uncordon", node)


def _prometheus_down(trial: Trial) -> Outcome:
    prometheus = ("-n", PROMETHEUS_NAMESPACE, "scale", "deployment/prometheus")

    def told(status: str) -> bool:
        return bool(condition(trial.ground.resource, "MetricsAvailable").get("status") == status)

    trial.until(lambda: told("True"), "the load is known", 90)
    trial.begin()
    trial.stack.kubectl(*prometheus, "--replicas=0")
    try:
        noticed = trial.until(lambda: told("False"), "it is told", 60)
        time.sleep(10)
    finally:
        trial.stack.install_prometheus()
    up = time.monotonic()
    trial.until(lambda: told("True"), "the load is known again", 90)
    return Outcome(f"told after {noticed:.0f} s; {time.monotonic() - up:.0f} s after Prometheus was back")


def _lease(trial: Trial, name: str = "dopd") -> Json:
    lease: Json = trial.stack.read(f"{LEASES_PATH}/{name}") or {}
    spec: Json = lease.get("spec", {})
    return spec


def _lease_stolen(trial: Trial) -> Outcome:
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    patch = {"spec": {"holderIdentity": THIEF, "renewTime": now}}
    seconds = _lease(trial)["leaseDurationSeconds"]
    trial.begin()
    trial.stack.kubectl("-n", OPERATOR_NAMESPACE, "patch", "lease/dopd", "--type=merge", f"--patch={json.dumps(patch)}")
    trial.ground.scale((2, 3))
    pod = trial.stack.items(OPERATOR_PODS_PATH)[0]["metadata"]["name"]
    taken = trial.until(
        lambda: str(_lease(trial).get("holderIdentity")).startswith(pod), "the operator has it again", 120
    )
    took = trial.until_settled((2, 3))
    early = (f"acted again after {taken:.0f} s, before the Lease ran out",) if taken < seconds - 1 else ()
    return Outcome(
        f"acts again after {taken:.0f} s (a Lease of {seconds} s); the scale-down was done at {took:.0f} s", early
    )


@contextmanager
def _another_operator(trial: Trial) -> Iterator[None]:
    """Of the same version, under a Lease of another name: somebody installed it twice."""
    stack = trial.stack
    stack.apply(*_second(stack.read(OPERATOR_DEPLOYMENT_PATH) or {}))
    try:
        trial.until(lambda: _lease(trial, SECOND).get("holderIdentity"), "the second operator acts", 90)
        yield
    finally:
        of_second = ("-n", OPERATOR_NAMESPACE, "--ignore-not-found", "--wait")
        stack.kubectl("delete", f"deployment/{SECOND}", f"role/{SECOND}", f"rolebinding/{SECOND}", *of_second)
        stack.kubectl("delete", f"lease/{SECOND}", *of_second)


def _second(deployment: Json) -> list[Json]:
    """The operator's Deployment under another name, with a Lease of its own and the right to it."""
    spec = copy.deepcopy(deployment["spec"])
    spec["selector"]["matchLabels"] = spec["template"]["metadata"]["labels"] = {"app": SECOND}
    for variable in spec["template"]["spec"]["containers"][0]["env"]:
        if variable["name"] == "DOPD_LEASE_NAME":
            variable["value"] = SECOND
    meta = {"name": SECOND, "namespace": OPERATOR_NAMESPACE}
    rbac = "rbac.authorization.k8s.io"
    account = {"kind": "ServiceAccount", "name": spec["template"]["spec"]["serviceAccountName"]}
    rule = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "get", "update"]}
    return [
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": meta, "rules": [rule]},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": SECOND},
            "subjects": [{**account, "namespace": OPERATOR_NAMESPACE}],
        },
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {**spec, "replicas": 1}},
    ]


def _two_operators(trial: Trial) -> Outcome:
    ground = trial.ground
    took = []
    with _another_operator(trial):
        trial.begin()
        for workers in ((1, 2), (4, 2), (2, 4)):
            began = time.monotonic()
            ground.scale(workers)
            trial.until_settled(workers)
            took.append(f"{time.monotonic() - began:.0f}")
        before, began = ground.uids(), time.monotonic()
        ground.new_revision()
        ground.until_settled((2, 4), gone=before, seconds=240)
        took.append(f"{time.monotonic() - began:.0f}")
    return Outcome(f"scale-down, scale-up, rebalance, rollout of 6 workers: {', '.join(took)} s")


def _operator_killed(trial: Trial) -> Outcome:
    """Four times while workers move. A scale-down, a scale-up, a rebalance and a rollout."""
    ground = trial.ground
    trial.begin()
    began = time.monotonic()
    for workers in ((1, 1), (4, 2), (2, 4)):
        ground.scale(workers)
        time.sleep(3)
        kill_operator(trial.stack, trial.docker)
        trial.until_settled(workers)
    before = ground.uids()
    ground.new_revision()
    time.sleep(8)
    kill_operator(trial.stack, trial.docker)
    ground.until_settled((2, 4), gone=before, seconds=240)
    return Outcome(f"all four changes done in {time.monotonic() - began:.0f} s")


def kill_operator(stack: Stack, docker: Docker) -> Json:
    """Kill the operator and delete its pod, so that no pause for restarts of a container counts; returns the pod."""
    pod = next(p for p in stack.items(OPERATOR_PODS_PATH) if p["status"]["containerStatuses"][0]["ready"])
    nodes.kill_container(docker, pod)
    name = pod["metadata"]["name"]
    stack.kubectl("-n", OPERATOR_NAMESPACE, "delete", "pod", name, "--force", "--grace-period=0")
    return pod


_TOLERANT = [
    {
        "key": f"node.kubernetes.io/{key}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": TOLERATION_SECONDS,
    }
    for key in ("unreachable", "not-ready")
]

FAULTS: dict[str, Fault] = {
    "api-server-stopped": Fault(
        f"API server stopped for {API_AWAY_SECONDS:.0f} s, in the middle of a scale-down",
        "Nothing moves meanwhile. Gateways keep the workers that they know, workers serve; the operator ends as its"
        " Lease can not be renewed, is started again, and goes on from the pods' labels",
        _api_server_stopped,
    ),
    "etcd-paused": Fault(
        f"etcd paused for {ETCD_AWAY_SECONDS:.0f} s, in the middle of a scale-down",
        "The same; requests to the API server hang, and are given up in time for the Lease",
        _etcd_paused,
    ),
    "gateway-killed": Fault(
        "kill -9 of a gateway, one of two",
        "The Service leaves it out while it is not ready; it is started again, and reads all pods anew. `RouterInSync`"
        " tells what it does not list yet",
        _gateway_killed,
        Loses.OWN,
    ),
    "kubelet-stopped": Fault(
        f"Kubelet of a node stopped for {KUBELET_AWAY_SECONDS:.0f} s",
        "Its workers serve until Kubernetes calls the node lost and them not ready; they keep their GPUs, and nothing"
        " is started in their place before Kubernetes evicts them",
        _kubelet_stopped,
        gateways=1,
    ),
    "node-lost": Fault(
        "A node lost with its workers",
        "Kubernetes calls them not ready after 40 to 50 s, and deletes them after their toleration. A pod that is there"
        " a minute after its grace period counts no more, and its successor starts on another node within the budget",
        _node_lost,
        Loses.OWN,
        changes={
            "engine__terminationGracePeriod": f"{GRACE_SECONDS}s",
            "prefill__template__spec__tolerations": _TOLERANT,
            "decode__template__spec__tolerations": _TOLERANT,
        },
        gateways=1,
    ),
    "two-operators": Fault(
        "Two operators at once, each with a Lease of its own",
        "Both do the same: new pods have the same names, so each is made once; labels and deletions are by uid and the"
        " same from both",
        _two_operators,
        workers=(2, 3),
    ),
    "lease-stolen": Fault(
        "The operator's Lease is taken away",
        "It stops acting at its next look at the Lease, ends, and acts again once nobody renews the Lease",
        _lease_stolen,
    ),
    "operator-killed": Fault(
        "kill -9 of the operator, in the middle of a scale-down, a scale-up, a rebalance and a rollout",
        "Its successor goes on from the pods' labels and annotations",
        _operator_killed,
        workers=(2, 2),
    ),
    "prometheus-down": Fault(
        "Prometheus down",
        "The last target is held; `MetricsAvailable` says why. What waits in the engines still adds workers",
        _prometheus_down,
    ),
}
