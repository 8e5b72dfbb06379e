"""What is around the operator: scheduler, kubelets, gateways with their lag, engines with their requests, a controller.

It moves a tick after each pass. Everything that must hold is looked at after each write of the operator.
"""

import itertools
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from dopd.api.names import GPUS_ANNOTATION, INSTANCE_LABEL, POOL_LABEL, ROLE_LABEL, ROUTER_POOL, Role
from dopd.cluster import kinds
from dopd.cluster.podhttp import PodHttpError
from dopd.reconcile.reconciler import Reconciler

from .api import MemoryApi, Write, copied, nothing

Json = dict[str, Any]
NAME = "m"
GATEWAY_TICKS, START_TICKS, EXIT_TICKS, ANEW_TICKS = 2, 2, 1, 4
"""From a label (on or off) to the gateway's list; from a node to ready; from a deletion to the end of an idle pod; from
the end of an engine to the next one."""
REQUESTS = 2
"""That a worker runs while a gateway sends it some."""


@dataclass
class World:
    """A cluster with one resource and a budget of GPUs.

    Attributes:
        api: what is there.
        cap: GPUs that workers may hold together.
        broken: a word of the command of engines that do not come up.
        tick: moments so far.
        since: whether a gateway should list a worker, and since when, by uid of gateway and worker.
        born: when a worker got its node, by uid.
        ending: when its deletion was seen, by uid.
        requests: that a worker runs, by uid.
        lists: uids of workers that a gateway lists, by its uid.
        began_anew: when the engine of a worker ended, by uid, until it is there again.
        unknown: uids of prefill workers whose engine began anew and that decode holds for the one before.
        violations: writes of the operator that should not have been, with the reason.
    """

    api: MemoryApi
    cap: int
    broken: str = "--broken"
    tick: int = 0
    since: dict[tuple[str, str], tuple[bool, int]] = field(default_factory=dict)
    born: dict[str, int] = field(default_factory=dict)
    ending: dict[str, int] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    lists: dict[str, set[str]] = field(default_factory=dict)
    began_anew: dict[str, int] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    violations: list[str] = field(default_factory=list)
    addresses: Any = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.watch()

    def watch(self) -> None:
        """Look after each write of the operator."""
        self.api.after_write = self.check

    def copied(self) -> "World":
        """The same cluster at the same moment, to go on with in another way."""
        seen, self.api.after_write = self.api.after_write, nothing
        twin = copied(self)
        self.api.after_write = seen
        twin.watch()
        return twin

    def pods(self, pool: str = "") -> list[Json]:
        """Pods that are there, of one pool or all."""
        all_of_them = [thing for (kind, _), thing in sorted(self.api.objects.items()) if kind == kinds.POD.kind]
        return [pod for pod in all_of_them if pool in ("", pod["metadata"]["labels"][POOL_LABEL])]

    def workers(self) -> list[Json]:
        """Pods of the two roles."""
        return [pod for role in Role for pod in self.pods(role)]

    def held(self) -> int:
        """GPUs of all workers that are there, whatever they do."""
        return sum(
            int(pod["metadata"]["annotations"][GPUS_ANNOTATION])
            for pod in self.workers()
            if pod.get("status", {}).get("phase") not in ("Failed", "Succeeded")
        )

    def check(self, write: Write) -> None:
        """What must hold after each write: the cap, and that no worker is released before it is idle."""
        if self.held() > self.cap:
            self.violations.append(f"{write}: {self.held()} GPUs are held, of {self.cap}")
        pod = self.api.objects.get((kinds.POD.kind, write[2])) if write[:2] == ("delete", kinds.POD.kind) else None
        if pod is None or pod.get("status", {}).get("phase") == "Failed":
            return
        if ROLE_LABEL in pod["metadata"]["labels"]:
            self.violations.append(f"{write}: it has its label")
        if self.listed(pod):
            self.violations.append(f"{write}: a gateway lists it")
        if self.requests.get(pod["metadata"]["uid"]):
            self.violations.append(f"{write}: it runs requests")

    def pass_time(self) -> None:
        """A moment of everything but the operator."""
        self.tick += 1
        self.api.seconds += 1.0
        self._control()
        for pod in self.pods():
            self._kubelet(pod)
        self._gateways()

    def _control(self) -> None:
        """The Deployments' controller: as many gateways as each says."""
        for (kind, name), deployment in list(self.api.objects.items()):
            if kind != kinds.DEPLOYMENT.kind:
                continue
            count = deployment["spec"]["replicas"]
            wanted = {f"{name}-x-{number}" for number in range(count)}
            uid = deployment["metadata"]["uid"]
            owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{name}-x", "controller": True, "uid": uid}
            there = {pod["metadata"]["name"]: pod for pod in self.pods(ROUTER_POOL) if _owned(pod, uid)}
            for gone in there.keys() - wanted:
                there[gone]["metadata"].setdefault("deletionTimestamp", self.api.stamp())
            template = deployment["spec"]["template"]
            for new in wanted - there.keys():
                meta = {"name": new, "labels": template["metadata"]["labels"], "ownerReferences": [owner]}
                self.api.put(kinds.POD, {"metadata": meta, "spec": copied(template["spec"])})
            ready = sum(is_ready(pod) for name, pod in there.items() if name in wanted)
            deployment["status"] = {"replicas": count, "updatedReplicas": count, "readyReplicas": ready}
            deployment["status"]["observedGeneration"] = deployment["metadata"]["generation"]

    def _kubelet(self, pod: Json) -> None:
        meta, uid = pod["metadata"], pod["metadata"]["uid"]
        if pod.get("status", {}).get("phase") == "Failed" and "deletionTimestamp" not in meta:
            return
        if "deletionTimestamp" in meta:
            began = self.ending.setdefault(uid, self.tick)
            if self.tick - began >= EXIT_TICKS and not self.requests.get(uid):
                self.api.take(kinds.POD, meta["name"])
            return
        if not pod["spec"].get("nodeName"):
            pod["spec"]["nodeName"] = "node"
            self.born[uid] = self.tick
        if self.tick - self.began_anew.get(uid, self.tick) >= ANEW_TICKS:
            del self.began_anew[uid]
            self._engine(pod, ready=True)
        started = self.tick - self.born[uid] >= START_TICKS
        bad = self.broken in pod["spec"]["containers"][0]["command"]
        if not started or pod.get("status", {}).get("phase") == "Running":
            return
        number, container = next(self.addresses), pod["spec"]["containers"][0]["name"]
        ready = "False" if bad else "True"
        pod["status"] = {"phase": "Running", "podIP": f"10.1.{number // 250}.{number % 250 + 1}"}
        pod["status"] |= {"startTime": meta["creationTimestamp"], "conditions": [{"type": "Ready", "status": ready}]}
        told: Json = {"name": container, "image": "i", "ready": not bad, "restartCount": 3 * bad}
        if bad:
            told["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
            told["lastState"] = {"terminated": {"exitCode": 1, "reason": "Error"}}
        pod["status"]["containerStatuses"] = [told]

    def _engine(self, pod: Json, *, ready: bool) -> None:
        [told] = pod["status"]["containerStatuses"]
        told |= {"ready": ready, "state": {"running": {"startedAt": self.api.stamp()}}}
        pod["status"]["conditions"] = [{"type": "Ready", "status": str(ready)}]

    def _gateways(self) -> None:
        """Each lists the workers that it selects, a little late, and is ready while it has some of both roles."""
        workers = {pod["metadata"]["uid"]: pod for pod in self.workers()}
        running = [p for p in self.pods(ROUTER_POOL) if p.get("status", {}).get("phase") == "Running"]
        self.lists = {pod["metadata"]["uid"]: self.lists.get(pod["metadata"]["uid"], set()) for pod in running}
        for gateway in running:
            mine = self.lists[gateway["metadata"]["uid"]]
            mine.intersection_update(workers)
            for pod in workers.values():
                self._noticed(gateway, pod, mine)
            roles = {workers[uid]["metadata"]["labels"][POOL_LABEL] for uid in mine}
            ready = "True" if roles == set(Role) else "False"
            gateway["status"]["conditions"] = [{"type": "Ready", "status": ready}]
            gateway["status"]["containerStatuses"][0]["ready"] = ready == "True"
        sent_to = set().union(*self.lists.values())
        self.violations += [
            f"{workers[uid]['metadata']['name']} is sent requests that wait for the engine before"
            for uid in self.unknown & sent_to
            if is_ready(workers[uid])
        ]
        for uid in workers:
            sent = any(uid in mine for mine in self.lists.values())
            self.requests[uid] = REQUESTS if sent else max(0, self.requests.get(uid, 0) - 1)

    def _noticed(self, gateway: Json, pod: Json, mine: set[str]) -> None:
        meta = pod["metadata"]
        wanted, between = serves(pod) and selects(gateway, pod), (gateway["metadata"]["uid"], meta["uid"])
        if self.since.get(between, (not wanted, 0))[0] != wanted:
            self.since[between] = (wanted, self.tick)
        if self.tick - self.since[between][1] >= GATEWAY_TICKS or "deletionTimestamp" in meta:
            (mine.add if wanted else mine.discard)(meta["uid"])

    def listed(self, pod: Json) -> bool:
        """Whether a gateway lists a worker."""
        return any(pod["metadata"]["uid"] in mine for mine in self.lists.values())

    async def get_json(self, pod: Json, *_: Any, **__: Any) -> Any:
        """What gateways and engines answer."""
        if pod["metadata"]["labels"][POOL_LABEL] == ROUTER_POOL:
            return {
                "workers": [
                    {"url": f"http://{p['status']['podIP']}:30000", "worker_type": p["metadata"]["labels"][POOL_LABEL]}
                    for p in self.workers()
                    if p["metadata"]["uid"] in self.lists.get(pod["metadata"]["uid"], ())
                ]
            }
        running = self.requests.get(pod["metadata"]["uid"], 0)
        load = {"num_running_reqs": running, "num_waiting_reqs": 0, "num_waiting_uncached_tokens": 0}
        return {"loads": [{**load, "token_usage": 0.1 * running}]}

    async def post_json(self, pod: Json, port: int, path: str, body: Any, *_: Any) -> tuple[int, Any]:
        """One half of a canary."""
        assert path == "/generate"
        addresses = {p["status"].get("podIP"): p["metadata"]["uid"] for p in self.workers() if "status" in p}
        lost = addresses.get(body["bootstrap_host"]) in self.unknown
        return (500, {"message": "lost"}) if lost else (200, {})

    async def get_text(self, *_: Any) -> str:
        """Metrics: none are asked for here."""
        raise PodHttpError("no metrics")

    # What people and others do.

    def create(self, **spec: Any) -> None:
        """Apply the resource for the first time."""
        self.api.put(kinds.INFERENCE, {"metadata": {"name": NAME}, "spec": spec})

    def change(self, **spec: Any) -> None:
        """Apply it with other values; fields of maps are merged."""
        resource = self.api.objects[kinds.INFERENCE.kind, NAME]
        changed = copied(resource)
        for name, value in spec.items():
            old = changed["spec"].get(name)
            changed["spec"][name] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        self.api.put(kinds.INFERENCE, changed)

    def delete(self) -> None:
        """Delete the resource; garbage collection takes what it owns."""
        self.api.take(kinds.INFERENCE, NAME)

    def evict(self, role: Role) -> None:
        """Somebody else deletes a worker."""
        self.pods(role)[0]["metadata"]["deletionTimestamp"] = self.api.stamp()

    def fail(self, role: Role) -> None:
        """A node ends a worker, phase Failed."""
        pod = self.pods(role)[0]
        pod["status"] = {**pod["status"], "phase": "Failed", "conditions": [{"type": "Ready", "status": "False"}]}
        self.requests[pod["metadata"]["uid"]] = 0

    def end_engine(self, role: Role, *, noticed: bool) -> None:
        """The engine of a worker ends, and its node starts another one; `noticed`: decode forgets the one before."""
        pod = self.pods(role)[0]
        uid = pod["metadata"]["uid"]
        pod["status"]["containerStatuses"][0]["restartCount"] += 1
        self._engine(pod, ready=False)
        self.began_anew[uid], self.requests[uid] = self.tick, 0
        self.unknown |= set() if noticed else {uid}

    def operator(self) -> Reconciler:
        """An operator that has just started."""
        return Reconciler(
            self.api,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            now=lambda: datetime.fromtimestamp(self.api.seconds, UTC),
            monotonic=lambda: self.api.seconds,
        )

    def state(self) -> str:
        """What is there, without names of pods, numbers and times: two ends that are alike look alike."""
        shown: list[Any] = []
        for (kind, name), thing in sorted(self.api.objects.items()):
            if kind == kinds.POD.kind:
                meta = thing["metadata"]
                kept = {k: v for k, v in meta["labels"].items() if k != INSTANCE_LABEL}
                shown.append([kind, kept, sorted(meta.get("annotations", {})), thing["status"]["phase"]])
            elif kind == kinds.INFERENCE.kind:
                status = thing.get("status", {})
                told = sorted((c["type"], c["status"], c["reason"]) for c in status.get("conditions", []))
                roles = [{k: status.get(r, {}).get(k) for k in ("desired", "updated", "revision")} for r in Role]
                shown.append([kind, told, roles])
            else:
                shown.append([kind, name, thing.get("spec"), thing.get("data")])
        return json.dumps(sorted(shown, key=json.dumps), indent=1, sort_keys=True)

    def settled(self) -> bool:
        """Whether all workers serve, and nothing is ending."""
        return all(self.listed(pod) and serves(pod) for pod in self.workers())


def selects(gateway: Json, pod: Json) -> bool:
    """Whether a gateway's flags name all of a worker's labels that they ask for."""
    command, labels = gateway["spec"]["containers"][0]["command"], pod["metadata"]["labels"]
    first = command.index(f"--{labels[POOL_LABEL]}-selector") + 1
    words = itertools.takewhile(lambda word: not word.startswith("--"), command[first:])
    return all(labels.get(name) == value for name, value in (word.split("=") for word in words))


def _owned(pod: Json, uid: str) -> bool:
    return any(reference["uid"] == uid for reference in pod["metadata"].get("ownerReferences", []))


def is_ready(pod: Json) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", []))


def serves(pod: Json) -> bool:
    """Whether a gateway should list a pod."""
    return is_ready(pod) and ROLE_LABEL in pod["metadata"]["labels"] and "deletionTimestamp" not in pod["metadata"]
