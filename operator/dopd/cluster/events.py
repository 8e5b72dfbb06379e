"""Events: what a person should know, shown by `kubectl describe`. Posted on changes only, never periodically."""

import logging
from datetime import UTC, datetime
from typing import Any

from dopd.api.base import API_VERSION
from dopd.api.text import plain
from dopd.cluster import kinds
from dopd.cluster.client import ApiError, Kubernetes

_LOG = logging.getLogger(__name__)
_LONGEST_NOTE_BYTES = 1024


async def post_event(
    kubernetes: Kubernetes, resource: dict[str, Any], reason: str, note: str, now: datetime, *, warning: bool = False
) -> None:
    """Post an Event on a DisaggregatedInference. A failure is logged and forgotten: an Event is a courtesy."""
    meta = resource["metadata"]
    manifest = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": f"{meta['name']}-", "namespace": meta["namespace"]},
        "eventTime": now.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "type": "Warning" if warning else "Normal",
        "reason": reason,
        "action": "Reconcile",
        "note": plain(note).encode()[:_LONGEST_NOTE_BYTES].decode(errors="ignore"),
        "reportingController": "dopd.dev/operator",
        "reportingInstance": "dopd",
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": "DisaggregatedInference",
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
        },
    }
    try:
        await kubernetes.create(kinds.EVENT, manifest)
    except ApiError as error:
        _LOG.warning("event %s on %s/%s not posted: %s", reason, meta["namespace"], meta["name"], error)
