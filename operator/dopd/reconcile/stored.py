"""What the stored status of a resource says, and times as Kubernetes writes them. Pure."""

from datetime import UTC, datetime
from typing import Any

from dopd.api.status import DisaggregatedInferenceStatus, read_status
from dopd.cluster.decode import depth_of
from dopd.reconcile.remembered import Remembered

MOST_LEVELS = 16
"""Levels of nesting of a status that is read."""

_KEPT = 256
"""Statuses that are kept: a pass reads that of its resource several times."""


def stored_status(resource: dict[str, Any]) -> DisaggregatedInferenceStatus:
    """What can be read of the status of a resource."""
    return _read(resource.get("status"))


def _readable(status: Any) -> DisaggregatedInferenceStatus:
    return read_status(status if depth_of(status) <= MOST_LEVELS else None)


_read = Remembered(_readable, _KEPT)


def stored_asleep(resource: dict[str, Any]) -> bool:
    """Whether no worker of either role was meant to run."""
    status = stored_status(resource)
    roles = (status.prefill, status.decode)
    return all(role is not None and role.desired == 0 for role in roles)


def rfc3339(moment: datetime) -> str:
    """A time as Kubernetes writes it."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
