"""The operator's own metrics. Names and labels are an interface: dashboards and alerts rest on them."""

from collections.abc import Mapping, Sequence

from prometheus_client import Counter, Gauge, Histogram

from dopd.api.names import Role
from dopd.api.status import ConditionStatus
from dopd.reconcile.conditions import Finding
from dopd.reconcile.observe import Observed
from dopd.reconcile.queue import Key
from dopd.reconcile.scaling import Outlook

RECONCILES = Counter("dopd_reconciles_total", "Passes over a resource, by outcome.", ["outcome"])
RECONCILE_SECONDS = Histogram("dopd_reconcile_seconds", "Duration of one pass over a resource.")
LEADER = Gauge("dopd_leader", "1 while this instance acts, 0 while it stands by.")
WORKERS = Gauge("dopd_workers", "Workers of a resource by role and state.", ["namespace", "instance", "role", "state"])
DEMAND_RATE = Gauge("dopd_demand_requests_per_second", "Arrival rate as observed.", ["namespace", "instance"])
FORECAST_RATE = Gauge(
    "dopd_forecast_requests_per_second", "Arrival rate planned for, by role.", ["namespace", "instance", "role"]
)
FORECAST_TRUSTED = Gauge("dopd_forecast_trusted", "1 while plans rest on the forecast.", ["namespace", "instance"])
FORECAST_ERROR = Gauge(
    "dopd_forecast_error_vs_last_value",
    "Recent mean absolute error of the forecast, relative to that of the last value.",
    ["namespace", "instance"],
)
FORECAST_COVERAGE = Gauge(
    "dopd_forecast_coverage_90",
    "Share of recent loads that stayed under the forecast's 90 % quantile.",
    ["namespace", "instance"],
)
FORECAST_AGE = Gauge(
    "dopd_forecast_newest_point_age_seconds", "Age of the newest load that is known.", ["namespace", "instance"]
)
DECISIONS = Counter("dopd_decisions_total", "Plans that changed the target.", ["namespace", "instance", "reason"])
LEAD_SECONDS = Gauge(
    "dopd_lead_seconds", "Time from scheduling to serving of a new worker, P90.", ["namespace", "instance", "role"]
)
CONDITION = Gauge("dopd_condition", "1 where a condition is True.", ["namespace", "instance", "type"])

_OF_INSTANCE = (
    WORKERS,
    DEMAND_RATE,
    FORECAST_RATE,
    FORECAST_TRUSTED,
    FORECAST_ERROR,
    FORECAST_COVERAGE,
    FORECAST_AGE,
    LEAD_SECONDS,
    CONDITION,
)


def report(
    key: Key, observed: Observed, targets: Mapping[Role, int], outlook: Outlook | None, found: Sequence[Finding]
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
            WORKERS.labels(*key, role, state).set(count)
        LEAD_SECONDS.labels(*key, role).set(observed.lead_seconds(role))
    for finding in found:
        CONDITION.labels(*key, finding.type).set(finding.status is ConditionStatus.TRUE)
    if outlook and outlook.demand:
        DEMAND_RATE.labels(*key).set(outlook.demand.requests_per_second)
    if outlook and outlook.trust:
        FORECAST_TRUSTED.labels(*key).set(outlook.trust.trusted)
        FORECAST_ERROR.labels(*key).set(outlook.trust.error_vs_last_value)
        FORECAST_COVERAGE.labels(*key).set(outlook.trust.coverage_90)
        FORECAST_AGE.labels(*key).set(outlook.trust.newest_point_age_seconds)
    if outlook and outlook.forecast:
        FORECAST_RATE.labels(*key, Role.PREFILL).set(outlook.forecast.prefill.requests_per_second)
        FORECAST_RATE.labels(*key, Role.DECODE).set(outlook.forecast.decode.requests_per_second)


def forget(key: Key) -> None:
    """Drop the gauges of a resource that is gone, so that nobody reads its last values as live."""
    for gauge in _OF_INSTANCE:
        gauge.remove_by_labels({"namespace": key.namespace, "instance": key.name})
