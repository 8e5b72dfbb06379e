"""What the stored status of a resource says, and times as Kubernetes writes them. Pure."""

from datetime import UTC, datetime
from typing import Any

from dopd.api.status import DisaggregatedInferenceStatus, read_status
from dopd.cluster.decode import depth_of

MOST_LEVELS = 16
"""Levels of nesting of a status that is read."""


def stored_status(resource: dict[str, Any]) -> DisaggregatedInferenceStatus:
    """What can be read of the status of a resource."""
    status = resource.get("status")
    return read_status(status if depth_of(status) <= MOST_LEVELS else None)


def stored_asleep(resource: dict[str, Any]) -> bool:
    """Whether no worker of either role was meant to run."""
    status = stored_status(resource)
    roles = (status.prefill, status.decode)
    return all(role is not None and role.desired == 0 for role in roles)


def rfc3339(moment: datetime) -> str:
    """A time as Kubernetes writes it."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
