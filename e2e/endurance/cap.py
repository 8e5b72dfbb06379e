"""GPUs that workers held at each moment, from the API server's audit log."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from e2e.cluster.docker import Docker
from e2e.cluster.kind import AUDIT_LOG
from e2e.endurance.field import ROLES
from e2e.stack import Stack

Json = dict[str, Any]
_FINAL = ("system:node:", "system:serviceaccount:kube-system:pod-garbage-collector")
"""Who ends a pod that has a node: its kubelet once it has stopped, or the collector when the node is lost."""


@dataclass(frozen=True)
class Held:
    """What was held from an event on.

    Attributes:
        at: when the API server received it.
        pod: whose event it is.
        gpus: of all workers that are there now, serving, starting or ending; one each.
    """

    at: datetime
    pod: str
    gpus: int


def pod_events(stack: Stack, docker: Docker) -> list[Json]:
    """Creations, bindings and deletions of pods in the audit log; picked on the node: it is long.

    The API server puts a full log aside (100 MB) under its name with the time, and begins the next one.
    """
    pattern = r'"verb":"(create|delete)".*"resource":"pods"'
    logs = AUDIT_LOG.replace(".log", "*.log")
    found = docker.execute(stack.cluster.control_plane, "sh", "-c", f"grep -hE '{pattern}' {logs} || true")
    return [json.loads(line) for line in found.splitlines()]


def held(events: Iterable[Json], name: str) -> Iterator[Held]:
    """The GPUs that a resource's workers held after each creation and each end.

    Args:
        events: of the audit log.
        name: of the resource.
    """
    there: set[str] = set()
    bound: set[str] = set()
    prefixes = tuple(f"{name}-{role}-" for role in ROLES)
    ended = (e for e in events if e["stage"] == "ResponseComplete")
    done = (e for e in ended if e.get("responseStatus", {}).get("code", 500) < 300)
    for event in sorted(done, key=lambda e: str(e["requestReceivedTimestamp"])):
        target = event.get("objectRef", {})
        pod, verb, part = target.get("name", ""), event["verb"], target.get("subresource", "")
        if not pod.startswith(prefixes) or "dryRun" in event["requestURI"]:
            continue
        if (verb, part) == ("create", "binding"):
            bound.add(pod)
            continue
        if (verb, part) == ("create", ""):
            there.add(pod)
        elif verb == "delete" and (pod not in bound or event["user"]["username"].startswith(_FINAL)):
            there.discard(pod)
            bound.discard(pod)
        else:
            continue
        yield Held(datetime.fromisoformat(event["requestReceivedTimestamp"]), pod, len(there))
