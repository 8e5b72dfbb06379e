"""A stand-in for the controller of LeaderWorkerSets, whose program can not be had here; played turn by turn.

It does what the published one does (kubernetes-sigs/lws, August 2026) as far as dopd relies on it: names, labels,
annotations and variables of the pods, StatefulSets that own each other as there, startupPolicy LeaderCreated, and
RecreateGroupOnPodRestart. The pods are made by the real controller of StatefulSets. Of the published one's webhook
it plays the outcome: what that writes into pods stands in the templates here, and a member's number comes from its
StatefulSet. It also plays the garbage collector for the sets themselves, which learns of a new definition half a minute
late; all below them is left to the real one.
"""

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import httpx

from dopd.cluster import kinds

Json = dict[str, Any]
DEFINITION = Path(__file__).parent / "leaderworkersets.yaml"
STATEFUL_SET = kinds.Kind("apps/v1", "StatefulSet", "statefulsets")
PREFIX = "leaderworkerset.sigs.k8s.io/"
MERGE = {"Content-Type": "application/merge-patch+json"}


class LeaderWorkerSets:
    """The controller of one namespace."""

    def __init__(self, api: httpx.Client, namespace: str) -> None:
        self._api, self._namespace = api, namespace

    def turn(self) -> None:
        """What it does about what is there."""
        sets = {item["metadata"]["name"]: item for item in self._all(kinds.LEADER_WORKER_SET)}
        leaders = [
            s
            for s in self._all(STATEFUL_SET)
            if s["spec"]["template"]["metadata"]["labels"].get(f"{PREFIX}worker-index")
        ]
        self._collect(sets, {item["metadata"]["name"]: item for item in leaders})
        sets = {name: item for name, item in sets.items() if "deletionTimestamp" not in item["metadata"]}
        for name, item in sets.items():
            if name not in {leader["metadata"]["name"] for leader in leaders}:
                self._create(kinds.SERVICE, _service(item))
                self._create(STATEFUL_SET, _leaders(item))
        for pod in self._all(kinds.POD):
            item = sets.get(pod["metadata"]["labels"].get(f"{PREFIX}name", ""))
            if item is not None:
                self._look_at(item, pod)

    def _look_at(self, item: Json, pod: Json) -> None:
        meta = pod["metadata"]
        leads = meta["labels"].get(f"{PREFIX}worker-index") == "0"
        statuses = pod.get("status", {}).get("containerStatuses") or []
        if "deletionTimestamp" in meta or any(status["restartCount"] for status in statuses):
            leader = pod if leads else self._leader_of(pod)
            if leader and "deletionTimestamp" not in leader["metadata"]:
                self._delete(kinds.POD, leader, "Foreground")
        elif leads:
            self._create(STATEFUL_SET, _others(item, pod))

    def _leader_of(self, pod: Json) -> Json | None:
        """The leader, unless the pod is left over from the group before: by the uids of the owners between them."""
        name = pod["metadata"]["name"].rpartition("-")[0]
        leader, owner = self._get(kinds.POD, name), self._get(STATEFUL_SET, name)
        if not leader or not owner or kinds.controller(pod).get("uid") != owner["metadata"]["uid"]:
            return None
        return leader if kinds.controller(owner).get("uid") == leader["metadata"]["uid"] else None

    def _collect(self, sets: dict[str, Json], leaders: dict[str, Json]) -> None:
        """What the garbage collector does of a set that is deleted, in the foreground or before its pods."""
        for name, leader in leaders.items():
            item = sets.get(name)
            if item is None or kinds.controller(leader)["uid"] != item["metadata"]["uid"]:
                self._delete(STATEFUL_SET, leader, "Background")
            elif "deletionTimestamp" in item["metadata"] and "deletionTimestamp" not in leader["metadata"]:
                self._delete(STATEFUL_SET, leader, "Foreground")
        for name, item in sets.items():
            if item["metadata"].get("finalizers") and name not in leaders:
                path = kinds.LEADER_WORKER_SET.path(self._namespace, name)
                self._api.patch(path, content=json.dumps({"metadata": {"finalizers": None}}), headers=MERGE)

    def _all(self, kind: kinds.Kind) -> list[Json]:
        found: list[Json] = self._api.get(kind.path(self._namespace)).raise_for_status().json()["items"]
        return found

    def _get(self, kind: kinds.Kind, name: str) -> Json | None:
        answer = self._api.get(kind.path(self._namespace, name))
        return None if answer.status_code == 404 else answer.raise_for_status().json()

    def _create(self, kind: kinds.Kind, manifest: Json) -> None:
        answer = self._api.post(kind.path(self._namespace), json=manifest)
        assert answer.status_code in (201, 409), answer.text

    def _delete(self, kind: kinds.Kind, item: Json, policy: str) -> None:
        meta = item["metadata"]
        body = {"propagationPolicy": policy, "preconditions": {"uid": meta["uid"]}}
        answer = self._api.request("DELETE", kind.path(self._namespace, meta["name"]), json=body)
        assert answer.status_code in (200, 202, 404, 409), answer.text


def _owner(item: Json, kind: kinds.Kind) -> list[Json]:
    meta = item["metadata"]
    reference = {"apiVersion": kind.api_version, "kind": kind.kind, "name": meta["name"], "uid": meta["uid"]}
    return [{**reference, "controller": True, "blockOwnerDeletion": True}]


def _service(item: Json) -> Json:
    name = item["metadata"]["name"]
    meta = {"name": name, "ownerReferences": _owner(item, kinds.LEADER_WORKER_SET), "labels": {f"{PREFIX}name": name}}
    spec = {"clusterIP": "None", "selector": {f"{PREFIX}name": name}, "publishNotReadyAddresses": True}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}


def _leaders(item: Json) -> Json:
    """The StatefulSet of the leaders; of one group here, as dopd asks for."""
    assert (item["spec"]["replicas"], item["spec"]["startupPolicy"]) == (1, "LeaderCreated")
    name, of_group = item["metadata"]["name"], item["spec"]["leaderWorkerTemplate"]
    template = copy.deepcopy(of_group.get("leaderTemplate") or of_group["workerTemplate"])
    told = {f"{PREFIX}worker-index": "0", **_group_labels(item)}
    return _stateful_set(item, name, template, told, {"value": "0"}, _owner(item, kinds.LEADER_WORKER_SET)) | {
        "spec": {
            **_spec(item, template, 1),
            "selector": {"matchLabels": {f"{PREFIX}name": name, f"{PREFIX}worker-index": "0"}},
        }
    }


def _others(item: Json, leader: Json) -> Json:
    """The StatefulSet of the other pods of a group; the leader owns it."""
    name, of_group = leader["metadata"]["name"], item["spec"]["leaderWorkerTemplate"]
    template = copy.deepcopy(of_group["workerTemplate"])
    number = {"valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']"}}}
    made = _stateful_set(item, name, template, _group_labels(item), number, _owner(leader, kinds.POD))
    template["metadata"]["annotations"][f"{PREFIX}leader-name"] = name
    ordinals = {"ordinals": {"start": 1}, "selector": {"matchLabels": _group_labels(item)}}
    return made | {"spec": {**_spec(item, template, of_group["size"] - 1), **ordinals}}


def _group_labels(item: Json) -> Json:
    name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
    key = hashlib.sha1(f"{namespace}/{name}-0".encode(), usedforsecurity=False).hexdigest()
    return {f"{PREFIX}name": name, f"{PREFIX}group-index": "0", f"{PREFIX}group-key": key}


def _spec(item: Json, template: Json, replicas: int) -> Json:
    service = {"serviceName": item["metadata"]["name"], "podManagementPolicy": "Parallel"}
    return {**service, "replicas": replicas, "template": template}


def _stateful_set(item: Json, name: str, template: Json, labels: Json, number: Json, owners: list[Json]) -> Json:
    size = item["spec"]["leaderWorkerTemplate"]["size"]
    template["metadata"]["labels"] |= labels
    template["metadata"].setdefault("annotations", {})[f"{PREFIX}size"] = str(size)
    set_name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
    first = [
        {"name": "LWS_LEADER_ADDRESS", "value": f"{set_name}-0.{set_name}.{namespace}"},
        {"name": "LWS_GROUP_SIZE", "value": str(size)},
        {"name": "LWS_WORKER_INDEX", **number},
    ]
    for container in template["spec"]["containers"]:
        container["env"] = first + container.get("env", [])
    meta = {"name": name, "labels": {**item["metadata"]["labels"], **labels}, "ownerReferences": owners}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta}
