"""The writes to workers of several nodes: to the LeaderWorkerSet of each, and to its pods' labels.

Whether a group drains is written to its set first, and the leader's label follows. So a leader that was made anew in
the middle of a drain does not serve again, and an operator that died between the two writes does the second one later.
"""

import logging
from typing import Any

from dopd.api.names import (
    DRAINING_SINCE,
    LEADER_ANNOTATION,
    POOL_LABEL,
    REMADE_ANNOTATION,
    ROLE_LABEL,
    SERVING_LABEL,
)
from dopd.cluster import Kubernetes, kinds
from dopd.reconcile.groups import Group
from dopd.workloads import Owner

_LOG = logging.getLogger(__name__)

Json = dict[str, Any]


class GroupWrites:
    """Writes groups.

    Args:
        kubernetes: where to.
    """

    def __init__(self, kubernetes: Kubernetes) -> None:
        self._kubernetes = kubernetes

    async def keep(self, owner: Owner, group: Group) -> None:
        """What a group needs beside the steps: its leader noted, and that one's label as the set says."""
        if group.new_leader:
            again = str(group.remade + 1) if group.known_before else None
            await self._annotate(owner, group, {LEADER_ANNOTATION: group.new_leader, REMADE_ANNOTATION: again})
        if group.astray:
            role = None if group.drains or group.made_by is None else group.made_by["metadata"]["labels"][POOL_LABEL]
            await self._label(owner, group, role)

    async def label(self, owner: Owner, group: Group, role: str | None, now: str) -> None:
        """Let a group serve in a role, or, with None, get no new request."""
        await self._annotate(owner, group, {DRAINING_SINCE: None if role else now})
        await self._label(owner, group, role)

    async def listed(self, owner: Owner, group: Group) -> None:
        """A gateway has come to list it: evictions may not take its pods beyond the budget."""
        if group.remade:
            await self._annotate(owner, group, {REMADE_ANNOTATION: None})
        for pod in group.pods:
            await self._patch(kinds.POD, owner, pod["metadata"]["name"], {"labels": {SERVING_LABEL: "true"}})

    async def delete(self, group: Group) -> None:
        """Take a group away: all its pods are told at once, and its set goes when the last of them has gone."""
        if group.made_by is None:
            return
        meta = group.made_by["metadata"]
        _LOG.info("delete LeaderWorkerSet %s/%s", meta["namespace"], meta["name"])
        kind = kinds.LEADER_WORKER_SET
        await self._kubernetes.delete(kind, meta["namespace"], meta["name"], meta["uid"], foreground=True)

    async def _annotate(self, owner: Owner, group: Group, annotations: Json) -> None:
        await self._patch(kinds.LEADER_WORKER_SET, owner, group.name, {"annotations": annotations})

    async def _label(self, owner: Owner, group: Group, role: str | None) -> None:
        for pod in group.pods:
            labels: Json = {} if role else {SERVING_LABEL: None}
            if pod is group.leader:
                labels[ROLE_LABEL] = role
            if any(value != pod["metadata"]["labels"].get(name) for name, value in labels.items()):
                await self._patch(kinds.POD, owner, pod["metadata"]["name"], {"labels": labels})

    async def _patch(self, kind: kinds.Kind, owner: Owner, name: str, metadata: Json) -> None:
        _LOG.info("%s %s/%s: %s", kind.plural, owner.namespace, name, metadata)
        await self._kubernetes.merge_patch(kind, owner.namespace, name, {"metadata": metadata})
