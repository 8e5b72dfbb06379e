"""What one user asked of the API server, from its audit log, read on as it grows."""

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

READS, WRITES = frozenset({"get", "list"}), frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass
class Calls:
    """Calls of one stretch of time.

    Attributes:
        reads: by kind and verb; watches are none.
        writes: by kind and verb; the Lease is no part of them.
        apply_seconds: how long the server took for each apply and each create.
    """

    reads: Counter[str] = field(default_factory=Counter)
    writes: Counter[str] = field(default_factory=Counter)
    apply_seconds: list[float] = field(default_factory=list)

    def add(self, line: bytes, user: str) -> None:
        """One line of the log."""
        event = json.loads(line)
        if event["user"]["username"] != user or event["stage"] != "ResponseComplete":
            return
        about = event.get("objectRef", {})
        if about.get("resource") == "leases":
            return
        name = "/".join(filter(None, (about.get("resource", ""), about.get("subresource"), event["verb"])))
        if event["verb"] in READS:
            self.reads[name] += 1
        elif event["verb"] in WRITES:
            self.writes[name] += 1
            if event["verb"] in ("create", "patch"):
                began, ended = (
                    datetime.fromisoformat(event[at]) for at in ("requestReceivedTimestamp", "stageTimestamp")
                )
                self.apply_seconds.append((ended - began).total_seconds())


class Audit:
    """Reads the log of a running API server."""

    def __init__(self, path: Path, user: str) -> None:
        self._path, self._user = path, user
        self._at = 0
        self._mark = user.encode()

    def since_last(self) -> Calls:
        """The calls that were logged since this was asked last."""
        calls = Calls()
        with self._path.open("rb") as log:
            log.seek(self._at)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._at += len(line)
                if self._mark in line:
                    calls.add(line, self._user)
        return calls


def percentile(values: list[float], share: float) -> float:
    """The value that so many do not exceed; 0 of none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0
