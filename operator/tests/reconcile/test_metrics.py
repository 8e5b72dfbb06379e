"""The operator's own metrics: set for a resource, gone with it."""

from prometheus_client import REGISTRY

from dopd.api.names import Role
from dopd.reconcile import metrics
from dopd.reconcile.queue import Key
from dopd.reconcile.scaling import Outlook
from dopd_forecasting import Trust, TrustReason

from .test_conditions import ALL_WELL, findings, look

KEY = Key("ns", "m")
TRUST = Trust(
    trusted=True,
    reason=TrustReason.TRUSTED,
    error_vs_last_value=0.8,
    coverage_90=0.91,
    newest_point_age_seconds=3.0,
    scored_bins=100,
)


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"namespace": "ns", "instance": "m", **labels})


def test_gauges_of_a_resource_are_set_and_leave_with_it():
    observed, outlook = look(*ALL_WELL), Outlook(None, trust=TRUST)
    targets = {Role.PREFILL: 1, Role.DECODE: 2}
    metrics.report(KEY, observed, targets, outlook, findings(observed, (), None))
    assert value("dopd_workers", role="decode", state="desired") == 2
    assert value("dopd_workers", role="decode", state="serving") == 1
    assert value("dopd_condition", type="Ready") == 1
    assert value("dopd_forecast_error_vs_last_value") == 0.8
    assert value("dopd_forecast_trusted") == 1
    metrics.forget(KEY)
    assert value("dopd_workers", role="decode", state="desired") is None
    assert value("dopd_forecast_trusted") is None
