"""Watching: every change becomes a key in the queue, nothing more.

What an event says beyond a name is not used; the pass reads the cluster itself.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from dopd.api.names import CHILD_SELECTOR, INSTANCE_LABEL
from dopd.cluster import Kubernetes, kinds
from dopd.cluster.watch import watch
from dopd.reconcile.queue import Key, KeyQueue

WATCHED_CHILDREN = (*kinds.CHILD_KINDS, kinds.POD)

_Seen = Callable[[dict[str, Any]], None]


async def watch_all(
    kubernetes: Kubernetes, queue: KeyQueue, namespaces: Sequence[str], watching: asyncio.Event
) -> None:
    """Feed `queue` for ever.

    Args:
        kubernetes: a connection that each watch may keep one line of.
        queue: of keys.
        namespaces: to watch; empty for all.
        watching: set once all watches have listed what is there.
    """

    def inference(metadata: dict[str, Any]) -> None:
        queue.add(_key(metadata, metadata.get("name")))

    def profile(metadata: dict[str, Any]) -> None:
        queue.add_namespace(metadata.get("namespace", ""))

    def child(metadata: dict[str, Any]) -> None:
        instance = (metadata.get("labels") or {}).get(INSTANCE_LABEL)
        if instance:
            queue.add(_key(metadata, instance))

    watched: list[tuple[kinds.Kind, str, _Seen]] = [
        (kinds.INFERENCE, "", inference),
        (kinds.PROFILE, "", profile),
        *((kind, CHILD_SELECTOR, child) for kind in WATCHED_CHILDREN),
    ]
    where: Sequence[str | None] = namespaces or (None,)
    unlisted = {(kind, namespace) for kind, _, _ in watched for namespace in where}

    def listed(kind: kinds.Kind, namespace: str | None) -> None:
        unlisted.discard((kind, namespace))
        if not unlisted:
            watching.set()

    async with asyncio.TaskGroup() as group:
        for kind, selector, seen in watched:
            for namespace in where:
                group.create_task(watch(kubernetes, kind, namespace, selector, seen, partial(listed, kind, namespace)))


def _key(metadata: dict[str, Any], name: Any) -> Key:
    return Key(metadata.get("namespace", ""), str(name))
