"""An API server in memory, as far as the operator's writes go. Those against a real one stand in `controlplane`."""

import itertools
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from dopd.cluster import ApiError, kinds
from dopd.cluster.fence import note_write

Json = dict[str, Any]
At = tuple[str, str]
Write = tuple[str, str, str]
"""Verb, kind and name."""
NAMESPACE = "ns"


Found = TypeVar("Found")


def copied(thing: Found) -> Found:
    """A deep copy; quicker than that of `copy`, and there are many."""
    found: Found = pickle.loads(pickle.dumps(thing))
    return found


def nothing(_: object) -> None:
    """When nobody looks on."""


@dataclass
class MemoryApi:
    """One namespace; what depends on an owner that is deleted goes with it.

    Attributes:
        objects: by kind and name.
        seconds: the time, since the epoch.
        writes: of the operator, in order.
        after_write: called after each.
    """

    objects: dict[At, Json] = field(default_factory=dict)
    seconds: float = 1_800_000_000.0
    writes: list[Write] = field(default_factory=list)
    after_write: Callable[[Write], None] = nothing
    _numbers: Any = field(default_factory=partial(itertools.count, 1))

    def stamp(self) -> str:
        return datetime.fromtimestamp(self.seconds, UTC).isoformat().replace("+00:00", "Z")

    def _write(self, verb: str, kind: kinds.Kind, name: str) -> Write:
        note_write()
        self.writes.append((verb, kind.kind, name))
        return self.writes[-1]

    def put(self, kind: kinds.Kind, body: Json) -> Json:
        """Store an object as it is given, but for what the server says of it."""
        meta = body["metadata"]
        before = self.objects.get((kind.kind, meta["name"]))
        old = before["metadata"] if before else {}
        changed = before is None or before.get("spec") != body.get("spec")
        stored = copied({"apiVersion": kind.api_version, "kind": kind.kind, **body})
        stored["metadata"] |= {
            "namespace": NAMESPACE,
            "uid": old.get("uid") or f"uid-{next(self._numbers)}",
            "creationTimestamp": old.get("creationTimestamp") or self.stamp(),
            "generation": old.get("generation", 0) + changed,
            "resourceVersion": str(next(self._numbers)),
        }
        self.objects[kind.kind, meta["name"]] = stored
        return stored

    def take(self, kind: kinds.Kind, name: str) -> None:
        """Remove an object, and what it owns."""
        gone = self.objects.pop((kind.kind, name), None)
        if gone is None:
            return
        self._dismiss_all_of(gone)

    def _dismiss_all_of(self, owner: Json) -> None:
        """Delete what an object owns."""
        uid = owner["metadata"]["uid"]
        for (of, child), thing in list(self.objects.items()):
            if any(ref.get("uid") == uid for ref in thing["metadata"].get("ownerReferences") or []):
                self._dismiss(of, child)

    def _dismiss(self, kind: str, name: str) -> None:
        """Delete in the background: a pod that has a node ends in its own time."""
        thing = self.objects[kind, name]
        if kind == kinds.POD.kind and thing["spec"].get("nodeName"):
            thing["metadata"].setdefault("deletionTimestamp", self.stamp())
        else:
            self.take(
                next(
                    k
                    for k in (*kinds.CHILD_KINDS, kinds.POD, kinds.INFERENCE, kinds.LEADER_WORKER_SET)
                    if k.kind == kind
                ),
                name,
            )

    async def get(self, kind: kinds.Kind, _: str, name: str) -> Json | None:
        return copied(self.objects.get((kind.kind, name)))

    async def list(self, kind: kinds.Kind, _: str, selector: str = "", most: int | None = None) -> list[Json]:
        wanted = dict([selector.split("=")]) if selector else {}
        found = [
            copied(thing)
            for (of, _), thing in sorted(self.objects.items())
            if of == kind.kind and wanted.items() <= thing["metadata"].get("labels", {}).items()
        ]
        return found[:most]

    async def apply(self, kind: kinds.Kind, manifest: Json, subresource: str = "") -> Json:
        name = manifest["metadata"]["name"]
        if subresource:
            return await self.replace_status(kind, NAMESPACE, name, manifest["status"])
        write = self._write("apply", kind, name)
        live = self.objects.get((kind.kind, name), {})
        status = {"status": live["status"]} if "status" in live else {}
        stored = self.put(kind, {**manifest, **status})
        self.after_write(write)
        return copied(stored)

    async def replace_status(self, kind: kinds.Kind, _: str, name: str, status: Json) -> Json:
        live = self.objects.get((kind.kind, name))
        if live is None:
            raise ApiError(404, "NotFound", f"{name} not found")
        write = self._write("status", kind, name)
        live["status"] = copied(status)
        live["metadata"]["resourceVersion"] = str(next(self._numbers))
        self.after_write(write)
        return copied(live)

    async def merge_patch(self, kind: kinds.Kind, _: str, name: str, patch: Json) -> Json | None:
        live = self.objects.get((kind.kind, name))
        if live is None:
            return None
        expected = patch.get("metadata", {}).get("resourceVersion")
        if expected not in (None, live["metadata"]["resourceVersion"]):
            raise ApiError(409, "Conflict", f"{name} was modified")
        write = self._write("patch", kind, name)
        _merge(live, copied(patch))
        self.put(kind, live)
        self.after_write(write)
        return copied(live)

    async def create(self, kind: kinds.Kind, manifest: Json, *, dry_run: bool = False) -> Json:
        if kind == kinds.EVENT:
            return manifest
        name = manifest["metadata"]["name"]
        if dry_run:
            return manifest
        if (kind.kind, name) in self.objects:
            raise ApiError(409, "AlreadyExists", f"{kind.plural} {name} already exists")
        write = self._write("create", kind, name)
        stored = self.put(kind, manifest)
        self.after_write(write)
        return copied(stored)

    async def delete(
        self,
        kind: kinds.Kind,
        _: str,
        name: str,
        uid: str | None = None,
        *,
        orphan: bool = False,
        foreground: bool = False,
    ) -> None:
        live = self.objects.get((kind.kind, name))
        if live is None or uid not in (None, live["metadata"]["uid"]):
            return
        write = self._write("delete", kind, name)
        if foreground:
            live["metadata"].setdefault("deletionTimestamp", self.stamp())
            self._dismiss_all_of(live)
        else:
            self._dismiss(kind.kind, name)
        self.after_write(write)


def _merge(into: Json, patch: Json) -> None:
    """RFC 7386."""
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict):
            _merge(into.setdefault(key, {}), value)
        else:
            into[key] = value
