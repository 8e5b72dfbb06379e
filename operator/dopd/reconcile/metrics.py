"""The operator's own metrics. Names and labels are an interface: dashboards and alerts rest on them.

The resource is told by `namespace` and `inference`. Not by `instance`: every Prometheus sets that to the address that
it scrapes.
"""

from collections.abc import Mapping, Sequence

from prometheus_client import Counter, Gauge, Histogram

from dopd.api.conditions import ConditionReason, ConditionStatus, ConditionType
from dopd.api.inference import Slo
from dopd.api.names import Role
from dopd.autoscaler import Decision, Reason
from dopd.planning import Bound
from dopd.reconcile.conditions import Finding
from dopd.reconcile.observe import Observed
from dopd.reconcile.pods import gpus
from dopd.reconcile.queue import Key
from dopd.reconcile.reading import Reading
from dopd.reconcile.scaling import Planned
from dopd.reconcile.series import SeriesOfResources

RECONCILES = Counter("dopd_reconciles_total", "Passes over a resource, by outcome.", ["outcome"])
RECONCILE_SECONDS = Histogram("dopd_reconcile_seconds", "Duration of one pass over a resource.")
LEADER = Gauge("dopd_leader", "1 while this instance acts, 0 while it stands by.")
SHARDS = Gauge("dopd_shards", "Shards into which resources are divided between instances; 1 without.")
SHARD_HELD = Gauge("dopd_shard_held", "1 while this instance acts for a shard.", ["shard"])
WORKERS = Gauge("dopd_workers", "Workers of a resource by role and state.", ["namespace", "inference", "role", "state"])
GPUS = Gauge(
    "dopd_gpus", "GPUs that the workers of a role hold, in whatever state.", ["namespace", "inference", "role"]
)
OBJECTIVE_ATTAINMENT = Gauge(
    "dopd_objective_attainment",
    "Share of requests that must meet both latency objectives: spec.slo.attainment.",
    ["namespace", "inference"],
)
OBJECTIVE_SECONDS = Gauge(
    "dopd_objective_seconds",
    "Latency objective of spec.slo: ttft, to the first token; itl, between tokens.",
    ["namespace", "inference", "latency"],
)
DEMAND_RATE = Gauge("dopd_demand_requests_per_second", "Arrival rate as observed.", ["namespace", "inference"])
DEMAND_TOKENS = Gauge("dopd_demand_tokens", "Mean tokens of a request as observed.", ["namespace", "inference", "side"])
LATE_SHARE = Gauge(
    "dopd_late_share", "Share of recent requests that missed a latency objective.", ["namespace", "inference"]
)
NOT_STREAMED_RATE = Gauge(
    "dopd_not_streamed_requests_per_second",
    "Answers that are not streamed: they are left out of the late share, since nobody sees their first token.",
    ["namespace", "inference"],
)
SCRAPE_INTERVAL = Gauge(
    "dopd_scrape_interval_seconds",
    "Time between two samples of a pod in Prometheus, as measured; NaN while unknown.",
    ["namespace", "inference"],
)
SCRAPE_LAG = Gauge(
    "dopd_scrape_lag_seconds",
    "How late the newest samples are, beyond a scrape interval, as measured.",
    ["namespace", "inference"],
)
PLANNED_RATE = Gauge(
    "dopd_planned_requests_per_second", "Arrival rate planned for, by role.", ["namespace", "inference", "role"]
)
FORECAST_RATE = Gauge(
    "dopd_forecast_requests_per_second",
    "Arrival rate expected at the lead time of a role; absent while no forecast is trusted.",
    ["namespace", "inference", "role"],
)
FORECAST_FOR_NOW = Gauge(
    "dopd_forecast_for_now_requests_per_second",
    "Arrival rate that was expected one lead time ago for now, to be compared with the demand.",
    ["namespace", "inference", "role"],
)
FORECAST_TRUSTED = Gauge("dopd_forecast_trusted", "1 while plans rest on the forecast.", ["namespace", "inference"])
FORECAST_ERROR = Gauge(
    "dopd_forecast_error_vs_last_value",
    "Recent mean absolute error of the forecast, relative to that of the last value.",
    ["namespace", "inference"],
)
FORECAST_COVERAGE = Gauge(
    "dopd_forecast_coverage_90",
    "Share of recent loads that stayed under the forecast's 90 % quantile.",
    ["namespace", "inference"],
)
FORECAST_DOUBTED = Gauge(
    "dopd_forecast_doubted_bins",
    "Of the newest sixty bins, those that stood alone, far from all around them, and moved no forecast.",
    ["namespace", "inference"],
)
FORECAST_AGE = Gauge(
    "dopd_forecast_newest_point_age_seconds", "Age of the newest load that is known.", ["namespace", "inference"]
)
TARGET = Gauge(
    "dopd_target_workers",
    "Workers that the latest plan asks for, whether or not they are acted on.",
    ["namespace", "inference", "role"],
)
NEEDED = Gauge(
    "dopd_needed_workers",
    "Workers that the load and what waits need, before any bound; NaN while the load is not known.",
    ["namespace", "inference", "role"],
)
WEIGHED = Gauge(
    "dopd_weighed_workers",
    "Workers that each load needs that was weighed: now, peak within the lead, backlog, held from lately.",
    ["namespace", "inference", "role", "load"],
)
LIMITED_BY = Gauge(
    "dopd_limited_by",
    "1 at each bound that keeps the latest plan from what the load needs, 0 at the others.",
    ["namespace", "inference", "bound"],
)
DECISION_REASON = Gauge(
    "dopd_decision_reason", "1 at the reason of the latest plan, 0 at the others.", ["namespace", "inference", "reason"]
)
INFEASIBLE = Gauge(
    "dopd_objectives_infeasible",
    "1 while no number of workers meets the latency objectives of the latest plan's load.",
    ["namespace", "inference"],
)
EXPECTED_ATTAINMENT = Gauge(
    "dopd_expected_attainment",
    "Share of requests that should meet both objectives with the target.",
    ["namespace", "inference"],
)
MISS_SHARE = Gauge(
    "dopd_miss_share",
    "Share of lead times in which the load may exceed what is held; late requests lower it, calm raises it.",
    ["namespace", "inference"],
)
CORRECTION = Gauge(
    "dopd_profile_correction",
    "Measured over profiled time of the engines, 1 while unknown.",
    ["namespace", "inference", "role"],
)
CORRECTION_CONFIDENCE = Gauge(
    "dopd_profile_correction_confidence",
    "How far that correction is believed, 0 to 1.",
    ["namespace", "inference", "role"],
)
DECISIONS = Counter("dopd_decisions_total", "Plans that changed the target.", ["namespace", "inference", "reason"])
LEAD_SECONDS = Gauge(
    "dopd_lead_seconds", "Time from the decision for a worker until it serves.", ["namespace", "inference", "role"]
)
LEAD_PART_SECONDS = Gauge(
    "dopd_lead_part_seconds",
    "Parts of that time, P90 or as long as a pod waits already: node, start, registration; and from the"
    " drain of a worker: drain, until it is idle, and exit, until its GPUs are free.",
    ["namespace", "inference", "role", "part"],
)
ROLE_CHANGES = Counter(
    "dopd_role_changes_total",
    "Workers that were to change to a role, by outcome: changed, refused (it stays what it was), replaced.",
    ["namespace", "inference", "role", "outcome"],
)
ROLE_CHANGE_SECONDS = Gauge(
    "dopd_role_change_seconds",
    "The last change to a role: from the loss of a worker's label until it came back.",
    ["namespace", "inference", "role"],
)
CONDITION = Gauge("dopd_condition", "1 where a condition is True.", ["namespace", "inference", "type"])
CONDITION_REASON = Gauge(
    "dopd_condition_reason", "1 at the reason of each condition.", ["namespace", "inference", "type", "reason"]
)

SERIES = SeriesOfResources()
_TOLD: dict[Key, dict[ConditionType, ConditionReason]] = {}
"""Reasons of the conditions that are shown."""

_DECIDED: dict[Key, Decision] = {}
"""Decisions that are shown: at rest the same one comes again and again, and has forty series."""

_UNKNOWN = float("nan")
"""A gauge that kept its last value would show a load that nobody measures."""


def report(
    key: Key, observed: Observed, targets: Mapping[Role, int], planned: Planned | None, found: Sequence[Finding]
) -> None:
    """Set the gauges of one resource."""
    for role in Role:
        counts = observed.role_counts(role)
        for state, count in (
            ("desired", targets[role]),
            ("serving", counts.serving),
            ("starting", counts.starting),
            ("draining", counts.draining),
        ):
            SERIES.of(WORKERS, key, role, state).set(count)
        holding = sum(worker.gpus for worker in observed.workers[role]) + sum(map(gpus, observed.ending[role]))
        SERIES.of(GPUS, key, role).set(holding)
        if lead := observed.leads.get(role):
            SERIES.of(LEAD_SECONDS, key, role).set(lead.seconds)
            for part, seconds in lead.parts().items():
                SERIES.of(LEAD_PART_SECONDS, key, role, part).set(seconds)
    told = {finding.type: finding.reason for finding in found}
    for kind, reason in _TOLD.get(key, {}).items():  # some may not apply any more
        if kind not in told:
            SERIES.remove(CONDITION, key, kind)
        if told.get(kind) != reason:
            SERIES.remove(CONDITION_REASON, key, kind, reason)
    _TOLD[key] = told
    for finding in found:
        SERIES.of(CONDITION, key, finding.type).set(finding.status is ConditionStatus.TRUE)
        SERIES.of(CONDITION_REASON, key, finding.type, finding.reason).set(1)
    if observed.spec:
        _report_objectives(key, observed.spec.slo)
    if planned:
        report_plan(key, planned)


def report_plan(key: Key, planned: Planned) -> None:
    """Set the gauges that follow from the plan of one resource."""
    if planned.decision:
        _report_decision(key, planned.decision)
    for role, correction in planned.corrections.items():
        SERIES.of(CORRECTION, key, role).set(correction.factor)
        SERIES.of(CORRECTION_CONFIDENCE, key, role).set(correction.confidence)
    if planned.reading:
        _report_reading(key, planned.reading)
        _report_outlook(key, planned)


def _report_objectives(key: Key, slo: Slo) -> None:
    SERIES.of(OBJECTIVE_ATTAINMENT, key).set(slo.attainment)
    SERIES.of(OBJECTIVE_SECONDS, key, "ttft").set(slo.ttft_seconds)
    SERIES.of(OBJECTIVE_SECONDS, key, "itl").set(slo.itl_seconds)


def _report_decision(key: Key, decision: Decision) -> None:
    if _DECIDED.get(key) == decision:
        return
    _DECIDED[key] = decision
    SERIES.of(TARGET, key, Role.PREFILL).set(decision.prefill)
    SERIES.of(TARGET, key, Role.DECODE).set(decision.decode)
    for role, needed in zip(Role, decision.needed or (_UNKNOWN, _UNKNOWN), strict=True):
        SERIES.of(NEEDED, key, role).set(needed)
    for bound in Bound:
        SERIES.of(LIMITED_BY, key, bound).set(bound in decision.limited_by)
    for reason in Reason:
        SERIES.of(DECISION_REASON, key, reason).set(reason is decision.reason)
    SERIES.of(INFEASIBLE, key).set(bool(decision.infeasible))
    if decision.expected:
        SERIES.of(EXPECTED_ATTAINMENT, key).set(decision.expected.attainment)
    for role in Role:
        if decision.planned_for:
            SERIES.of(PLANNED_RATE, key, role).set(decision.planned_for[role].requests_per_second)
        loads = vars(decision.weighed[role]) if decision.weighed else {}
        for load in ("now", "peak", "backlog", "held"):
            SERIES.of(WEIGHED, key, role, load).set(loads.get(load, _UNKNOWN))


def _report_reading(key: Key, reading: Reading) -> None:
    demand = reading.demand
    SERIES.of(DEMAND_RATE, key).set(demand.requests_per_second if demand else _UNKNOWN)
    SERIES.of(DEMAND_TOKENS, key, "input").set(demand.input_tokens if demand else _UNKNOWN)
    SERIES.of(DEMAND_TOKENS, key, "output").set(demand.output_tokens if demand else _UNKNOWN)
    SERIES.of(LATE_SHARE, key).set(_UNKNOWN if reading.late_share is None else reading.late_share)
    left_out, interval = reading.not_streamed_per_second, reading.timing.interval_seconds
    SERIES.of(NOT_STREAMED_RATE, key).set(_UNKNOWN if left_out is None else left_out)
    SERIES.of(SCRAPE_INTERVAL, key).set(_UNKNOWN if interval is None else interval)
    SERIES.of(SCRAPE_LAG, key).set(reading.timing.lag_seconds)


def _report_outlook(key: Key, planned: Planned) -> None:
    if planned.miss is not None:
        SERIES.of(MISS_SHARE, key).set(planned.miss)
    if planned.trust:
        SERIES.of(FORECAST_DOUBTED, key).set(planned.trust.doubted_bins)
        SERIES.of(FORECAST_TRUSTED, key).set(planned.trust.trusted)
        SERIES.of(FORECAST_ERROR, key).set(planned.trust.error_vs_last_value)
        SERIES.of(FORECAST_COVERAGE, key).set(planned.trust.coverage_90)
        SERIES.of(FORECAST_AGE, key).set(planned.trust.newest_point_age_seconds)
    for role in Role:
        outlook = planned.outlook[role] if planned.outlook else None
        expected = outlook.rate(outlook.expected) if outlook else None
        if expected is None:
            SERIES.remove(FORECAST_RATE, key, role)
        else:
            SERIES.of(FORECAST_RATE, key, role).set(expected)
        promised = outlook.rate(outlook.promised) if outlook else None
        SERIES.of(FORECAST_FOR_NOW, key, role).set(_UNKNOWN if promised is None else promised)


def forget(key: Key) -> None:
    """Drop the gauges of a resource that is gone, so that nobody reads its last values as live."""
    _TOLD.pop(key, None)
    _DECIDED.pop(key, None)
    SERIES.forget(key)
