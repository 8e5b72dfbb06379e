"""What kopf does: watching. Every event becomes a key in the queue, nothing more.

Only `on.event` handlers are used: they set no finalizer (a resource can be deleted while the operator is down)
and write no annotation (Git sees no drift). What an event says is not used either; the pass reads the cluster
itself. So kopf gets a session of ours that lets names and labels through and nothing else (`session`).
"""

from collections.abc import Callable, Mapping
from typing import Any

import kopf

from dopd.api.base import GROUP, VERSION
from dopd.api.names import CHILD_SELECTOR, INSTANCE_LABEL
from dopd.cluster import kinds
from dopd.reconcile.queue import Key, KeyQueue
from dopd.reconcile.session import login

WATCHED_CHILDREN = (*kinds.CHILD_KINDS, kinds.POD)

PAGE = 25
"""Objects of a list that are asked for at a time: the metadata of one may be 1.2 MB."""


def registry(
    queue: KeyQueue,
    changed: Callable[[Key, kinds.Kind], None],
    is_own: Callable[[Key, str], bool] = lambda key, version: False,
) -> kopf.OperatorRegistry:
    """The handlers.

    Args:
        queue: gets the key of each resource that an event concerns.
        changed: told before that of what came, changed or went: the resource, a child of it, or a profile.
        is_own: whether a version of a resource is what this process wrote itself, so that nothing of it is new.
    """
    handlers = kopf.OperatorRegistry()

    async def inference(
        *, name: str, namespace: str | None, meta: Mapping[str, Any], event: Mapping[str, Any], **_: Any
    ) -> None:
        key = Key(namespace or "", name)
        if event["type"] != "DELETED" and is_own(key, str(meta.get("resourceVersion"))):
            return
        changed(key, kinds.INFERENCE)
        queue.add(key)

    def of_child(kind: kinds.Kind) -> Callable[..., Any]:
        async def child(*, namespace: str | None, labels: Mapping[str, str], **_: Any) -> None:
            instance = labels.get(INSTANCE_LABEL)
            if instance:
                key = Key(namespace or "", instance)
                changed(key, kind)
                queue.add(key)

        return child

    async def profile(*, namespace: str | None, **_: Any) -> None:
        for key in queue.of_namespace(namespace or ""):
            changed(key, kinds.PROFILE)
            queue.add(key)

    kopf.on.login(registry=handlers)(login)
    kopf.on.event(GROUP, VERSION, kinds.INFERENCE.plural, registry=handlers)(inference)
    kopf.on.event(GROUP, VERSION, kinds.PROFILE.plural, registry=handlers)(profile)
    for kind in WATCHED_CHILDREN:
        kopf.on.event(kind.group, kind.version, kind.plural, registry=handlers)(of_child(kind))
    return handlers


def settings() -> kopf.OperatorSettings:
    """Kopf set to watch and to write nothing."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.peering.standalone = True
    chosen.scanning.disabled = True
    chosen.watching.connect_timeout = 10
    chosen.watching.chunk_size = PAGE
    for kind in WATCHED_CHILDREN:
        chosen.watching.label_selectors[kind.group, kind.version, kind.plural] = CHILD_SELECTOR
    return chosen
