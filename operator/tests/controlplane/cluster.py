"""Nodes, gateways and engines for pods of a real API server: what is not there without machines, played turn by turn.

A turn of it after a pass of the operator: it binds pods to GPUs, makes them ready, and ends those that are deleted.
"""

import itertools
from collections.abc import Callable
from typing import Any

import httpx

from dopd.api.names import ROUTER_POOL
from dopd.cluster import kinds

from .resources import get

Json = dict[str, Any]
IDLE = {"num_running_reqs": 0, "num_waiting_reqs": 0, "num_waiting_uncached_tokens": 0, "token_usage": 0.0}
MERGE = {"Content-Type": "application/merge-patch+json"}


class Cluster:
    """One node with a number of GPUs.

    Attributes:
        gpus: that there are.
        broken: a word of the command of engines that do not come up.
        load: what each engine tells.
        faults: what a gateway makes of its list of workers, by name of its pod.
    """

    def __init__(self, api: httpx.Client, namespace: str, gpus: int) -> None:
        self._api, self.namespace, self.gpus = api, namespace, gpus
        self._node = f"node-{namespace}"
        self._addresses = itertools.count(1)
        self.broken = "--broken"
        self.load = IDLE
        self.faults: dict[str, Callable[[list[Json]], list[Json]]] = {}
        answer = api.post("/api/v1/nodes", json={"apiVersion": "v1", "kind": "Node", "metadata": {"name": self._node}})
        assert answer.status_code == 201, answer.text

    def add_gpus(self, gpus: int) -> None:
        """More of them on the node."""
        self.gpus += gpus

    def close(self) -> None:
        """Take the node away."""
        self._api.delete(f"/api/v1/nodes/{self._node}")

    def pods(self) -> list[Json]:
        """All pods that are there."""
        return get(self._api, self.namespace, kinds.POD)

    def workers(self) -> list[Json]:
        """Those of the two roles."""
        return [pod for pod in self.pods() if pod["metadata"]["labels"].get("dopd.dev/pool") in ("prefill", "decode")]

    def turn(self) -> None:
        """What scheduler and kubelet do."""
        pods = self.pods()
        free = self.gpus - sum(_gpus(pod) for pod in pods if pod["spec"].get("nodeName"))
        for pod in pods:
            if "deletionTimestamp" in pod["metadata"]:
                self._api.request("DELETE", self._path(pod), json={"gracePeriodSeconds": 0})
            elif not pod["spec"].get("nodeName"):
                if _gpus(pod) <= free and not pod["spec"].get("schedulingGates"):
                    free -= _gpus(pod)
                    self._bind(pod)
            elif pod.get("status", {}).get("phase") != "Running":
                self._run(pod)
            elif pod["metadata"]["labels"]["dopd.dev/pool"] == ROUTER_POOL:
                self._probe(pod)

    def _probe(self, pod: Json) -> None:
        """A gateway is ready while it lists a worker of either role."""
        listed = {p["metadata"]["labels"]["dopd.dev/role"] for p in self.listed(pod)}
        ready = listed == {"prefill", "decode"}
        if ready != is_ready(pod):
            status = {"conditions": [{"type": "Ready", "status": str(ready)}]}
            self._api.patch(self._path(pod, "status"), json={"status": status}, headers=MERGE).raise_for_status()

    def gateways(self) -> list[Json]:
        """Gateway pods that the Service sends to."""
        of_pool = [p for p in self.pods() if p["metadata"]["labels"].get("dopd.dev/pool") == ROUTER_POOL]
        return [p for p in of_pool if is_ready(p) and "deletionTimestamp" not in p["metadata"]]

    def listed(self, gateway: Json) -> list[Json]:
        """Workers that a gateway sends to: those that its selectors name, as SMG reads them."""
        words = gateway["spec"]["containers"][0]["command"]
        chosen = [_selected(words, f"--{role}-selector") for role in ("prefill", "decode")]
        there = [p for p in self.workers() if serves(p)]
        return [p for p in there if any(wanted.items() <= p["metadata"]["labels"].items() for wanted in chosen)]

    def _path(self, pod: Json, subresource: str = "") -> str:
        return kinds.POD.path(self.namespace, pod["metadata"]["name"], subresource)

    def _bind(self, pod: Json) -> None:
        target = {"apiVersion": "v1", "kind": "Node", "name": self._node}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod["metadata"]["name"]}}
        self._api.post(self._path(pod, "binding"), json={**binding, "target": target}).raise_for_status()

    def _run(self, pod: Json) -> None:
        number, container = next(self._addresses), pod["spec"]["containers"][0]
        bad = self.broken in container["command"]
        gateway = pod["metadata"]["labels"]["dopd.dev/pool"] == ROUTER_POOL
        status: Json = {
            "phase": "Running",
            "podIP": f"10.1.{number // 250}.{number % 250 + 1}",
            "startTime": pod["metadata"]["creationTimestamp"],
            "conditions": [{"type": "Ready", "status": str(not bad and not gateway)}],
        }
        status["podIPs"] = [{"ip": status["podIP"]}]
        ended = {"exitCode": 1, "reason": "Error"}
        told = {"name": container["name"], "image": container["image"], "imageID": "", "ready": not bad}
        crashed = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": ended}}
        status["containerStatuses"] = [{**told, "restartCount": 3 * bad, **(crashed if bad else {})}]
        path = self._path(pod, "status")
        self._api.patch(path, json={"status": status}, headers=MERGE).raise_for_status()

    def end_engine(self, pod: Json) -> None:
        """The engine of a pod ends, and its node starts it again: it is not ready until `comes_back`."""
        [told] = pod["status"]["containerStatuses"]
        told |= {"restartCount": told["restartCount"] + 1, "ready": False}
        self._tell(pod, ready=False, statuses=[told])

    def comes_back(self, pod: Json) -> None:
        """The engine of a pod is ready again."""
        self._tell(pod, ready=True, statuses=[{**pod["status"]["containerStatuses"][0], "ready": True}])

    def _tell(self, pod: Json, *, ready: bool, statuses: list[Json]) -> None:
        status = {"conditions": [{"type": "Ready", "status": str(ready)}], "containerStatuses": statuses}
        self._api.patch(self._path(pod, "status"), json={"status": status}, headers=MERGE).raise_for_status()

    def let_in(self, pod: Json) -> None:
        """What a queue does: take the gates off."""
        if pod["spec"].get("schedulingGates"):
            gates = {"spec": {"schedulingGates": None}}
            self._api.patch(self._path(pod), json=gates, headers=MERGE).raise_for_status()

    def evict(self, pod: Json) -> int:
        """Ask for an eviction as `kubectl drain` does; the answer's status."""
        meta = {"name": pod["metadata"]["name"], "namespace": self.namespace}
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
        return self._api.post(self._path(pod, "eviction"), json=eviction).status_code

    async def get_json(self, pod: Json, port: int, path: str, *_: Any) -> Any:
        """What gateways and engines answer: engines are idle, gateways follow the labels at once."""
        if pod["metadata"]["labels"]["dopd.dev/pool"] != ROUTER_POOL:
            return {"loads": [self.load]}
        workers = [
            {"url": f"http://{p['status']['podIP']}:30000", "worker_type": p["metadata"]["labels"]["dopd.dev/role"]}
            for p in self.listed(pod)
        ]
        return {"workers": self.faults.get(pod["metadata"]["name"], list)(workers)}

    async def get_text(self, *_: Any) -> str:
        """Metrics of engines: none."""
        return ""

    def held(self) -> int:
        """GPUs of all workers that are there, whatever they do."""
        return sum(map(_gpus, self.workers()))


def serves(pod: Json) -> bool:
    """Whether a gateway would send requests to a pod."""
    meta = pod["metadata"]
    return is_ready(pod) and "dopd.dev/role" in meta["labels"] and "deletionTimestamp" not in meta


def is_ready(pod: Json) -> bool:
    """Whether Kubernetes calls a pod ready."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", []))


def _selected(words: list[str], flag: str) -> dict[str, str]:
    """Labels after a flag of SMG that takes several, as far as the next flag."""
    rest = words[words.index(flag) + 1 :]
    return dict(word.split("=", 1) for word in itertools.takewhile(lambda word: not word.startswith("--"), rest))


def _gpus(pod: Json) -> int:
    return int(pod["spec"]["containers"][0].get("resources", {}).get("limits", {}).get("nvidia.com/gpu", 0))
