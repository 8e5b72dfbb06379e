"""Whether there is nothing to wait for in a resource, and whether two looks at it say the same. Pure."""

from collections.abc import Sequence
from typing import Any

from dopd.api.conditions import ConditionStatus, ConditionType
from dopd.api.names import Role
from dopd.reconcile.conditions import Finding
from dopd.reconcile.groups import group_of
from dopd.reconcile.moved import Moved
from dopd.reconcile.observe import Observed
from dopd.rollout import Worker

Json = dict[str, Any]
_ALL_WELL = {
    ConditionType.RECONCILED,
    ConditionType.READY,
    ConditionType.WORKERS_AVAILABLE,
    ConditionType.ROLLED_OUT,
    ConditionType.ROUTER_IN_SYNC,
}
"""Conditions that are True of a resource at rest."""


def same_but_status(before: Json, after: Json) -> bool:
    """Whether a resource differs in nothing but its status. Pure.

    Of two changes in a short time a watch may tell of the second alone; so who takes that for his own looks here.
    """

    def kept(resource: Json) -> tuple[Json, Json]:
        left_out = ("resourceVersion", "managedFields")
        return {n: v for n, v in resource["metadata"].items() if n not in left_out}, resource.get("spec", {})

    return kept(before) == kept(after)


def is_quiet(observed: Observed, moved: Moved, found: Sequence[Finding]) -> bool:
    """Whether nothing here changes by time alone, or by what nobody tells of. Pure.

    Args:
        observed: the look at the cluster.
        moved: what the pass did to the workers.
        found: the conditions.
    """
    if observed.spec is None or observed.spec.gpu_pool is not None:  # others' wishes for GPUs count, too
        return False
    well = {finding.type for finding in found if finding.status is ConditionStatus.TRUE}
    leaving = (*observed.ending.values(), *observed.finished.values(), observed.closing, observed.leaving)
    workers = [worker for role in Role for worker in observed.workers[role]]
    return (
        well >= _ALL_WELL
        and not any(leaving)
        and not (moved.troubles or moved.rejected or moved.adopting or moved.waiting or moved.outage or moved.told)
        and not observed.unread
        and all(map(_serves, workers))
        and not any(group_of(pod) for role in Role for pod in observed.pods[role])  # nobody watches what makes them
    )


def _serves(worker: Worker) -> bool:
    """Whether a worker does what it is there for, and is on its way nowhere."""
    here = worker.labelled and worker.ready and worker.scheduled and worker.registered is True
    return here and worker.in_role is not False and not (worker.turning or worker.proving or worker.gated)


def same_look(before: Observed, now: Observed) -> bool:
    """Whether gateways and engines say the same, but for the engines' loads. Pure."""
    roles = [{name: load.role for name, load in one.loads.items()} for one in (before, now)]
    return (before.gateway, before.unread, before.orders, roles[0]) == (now.gateway, now.unread, now.orders, roles[1])
