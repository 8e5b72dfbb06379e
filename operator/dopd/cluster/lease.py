"""What a Lease says, and what is written into it. Pure, but for the time that it is written at."""

from datetime import UTC, datetime
from typing import Any

from dopd.cluster import kinds

Json = dict[str, Any]


def body(
    old: Json | None,
    *,
    name: str,
    namespace: str,
    holder: str,
    duration_seconds: float,
    labels: Json | None = None,
    annotations: Json | None = None,
) -> Json:
    """A Lease as a holder takes, renews or (with an empty name) gives it away.

    Args:
        old: as it was read; None where there is none.
        name: of it.
        namespace: of it.
        holder: from now on; "" for nobody.
        duration_seconds: that a silent holder keeps it.
        labels: of it.
        annotations: of it.
    """
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    before = (old or {}).get("spec", {})
    changed = before.get("holderIdentity") != holder
    metadata: Json = {"name": name, "namespace": namespace}
    if labels:
        metadata["labels"] = labels
    if annotations:
        metadata["annotations"] = annotations
    if old:
        metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
    return {
        "apiVersion": kinds.LEASE.api_version,
        "kind": kinds.LEASE.kind,
        "metadata": metadata,
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": max(1, round(duration_seconds)),
            "acquireTime": now if changed else before.get("acquireTime", now),
            "renewTime": now,
            "leaseTransitions": before.get("leaseTransitions", 0) + (1 if changed and holder else 0),
        },
    }
