"""Metrics of GpuPools: of a pool as the ledger has it, and of each resource that names one.

Operators that share a pool each show the whole of it, as they read it last; what a resource is denied is shown by the
operator of that resource alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import Gauge

from dopd.api.names import Role
from dopd.planning.pool import Pool
from dopd.reconcile.grants import Grant
from dopd.reconcile.queue import Key

POOL_GPUS = Gauge(
    "dopd_pool_gpus",
    "GPUs of a GpuPool by type and state: cap; guaranteed, to all members together; wanted, granted, held.",
    ["pool", "type", "state"],
)
POOL_DENIED = Gauge("dopd_pool_denied_members", "Members of a GpuPool that get fewer GPUs than they want.", ["pool"])
POOL_NAMED_TWICE = Gauge(
    "dopd_pool_named_twice_members",
    "Entries of a GpuPool that stand in it twice, for which the whole of it is not used.",
    ["pool"],
)
DENIED_WORKERS = Gauge(
    "dopd_pool_denied_workers",
    "Workers that a resource wants and that its GpuPool does not give it.",
    ["namespace", "inference", "pool", "role"],
)
LACKING_GPUS = Gauge(
    "dopd_pool_lacking_guaranteed_gpus",
    "GPUs that a resource wants and is guaranteed, in whole workers, and may not hold yet, since others drain them.",
    ["namespace", "inference", "pool", "type"],
)
_TOLD: dict[Key, list[tuple[Gauge, tuple[str, ...]]]] = {}
"""Series of each resource: to find them among those of all takes a look at each."""


def report_pool(name: str, pool: Pool, status: Mapping[str, Any]) -> None:
    """Set the gauges of a pool.

    Args:
        name: of it.
        pool: what an admin says.
        status: the ledger.
    """
    POOL_GPUS.remove_by_labels({"pool": name})  # of types that it has no more
    for kind in status["types"]:
        for state in ("gpus", "wanted", "granted", "held"):
            POOL_GPUS.labels(name, kind["name"], "cap" if state == "gpus" else state).set(kind[state])
        guaranteed = sum(entry.guaranteed.get(kind["name"], 0) for entry in pool.entries.values())
        POOL_GPUS.labels(name, kind["name"], "guaranteed").set(guaranteed)
    POOL_DENIED.labels(name).set(status["denied"])


def report_entries(name: str, twice: Sequence[str]) -> None:
    """Say how many entries of a pool stand in it twice."""
    POOL_NAMED_TWICE.labels(name).set(len(twice))


def report_grant(key: Key, grant: Grant) -> None:
    """Set the gauges of a resource."""
    forget_member(key)  # it may have named another pool before, or have other types of GPU now
    roles = zip(Role, grant.wanted, grant.share, strict=True)
    told = [
        *((DENIED_WORKERS, (*key, grant.pool, role.value), wants - gets) for role, wants, gets in roles),
        *((LACKING_GPUS, (*key, grant.pool, kind), gpus) for kind, gpus in grant.lacking.items()),
    ]
    for gauge, labels, value in told:
        gauge.labels(*labels).set(value)
    _TOLD[key] = [(gauge, labels) for gauge, labels, _ in told]


def forget_member(key: Key) -> None:
    """Drop the gauges of a resource that is gone, or names no pool any more."""
    for gauge, labels in _TOLD.pop(key, []):
        gauge.remove(*labels)


def forget_pool(name: str) -> None:
    """Drop the gauges of a pool that is gone, or that no resource here names any more."""
    for gauge in (POOL_GPUS, POOL_DENIED, POOL_NAMED_TWICE):
        gauge.remove_by_labels({"pool": name})
