"""Workers of several nodes as the rest of the operator sees them: each group of pods as one pod. Pure.

The pod that stands for a group has the leader's name, address and containers, since gateway and operator talk to the
leader. It is ready when all pods are, has a node when all have, and holds the GPUs of all. Whether it drains stands on
its LeaderWorkerSet, which outlives its pods: they are all made anew when one of them ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dopd.api.names import (
    DRAINING_SINCE,
    LEADER_ANNOTATION,
    OWNER_ANNOTATION,
    POOL_LABEL,
    REMADE_ANNOTATION,
    ROLE_LABEL,
    ROLES,
    SERVING_LABEL,
)
from dopd.cluster.kinds import controller
from dopd.workloads import Owner
from dopd.workloads.groups import SET_LABEL, leader_name, pod_names

Json = dict[str, Any]

GROUP = "group"
"""Where a pod that stands for a group holds it; no field of Kubernetes'."""

_NEVER = "9999-12-31T00:00:00Z"
_SIZE_ANNOTATION = "leaderworkerset.sigs.k8s.io/size"
_MOST_NODES = 64


@dataclass(frozen=True)
class Group:
    """One worker of several nodes.

    Attributes:
        name: of its LeaderWorkerSet.
        nodes: pods that it should have.
        pods: those that are there.
        made_by: the LeaderWorkerSet; None where that is gone and the pods are not yet.
    """

    name: str
    nodes: int
    pods: tuple[Json, ...]
    made_by: Json | None

    @property
    def leader(self) -> Json | None:
        """The pod that gateway and operator talk to."""
        return next((pod for pod in self.pods if pod["metadata"]["name"] == leader_name(self.name)), None)

    @property
    def missing(self) -> list[str]:
        """Names of pods that are not there."""
        there = {pod["metadata"]["name"] for pod in self.pods}
        return [name for name in pod_names(self.name, self.nodes) if name not in there]

    @property
    def homeless(self) -> list[str]:
        """Names of pods that are not there or have no node."""
        waiting = [p["metadata"]["name"] for p in self.pods if not p.get("spec", {}).get("nodeName")]
        return sorted([*self.missing, *waiting])

    @property
    def kept(self) -> bool:
        """Whether it is not being deleted as a whole."""
        return self.made_by is not None and "deletionTimestamp" not in self.made_by["metadata"]

    @property
    def remaking(self) -> bool:
        """Whether its pods end, or have ended, to be made anew."""
        ending = any("deletionTimestamp" in pod["metadata"] for pod in self.pods)
        return ending or (self.leader is None and LEADER_ANNOTATION in self._annotations)

    @property
    def remade(self) -> int:
        """How often its pods were made anew since it served last."""
        told = str(self._annotations.get(REMADE_ANNOTATION, ""))
        return int(told[:6]) if told.isascii() and told.isdigit() else 0

    @property
    def drains(self) -> bool:
        """Whether it is to get no new request."""
        return DRAINING_SINCE in self._annotations

    @property
    def astray(self) -> bool:
        """Whether the leader's label says otherwise: it was made anew, or a write is missing."""
        return self.leader is not None and self.drains == (ROLE_LABEL in self.leader["metadata"].get("labels", {}))

    @property
    def partial(self) -> bool:
        """Whether some of its pods hold nodes in vain."""
        return bool(self.homeless) and len(self.homeless) < self.nodes

    @property
    def new_leader(self) -> str | None:
        """Uid of a leader that its LeaderWorkerSet does not know of yet."""
        uid = str(self.leader["metadata"].get("uid")) if self.leader else None
        return uid if uid and uid != self._annotations.get(LEADER_ANNOTATION) else None

    @property
    def known_before(self) -> bool:
        """Whether another leader was seen before."""
        return LEADER_ANNOTATION in self._annotations

    @property
    def _annotations(self) -> Mapping[str, Any]:
        return (self.made_by or {}).get("metadata", {}).get("annotations") or {}


def group_of(pod: Json) -> Group | None:
    """The group that a pod stands for; None of a pod that stands for itself."""
    found = pod.get(GROUP)
    return found if isinstance(found, Group) else None


def set_name(pod: Json) -> str:
    """Name of the LeaderWorkerSet that a pod says it is of; "" without one."""
    return str((pod["metadata"].get("labels") or {}).get(SET_LABEL, ""))


def as_workers(pods: Sequence[Json], sets: Sequence[Json], owner: Owner) -> list[Json]:
    """The groups of a resource as pods.

    Args:
        pods: those that carry the resource's label, whoever made them.
        sets: LeaderWorkerSets that the resource controls.
        owner: the resource.
    """
    made_by = {str(item["metadata"]["name"]): item for item in sets if _role(item) in ROLES}
    members: dict[str, list[Json]] = {name: [] for name in made_by}
    for pod in pods:
        if (name := set_name(pod)) and _is_ours(pod, name, owner):
            members.setdefault(name, []).append(pod)
    return [_as_one(_group(name, members[name], made_by.get(name)), owner) for name in sorted(members)]


def _role(item: Json) -> str:
    return str((item["metadata"].get("labels") or {}).get(POOL_LABEL, ""))


def _is_ours(pod: Json, name: str, owner: Owner) -> bool:
    """Whether a group of the resource has such a pod: by resource, names, and the StatefulSet that made it."""
    meta, made_by = pod["metadata"], controller(pod)
    if _role(pod) not in ROLES or not name.startswith(f"{owner.child_name(_role(pod))}-"):
        return False
    if (meta.get("annotations") or {}).get(OWNER_ANNOTATION) != owner.uid:
        return False
    leader = leader_name(name)
    by = name if meta["name"] == leader else leader
    return (made_by.get("apiVersion"), made_by.get("kind"), made_by.get("name")) == ("apps/v1", "StatefulSet", by)


def _group(name: str, pods: Sequence[Json], made_by: Json | None) -> Group:
    told = [(p["metadata"].get("annotations") or {}).get(_SIZE_ANNOTATION) for p in pods]
    if made_by is not None:
        told = [made_by.get("spec", {}).get("leaderWorkerTemplate", {}).get("size")]
    nodes = next((int(n) for n in map(str, told) if n.isascii() and n.isdigit()), len(pods))
    ordered = sorted(pods, key=lambda pod: (len(pod["metadata"]["name"]), pod["metadata"]["name"]))
    return Group(name, min(max(nodes, 1), _MOST_NODES), tuple(ordered), made_by)


def _as_one(group: Group, owner: Owner) -> Json:
    leader = group.leader or {}
    meta: Json = leader.get("metadata", {})
    about: Json = (group.made_by or group.pods[0])["metadata"]
    labels = {**(meta or about).get("labels", {}), **about.get("labels", {})}
    annotations = {**(meta.get("annotations") or {}), **(about.get("annotations") or {})}
    labels.pop(ROLE_LABEL, None)
    labels.pop(SERVING_LABEL, None)
    if group.kept and not group.drains:
        labels[ROLE_LABEL] = labels[POOL_LABEL]
    serving = [SERVING_LABEL in (pod["metadata"].get("labels") or {}) for pod in group.pods]
    if len(serving) == group.nodes and all(serving):
        labels[SERVING_LABEL] = "true"
    metadata: Json = {
        "name": leader_name(group.name),
        "namespace": owner.namespace,
        "uid": (meta or about)["uid"],
        "creationTimestamp": (meta or about)["creationTimestamp"],
        "labels": labels,
        "annotations": annotations,
        "ownerReferences": [{"uid": owner.uid, "controller": True, "kind": "DisaggregatedInference"}],
    }
    if not group.kept:
        metadata["deletionTimestamp"] = _end(group.pods)
    return {"metadata": metadata, "spec": _spec(group, leader), "status": _status(group, leader), GROUP: group}


def _end(pods: Sequence[Json]) -> str:
    """When the last of the pods should be gone; never, while one is not being deleted yet."""
    return max((str(pod["metadata"].get("deletionTimestamp", _NEVER)) for pod in pods), default=_NEVER)


def _spec(group: Group, leader: Json) -> Json:
    spec = {name: part for name, part in leader.get("spec", {}).items() if name != "nodeName"}
    if not group.homeless or group.remaking:  # else it finds no node, or not enough of them
        nodes = [pod["spec"]["nodeName"] for pod in group.pods if pod.get("spec", {}).get("nodeName")]
        spec["nodeName"] = nodes[0] if nodes else "to be made anew"
    return spec


def _status(group: Group, leader: Json) -> Json:
    status = {name: part for name, part in leader.get("status", {}).items() if name in ("podIP", "podIPs", "startTime")}
    whole = not group.missing and not group.remaking
    conditions = []
    for kind in ("Ready", "PodScheduled"):
        told = [_condition(pod, kind) for pod in group.pods]
        times = [str(one["lastTransitionTime"]) for one in told if one.get("lastTransitionTime")]
        true = whole and all(one.get("status") == "True" for one in told)
        at = {"lastTransitionTime": max(times)} if times else {}
        conditions.append({"type": kind, "status": str(true), **at})
    status["conditions"] = conditions
    status["containerStatuses"] = [c for p in group.pods for c in p.get("status", {}).get("containerStatuses") or []]
    return status


def _condition(pod: Json, kind: str) -> Json:
    found = pod.get("status", {}).get("conditions") or []
    return next((condition for condition in found if condition.get("type") == kind), {})
