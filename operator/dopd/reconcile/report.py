"""Reporting: status when it changed, Events for what a person should know, one log line per decision."""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from dopd.api.conditions import ConditionReason, ConditionStatus, ConditionType
from dopd.api.names import Role
from dopd.api.status import DecisionStatus
from dopd.autoscaler import Decision
from dopd.cluster import ApiError, Kubernetes, kinds
from dopd.cluster.events import post_event
from dopd.reconcile import metrics
from dopd.reconcile.conditions import Finding, reconciled
from dopd.reconcile.grants import Grant
from dopd.reconcile.moved import Moved
from dopd.reconcile.observe import Observed
from dopd.reconcile.pods import Trouble
from dopd.reconcile.queue import Key
from dopd.reconcile.scaling import Planned
from dopd.reconcile.status import build_status, decision_status, failed_status
from dopd.reconcile.stored import rfc3339, stored_status

_LOG = logging.getLogger(__name__)

Json = dict[str, Any]
_QUIET = {
    ConditionReason.AS_EXPECTED,
    ConditionReason.ASLEEP,
    ConditionReason.STARTING,
    ConditionReason.PARTIAL_GROUP,
    ConditionReason.NO_PREFILL,
    ConditionReason.NO_DECODE,
    ConditionReason.PLUGIN_ORDERS,
    ConditionReason.ENGINE_POLICY,
    ConditionReason.OLD_SETTINGS,
    ConditionReason.ROLLING_OUT,
    ConditionReason.ADOPTING,
}
"""Reasons that are the normal course of a start or a change."""

_ANNOUNCED = (
    ConditionType.READY,
    ConditionType.ROLLED_OUT,
    ConditionType.SCHEDULING_ACTIVE,
    ConditionType.PROFILE_MATCHES,
)


class Reporter:
    """Writes status and Events for one reconciler."""

    def __init__(self, kubernetes: Kubernetes) -> None:
        self._kubernetes = kubernetes
        self._told: dict[Key, str] = {}

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a resource that is gone."""
        self._told.pop(key, None)

    async def report(
        self,
        observed: Observed,
        found: Sequence[Finding],
        targets: Mapping[Role, int],
        planned: Planned | None,
        now: datetime,
        moved: Moved | None = None,
        grant: Grant | None = None,
    ) -> Json:
        """Write the status if it differs from the stored one, and announce what is new in it.

        Returns:
            The resource as it is stored after that.
        """
        resource = observed.resource
        decisions = stored_status(resource).decisions
        latest = new_decision(decisions, planned)
        new = [decision_status(latest, _last_target(decisions), rfc3339(now))] if latest else []
        partial = any(f.type is ConditionType.RECONCILED and f.status is ConditionStatus.FALSE for f in found)
        status = build_status(observed, found, targets, [*new, *decisions], planned, now, moved, grant, partial=partial)
        for told in moved.told if moved else ():
            _LOG.info("%s/%s: %s: %s", observed.owner.namespace, observed.owner.name, told.reason, told.note)
            await post_event(self._kubernetes, resource, told.reason, told.note, now, warning=told.warning)
        if status == resource.get("status"):
            return resource
        stored = await self._write(resource, status, now)
        for decision in new:
            await self._announce_decision(resource, decision, now)
        for kind in _ANNOUNCED:
            await self._announce_condition(kind, resource, status, now)
        return stored

    async def report_failure(self, resource: Json, trouble: Trouble, now: datetime) -> None:
        """Write that a pass failed; what earlier passes found stays."""
        status = failed_status(resource, reconciled([trouble]), now)
        if status != resource.get("status"):
            await self._write(resource, status, now)

    async def _write(self, resource: Json, status: Json, now: datetime) -> Json:
        """Write the status; where it can not be merged with what is stored, in the place of that.

        Returns:
            The resource as it is stored then.

        Raises:
            ApiError: it can not be written either way; an Event says so.
        """
        meta = {key: resource["metadata"][key] for key in ("name", "namespace")}
        manifest = {"apiVersion": kinds.INFERENCE.api_version, "kind": kinds.INFERENCE.kind, "metadata": meta}
        try:
            try:
                answer = await self._kubernetes.apply(kinds.INFERENCE, {**manifest, "status": status}, "status")
                if answer.get("status") == status:
                    return answer  # else somebody else's fields are in it
            except ApiError as error:
                if error.status not in (400, 409, 422, 500):
                    raise
            return await self._kubernetes.replace_status(kinds.INFERENCE, meta["namespace"], meta["name"], status)
        except ApiError as error:
            note = f"The status can not be written: {error.message}"
            key = Key(meta["namespace"], meta["name"])
            if error.status and self._told.get(key) != note:
                self._told[key] = note
                await post_event(self._kubernetes, resource, "StatusRefused", note, now, warning=True)
            raise

    async def _announce_decision(self, resource: Json, decision: DecisionStatus, now: datetime) -> None:
        meta = resource["metadata"]
        metrics.DECISIONS.labels(meta["namespace"], meta["name"], decision.reason).inc()
        note = f"{decision.from_} -> {decision.to} (prefill+decode): {decision.message}"
        fields = {
            "namespace": meta["namespace"],
            "inference": meta["name"],
            "decision": decision.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
        _LOG.info(
            "decision %s/%s %s: %s", meta["namespace"], meta["name"], decision.reason, note, extra={"fields": fields}
        )
        await post_event(self._kubernetes, resource, decision.reason, note, now)

    async def _announce_condition(self, kind: ConditionType, resource: Json, status: Json, now: datetime) -> None:
        before, after = (
            _condition(kind, stored_status(resource).model_dump(mode="json", by_alias=True)),
            _condition(kind, status),
        )
        if after.get("status", ConditionStatus.UNKNOWN) == ConditionStatus.UNKNOWN:
            return
        if (before.get("status"), before.get("reason")) == (after["status"], after["reason"]):
            return
        reason = kind if after["reason"] == ConditionReason.AS_EXPECTED else after["reason"]
        warning = after["reason"] not in _QUIET
        await post_event(self._kubernetes, resource, reason, after.get("message", ""), now, warning=warning)


def new_decision(decisions: Sequence[DecisionStatus], planned: Planned | None) -> Decision | None:
    """The latest decision if its target is another than the last reported one. Pure."""
    decision = planned.decision if planned else None
    if decision is None or _last_target(decisions) == f"{decision.prefill}+{decision.decode}":
        return None
    return decision


def _last_target(decisions: Sequence[DecisionStatus]) -> str:
    return decisions[0].to if decisions else "0+0"


def _condition(kind: ConditionType, status: Json) -> Json:
    return next((c for c in status.get("conditions", []) if c["type"] == kind), {})
