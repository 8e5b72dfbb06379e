"""Lists of a resource's children that are kept, and asked for again only when one may have changed.

A list is kept as long as

- no watch told of a change to a child of this kind since before it was asked for,
- this process began and ended no write to an object of this kind in the namespace since then, and
- it is younger than a minute.

So a pass never acts on less than what the operator wrote itself. What others change is as old as the watch is late, and
a watch that hangs costs a minute. Pods are not kept: what moves workers looks at them anew at each pass.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from dopd.cluster import Kubernetes
from dopd.cluster.kinds import Kind
from dopd.reconcile.queue import Key

Json = dict[str, Any]
Ask = Callable[[Kind], Awaitable[list[Json]]]
KEPT_SECONDS = 60.0


class _Kept(NamedTuple):
    """A list, and what was known when it was asked for."""

    items: list[Json]
    at_seconds: float
    changes: int
    writes: int


class KeptLists:
    """Lists by resource and kind.

    Args:
        kubernetes: counts its writes.
        monotonic: seconds that no step of the clock moves.
    """

    def __init__(self, kubernetes: Kubernetes, monotonic: Callable[[], float]) -> None:
        self._kubernetes, self._monotonic = kubernetes, monotonic
        self._kept: dict[Key, dict[Kind, _Kept]] = {}
        self._changes: dict[Key, Counter[Kind]] = {}
        self._own: dict[Key, str] = {}

    def changed(self, key: Key, kind: Kind) -> None:
        """A watch told of the resource, of one of its children or of a profile that came, changed or went."""
        if key in self._changes:
            self._changes[key][kind] += 1

    def told(self, key: Key) -> int:
        """How many changes were told since this was asked first; each makes it another number."""
        return self._changes.setdefault(key, Counter()).total()

    def wrote(self, key: Key, resource: Json) -> None:
        """The resource as this process wrote it last: a watch is going to tell of it."""
        self._own[key] = str(resource["metadata"].get("resourceVersion"))

    def is_own(self, key: Key, version: str) -> bool:
        """Whether a version of the resource is the one that this process wrote last, and knows."""
        return self._own.get(key) == version

    def forget(self, key: Key) -> None:
        """The resource is gone, or nobody looks at it any more."""
        self._kept.pop(key, None)
        self._changes.pop(key, None)
        self._own.pop(key, None)

    async def read(self, key: Key, kind: Kind, ask: Ask) -> list[Json]:
        """The children of a kind; whoever is handed them leaves them as they are.

        Args:
            key: of the resource.
            kind: of the children.
            ask: lists them. What it raises is passed on, and nothing is kept.
        """
        of_key, told = self._kept.setdefault(key, {}), self._changes.setdefault(key, Counter())
        known, changes, writes = of_key.get(kind), told[kind], self._writes(key, kind)
        now = self._monotonic()
        if known and (known.changes, known.writes) == (changes, writes) and now - known.at_seconds < KEPT_SECONDS:
            return known.items
        of_key.pop(kind, None)
        items = await ask(kind)
        of_key[kind] = _Kept(items, now, changes, writes)
        return items

    def _writes(self, key: Key, kind: Kind) -> int:
        return self._kubernetes.writes[key.namespace, kind.plural]
