"""Events: one for each change that a person should know of, none while all stays as it is."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from dopd.api.conditions import ConditionReason, ConditionStatus, ConditionType
from dopd.api.names import Role
from dopd.cluster import kinds
from dopd.reconcile.conditions import Finding
from dopd.reconcile.observe import Observed
from dopd.reconcile.report import Reporter
from dopd.telemetry.prompt_order import PromptOrder

from .test_conditions import ALL_WELL, findings, look

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLUGIN = PromptOrder(frozenset({"on-time-first"}), True)


class Cluster:
    """Keeps the status that was written, and the Events."""

    def __init__(self) -> None:
        self.status: dict[str, Any] = {}
        self.events: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.writes = 0

    async def apply(self, kind: kinds.Kind, manifest: dict[str, Any], subresource: str) -> dict[str, Any]:
        self.status = manifest["status"]
        self.writes += 1
        return manifest

    async def create(self, kind: kinds.Kind, manifest: dict[str, Any]) -> None:
        self.events.append((manifest["type"], manifest["reason"]))
        self.notes.append(manifest["note"])


async def reported(orders: Sequence[dict[str, PromptOrder]]) -> Cluster:
    """A cluster after these looks at its workers."""
    cluster = Cluster()
    for order in orders:
        observed: Observed = replace(look(*ALL_WELL), orders=order)
        observed.resource["status"] = cluster.status
        found = findings(observed, (), None)
        targets = dict.fromkeys(Role, 1)
        await Reporter(cluster).report(observed, found, targets, None, NOW)  # type: ignore[arg-type]
    return cluster


async def test_a_fallback_is_announced_once_and_so_is_its_end():
    fallen = {"w": PromptOrder(frozenset({"engine-default"}), False, ("switched-off",))}
    cluster = await reported([{}, {"w": PLUGIN}, fallen, fallen, {"w": PLUGIN}, {"w": PLUGIN}])
    assert cluster.events == [
        ("Normal", "Ready"),
        ("Normal", "PluginOrders"),
        ("Warning", "Fallback"),
        ("Normal", "PluginOrders"),
    ]
    assert cluster.writes == 4


async def test_conditions_and_events_hold_nothing_that_moves_a_terminal():
    words = "field \x1b[2J\x1b]0;x\x07\u202e\ud800 is not declared"
    cluster, observed = Cluster(), look(*ALL_WELL)
    found = [Finding(ConditionType.READY, ConditionStatus.FALSE, ConditionReason.CHILD_REFUSED, words)]
    await Reporter(cluster).report(observed, found, dict.fromkeys(Role, 1), None, NOW)  # type: ignore[arg-type]
    shown = "field \\x1b[2J\\x1b]0;x\\x07\\u202e\\ud800 is not declared"
    assert [condition["message"] for condition in cluster.status["conditions"]] == [shown]
    assert cluster.notes == [shown]
