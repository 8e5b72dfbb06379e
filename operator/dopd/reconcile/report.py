"""Reporting: status when it changed, Events for what a person should know, one log line per decision."""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from dopd.api.names import Role
from dopd.api.status import ConditionReason, ConditionStatus, ConditionType, DecisionStatus
from dopd.cluster import Kubernetes, kinds
from dopd.cluster.events import post_event
from dopd.reconcile import metrics
from dopd.reconcile.conditions import Finding
from dopd.reconcile.observe import Observed
from dopd.reconcile.scaling import Planned
from dopd.reconcile.status import build_status, decision_status, previous_decisions, rfc3339

_LOG = logging.getLogger(__name__)

Json = dict[str, Any]
_QUIET = {
    ConditionReason.AS_EXPECTED,
    ConditionReason.STARTING,
    ConditionReason.NO_PREFILL,
    ConditionReason.NO_DECODE,
    ConditionReason.PLUGIN_ORDERS,
    ConditionReason.ENGINE_POLICY,
    ConditionReason.OLD_SETTINGS,
}
"""Reasons that are the normal course of a start or a change."""


class Reporter:
    """Writes status and Events for one reconciler."""

    def __init__(self, kubernetes: Kubernetes) -> None:
        self._kubernetes = kubernetes

    async def report(
        self,
        observed: Observed,
        found: Sequence[Finding],
        targets: Mapping[Role, int],
        planned: Planned | None,
        now: datetime,
    ) -> None:
        """Write the status if it differs from the stored one, and announce what is new in it."""
        resource = observed.resource
        decisions = previous_decisions(resource)
        new = _new_decision(decisions, planned, now)
        status = build_status(observed, found, targets, [*new, *decisions], planned, now)
        if status == resource.get("status"):
            return
        meta = {key: resource["metadata"][key] for key in ("name", "namespace")}
        manifest = {"apiVersion": kinds.INFERENCE.api_version, "kind": kinds.INFERENCE.kind, "metadata": meta}
        await self._kubernetes.apply(kinds.INFERENCE, {**manifest, "status": status}, "status")
        for decision in new:
            await self._announce_decision(resource, decision, now)
        for kind in (ConditionType.READY, ConditionType.SCHEDULING_ACTIVE, ConditionType.PROFILE_MATCHES):
            await self._announce_condition(kind, resource, status, now)

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
        before, after = _condition(kind, resource.get("status", {})), _condition(kind, status)
        if after.get("status", ConditionStatus.UNKNOWN) == ConditionStatus.UNKNOWN:
            return
        if (before.get("status"), before.get("reason")) == (after["status"], after["reason"]):
            return
        reason = kind if after["reason"] == ConditionReason.AS_EXPECTED else after["reason"]
        warning = after["reason"] not in _QUIET
        await post_event(self._kubernetes, resource, reason, after.get("message", ""), now, warning=warning)


def _new_decision(decisions: Sequence[DecisionStatus], planned: Planned | None, now: datetime) -> list[DecisionStatus]:
    """The latest decision if its target is another than the last reported one."""
    decision = planned.decision if planned else None
    last = decisions[0].to if decisions else "0+0"
    if decision is None or last == f"{decision.prefill}+{decision.decode}":
        return []
    return [decision_status(decision, last, rfc3339(now))]


def _condition(kind: ConditionType, status: Json) -> Json:
    return next((c for c in status.get("conditions", []) if c["type"] == kind), {})
