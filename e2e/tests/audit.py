"""Who wrote what, from the API server's audit log."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

WRITES = ("create", "update", "patch", "delete", "deletecollection")


@dataclass(frozen=True)
class Write:
    """One request that changes something.

    Attributes:
        at: when the API server received it.
        user: who sent it.
        verb: create, update, patch, delete, deletecollection.
        resource: plural name of the kind.
        name: of the object; empty for create.
    """

    at: datetime
    user: str
    verb: str
    resource: str
    name: str


def writes(events: Iterable[dict[str, Any]], *, since: datetime, user: str | None = None) -> list[Write]:
    """The writes of one user, or of all, since a time, in order."""
    found = [
        Write(
            at=datetime.fromisoformat(event["requestReceivedTimestamp"]),
            user=event["user"]["username"],
            verb=event["verb"],
            resource=event.get("objectRef", {}).get("resource", ""),
            name=event.get("objectRef", {}).get("name", ""),
        )
        for event in events
        if event["verb"] in WRITES and event["stage"] == "ResponseComplete"
    ]
    chosen = [write for write in found if write.at >= since and user in (None, write.user)]
    return sorted(chosen, key=lambda write: write.at)
