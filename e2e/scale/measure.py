"""The measurements of one size, one after the other on the same field."""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from e2e.cluster.steps import say
from e2e.scale.audit import Calls, percentile
from e2e.scale.field import Field

Json = dict[str, Any]
QUIET_SECONDS = 20.0


@dataclass
class Figures:
    """What was measured of one size.

    Attributes:
        resources: there are.
        workers: of all resources.
        period_seconds: of the readings.
        cpu_seconds_of_period: of the operator, without its forecasts.
        main_cpu_seconds_of_period: of it the thread of the event loop.
        forecast_cpu_seconds_of_period: of the process that makes these.
        memory_mib: of the operator at the end.
        forecast_memory_mib: of that process.
        passes_of_period: that the operator made.
        engine_requests_of_period: looks at queues and those of passes.
        prometheus_queries_of_period: all together.
        reads_of_period: of the API server.
        writes_of_period: of the API server.
        create_writes: for each resource, until all are ready.
        create_reads: for each resource, until all are ready.
        create_cpu_seconds: for each resource.
        create_apply_p99_seconds: of an apply or a create at the API server, a hundred new resources at a time.
        change_writes: for each resource, when all change at once.
        change_reads: for each resource, when all change at once.
        change_cpu_seconds: for each resource, when all change at once.
        floor_cpu_seconds_of_period: of a kopf operator that does nothing.
        floor_memory_mib: of it.
        details: calls by kind and verb.
    """

    resources: int
    workers: int
    period_seconds: float
    cpu_seconds_of_period: float = 0.0
    main_cpu_seconds_of_period: float = 0.0
    forecast_cpu_seconds_of_period: float = 0.0
    memory_mib: float = 0.0
    forecast_memory_mib: float = 0.0
    passes_of_period: float = 0.0
    engine_requests_of_period: float = 0.0
    prometheus_queries_of_period: float = 0.0
    reads_of_period: float = 0.0
    writes_of_period: float = 0.0
    create_writes: float = 0.0
    create_reads: float = 0.0
    create_cpu_seconds: float = 0.0
    create_apply_p99_seconds: float = 0.0
    change_writes: float = 0.0
    change_reads: float = 0.0
    change_cpu_seconds: float = 0.0
    floor_cpu_seconds_of_period: float = 0.0
    floor_memory_mib: float = 0.0
    details: Json = field(default_factory=dict)

    def as_json(self) -> Json:
        """All of it."""
        return asdict(self)


def measure(
    ground: Field,
    interval_seconds: int,
    queue_seconds: int,
    periods: int,
    profile: Path | None,
    *,
    floor: bool,
    settle_seconds: int = 0,
) -> Figures:
    """Create, rest, change; the operator is started before and ended after. Rest is measured once it has settled."""
    size = len(ground.names)
    found = Figures(size, 2 * ground.workers * size, interval_seconds)
    environment = {"SCALE_PROFILE": str(profile)} if profile else {}
    ground.start_operator(ground.operator_arguments(), environment)
    before = ground.used()
    ground.audit.since_last()
    ground.create_all(interval_seconds, queue_seconds)
    calls = _until_quiet(ground)
    found.create_writes, found.create_reads = _each(calls.writes, size), _each(calls.reads, size)
    found.create_apply_p99_seconds = percentile(calls.apply_seconds, 0.99)
    found.create_cpu_seconds = (ground.used().cpu_seconds - before.cpu_seconds) / size
    found.details["create"] = _details(calls)
    time.sleep(settle_seconds)
    _rest(ground, found, interval_seconds, periods)
    before = ground.used()
    ground.audit.since_last()
    ground.change_all({"slo": {"ttftSeconds": 2.5}})
    calls = _until_quiet(ground)
    found.change_writes, found.change_reads = _each(calls.writes, size), _each(calls.reads, size)
    found.change_cpu_seconds = (ground.used().cpu_seconds - before.cpu_seconds) / size
    found.details["change"] = _details(calls)
    ground.end("operator")
    if floor:
        _floor(ground, found, interval_seconds)
    return found


def _rest(ground: Field, found: Figures, interval_seconds: int, periods: int) -> None:
    """Nothing changes: what the periods cost."""
    say("at rest")
    ground.audit.since_last()
    used, asked, metrics, began = ground.used(), ground.asked() or {}, ground.metrics(), time.monotonic()
    time.sleep(interval_seconds * periods)
    passed = (time.monotonic() - began) / interval_seconds
    after, asked_after, metrics_after = ground.used(), ground.asked() or {}, ground.metrics()
    calls = ground.audit.since_last()
    found.cpu_seconds_of_period = (after.cpu_seconds - used.cpu_seconds) / passed
    found.main_cpu_seconds_of_period = (after.main_cpu_seconds - used.main_cpu_seconds) / passed
    found.forecast_cpu_seconds_of_period = (after.children_cpu_seconds - used.children_cpu_seconds) / passed
    found.memory_mib, found.forecast_memory_mib = after.memory_mib, after.children_memory_mib
    grown = {name: (asked_after.get(name, 0) - asked.get(name, 0)) / passed for name in asked_after}
    found.engine_requests_of_period = grown.get("engines", 0.0) + grown.get("gateways", 0.0) + grown.get("orders", 0.0)
    found.prometheus_queries_of_period = grown.get("prometheus", 0.0)
    found.reads_of_period, found.writes_of_period = (
        sum(counts.values()) / passed for counts in (calls.reads, calls.writes)
    )
    steps = {name: (value - metrics.get(name, 0.0)) / passed for name, value in metrics_after.items()}
    found.passes_of_period = steps.get('dopd_reconciles_total{outcome="done"}', 0.0)
    found.details["rest"] = {**_details(calls), "asked": grown, "operator": {k: v for k, v in steps.items() if v}}


def _floor(ground: Field, found: Figures, interval_seconds: int) -> None:
    say("the operator that does nothing")
    ground.start_floor()
    last = -1.0
    while (now := ground.used("floor").cpu_seconds) > last + 0.2:  # until it has seen all objects
        last = now
        time.sleep(5)
    time.sleep(interval_seconds)
    after = ground.used("floor")
    found.floor_cpu_seconds_of_period, found.floor_memory_mib = after.cpu_seconds - now, after.memory_mib
    ground.end("floor")


def _until_quiet(ground: Field) -> Calls:
    """All calls until nothing but a status was written for a while: how much is dared stands there, and moves."""
    total, quiet_since = Calls(), time.monotonic()
    while time.monotonic() - quiet_since < QUIET_SECONDS or ground.ready() < len(ground.names):
        time.sleep(2)
        calls = ground.audit.since_last()
        if any("/status/" not in name for name in calls.writes):
            quiet_since = time.monotonic()
        total.reads += calls.reads
        total.writes += calls.writes
        total.apply_seconds += calls.apply_seconds
    return total


def _each(counts: Any, size: int) -> float:
    return float(sum(counts.values())) / size


def _details(calls: Calls) -> Json:
    return {"reads": dict(calls.reads.most_common()), "writes": dict(calls.writes.most_common())}
