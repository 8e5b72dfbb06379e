"""The world with workers of several nodes: what makes the pods of LeaderWorkerSets, beside scheduler and kubelets.

As the published controller does it, as far as dopd relies on that: pods by name, one that ends takes the others with
it, and they are made anew when the last has gone. A set that is deleted goes after its pods.
"""

from typing import Any

from dopd.api.names import ROLE_LABEL, Role
from dopd.cluster import kinds
from dopd.workloads.groups import SET_LABEL, pod_names

from .api import Write, copied
from .world import World, is_ready, serves

Json = dict[str, Any]
SET = kinds.LEADER_WORKER_SET


class GroupWorld(World):
    """A cluster with LeaderWorkerSets."""

    def sets(self) -> dict[str, Json]:
        """LeaderWorkerSets by name."""
        return {name: thing for (kind, name), thing in self.api.objects.items() if kind == SET.kind}

    def group(self, name: str) -> list[Json]:
        """Pods of one."""
        return [pod for pod in self.workers() if pod["metadata"]["labels"].get(SET_LABEL) == name]

    def held(self) -> int:
        """GPUs of all pods of workers; a group that has one pod holds those of all."""
        whole = {name: item["spec"]["leaderWorkerTemplate"]["size"] for name, item in self.sets().items()}
        alone = [pod for pod in self.workers() if SET_LABEL not in pod["metadata"]["labels"]]
        left = [p for p in self.workers() if SET_LABEL in p["metadata"]["labels"] and _name(p) not in whole]
        return sum(whole.values()) + len(alone) + len(left)

    def check(self, write: Write) -> None:
        """The same of a group as of a pod: its set is deleted once its leader is drained."""
        super().check(write)
        if write[:2] != ("delete", SET.kind):
            return
        for pod in self.group(write[2]):
            if ROLE_LABEL in pod["metadata"]["labels"]:
                self.violations.append(f"{write}: {pod['metadata']['name']} has its label")
            if self.listed(pod):
                self.violations.append(f"{write}: a gateway lists it")
            if self.requests.get(pod["metadata"]["uid"]):
                self.violations.append(f"{write}: it runs requests")

    def _control(self) -> None:
        super()._control()
        for name, item in self.sets().items():
            pods = self.group(name)
            if "deletionTimestamp" in item["metadata"] and not pods:
                self.api.take(SET, name)
            elif any("deletionTimestamp" in pod["metadata"] or _restarted(pod) for pod in pods):
                for pod in pods:
                    pod["metadata"].setdefault("deletionTimestamp", self.api.stamp())
            elif not pods:
                self._make(name, item)

    def _make(self, name: str, item: Json) -> None:
        of_group = item["spec"]["leaderWorkerTemplate"]
        first, *others = pod_names(name, of_group["size"])
        for pod_name in (first, *others):
            template = copied(of_group["leaderTemplate" if pod_name == first else "workerTemplate"])
            by = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name if pod_name == first else first}
            owner = {**by, "controller": True, "uid": item["metadata"]["uid"]}
            labels = {**template["metadata"]["labels"], SET_LABEL: name}
            meta = {**template["metadata"], "name": pod_name, "labels": labels, "ownerReferences": [owner]}
            self.api.put(kinds.POD, {"metadata": meta, "spec": template["spec"]})

    def end_container(self, role: Role, leader: bool) -> None:
        """A container of a pod of a group ends."""
        pods = [pod for pod in self.pods(role) if (ROLE_LABEL in pod["metadata"]["labels"]) is leader]
        pods[0]["status"]["containerStatuses"][0]["restartCount"] = 1
        self.requests[pods[0]["metadata"]["uid"]] = 0

    def settled(self) -> bool:
        """Whether all workers serve, all pods are ready, and nothing is ending."""
        for pod in self.workers():
            meta = pod["metadata"]
            leads = SET_LABEL not in meta["labels"] or meta["name"] == pod_names(_name(pod), 1)[0]
            if "deletionTimestamp" in meta or not is_ready(pod) or (leads and not (serves(pod) and self.listed(pod))):
                return False
        return all("deletionTimestamp" not in item["metadata"] and self.group(n) for n, item in self.sets().items())

    def state(self) -> str:
        """Without what tells leaders apart."""
        return super().state().replace("dopd.dev/leader-uid", "")


def _name(pod: Json) -> str:
    return str(pod["metadata"]["labels"][SET_LABEL])


def _restarted(pod: Json) -> bool:
    return any(status["restartCount"] for status in pod.get("status", {}).get("containerStatuses", []))
