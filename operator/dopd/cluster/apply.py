"""Server-side apply that stays silent when there is nothing to say.

An apply that changes nothing still is a write request (audit logs, admission, load), so the operator asks first. It can
not compare its manifest with the live object word by word, since the API server rewrites values ("1000m" is stored as
"1"). Instead it remembers how the server stored each manifest: as long as the manifest is the same, and the live object
still agrees with that memory in every field that the manifest names, there is nothing to write. After a restart the
memory is empty and each child is applied once.
"""

import hashlib
import json
from typing import Any

from dopd.cluster import kinds
from dopd.cluster.client import Kubernetes

Json = dict[str, Any]


class Applier:
    """Applies manifests, and remembers what it applied."""

    def __init__(self, kubernetes: Kubernetes) -> None:
        self._kubernetes = kubernetes
        self._memory: dict[tuple[str, str, str], tuple[str, Any, Json | None]] = {}
        """Digest of the manifest, how it was stored, and the object that was last seen to agree with that."""

    async def apply(self, manifest: Json, live: Json | None) -> bool:
        """Make the live object agree with the manifest; whether a write was needed.

        Args:
            manifest: what should be.
            live: the object as it was just read; None when there is none.
        """
        kind = kinds.kind_of(manifest)
        key = (kind.kind, manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
        known_digest, stored, agreed = self._memory.get(key, ("", None, None))
        if live is not None and digest == known_digest:
            if live is agreed:  # of a list that is kept from pass to pass: nobody changes what is in it
                return False
            if project(live, manifest) == stored:
                self._memory[key] = (digest, stored, live)
                return False
        answer = await self._kubernetes.apply(kind, manifest)
        self._memory[key] = (digest, project(answer, manifest), None)
        return True

    def forget(self, namespace: str, instance: str) -> None:
        """Drop the memory of the children of a resource that is gone."""
        prefix = f"{instance}-"
        gone = [key for key in self._memory if key[1] == namespace and key[2].startswith(prefix)]
        for key in gone:
            del self._memory[key]


def project(live: Any, manifest: Any) -> Any:
    """The part of `live` that `manifest` names.

    Lists are kept whole: an item that somebody added to a list of ours (a container, a port) is a drift too.
    """
    if isinstance(live, dict) and isinstance(manifest, dict):
        return {key: project(live.get(key), value) for key, value in manifest.items()}
    return live
