"""The operator's own metrics: set for a resource, gone with it."""

import math
from dataclasses import replace
from typing import Any

from prometheus_client import REGISTRY, Gauge

from dopd.api.conditions import ConditionReason, ConditionStatus, ConditionType
from dopd.api.names import Role
from dopd.autoscaler import Autoscaler, Outlook, Sample
from dopd.planning import Demand, Objectives, PerRole, Policy, RoleBounds, Workers
from dopd.reconcile import metrics
from dopd.reconcile.conditions import Finding
from dopd.reconcile.leadtimes import Lead, Part
from dopd.reconcile.queue import Key
from dopd.reconcile.reading import Reading
from dopd.reconcile.scaling import Planned
from dopd.reconcile.series import SeriesOfResources
from dopd_forecasting import Trust, TrustReason

from .test_conditions import ALL_WELL, findings, look

# Series of the process outlive a test: no other test reports for this resource.
KEY = Key("ns", "metrics-alone")
TRUST = Trust(
    trusted=True,
    reason=TrustReason.TRUSTED,
    error_vs_last_value=0.8,
    coverage_90=0.91,
    newest_point_age_seconds=3.0,
    scored_bins=100,
)


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"namespace": KEY.namespace, "inference": KEY.name, **labels})


def report(reading: Reading, **planned: Any) -> None:
    observed = look(*ALL_WELL)
    targets = {Role.PREFILL: 1, Role.DECODE: 2}
    metrics.report(KEY, observed, targets, Planned(None, reading, **planned), findings(observed, (), None))


def test_gauges_of_a_resource_are_set_and_leave_with_it():
    report(Reading(0.0), trust=TRUST, miss=0.25)
    assert value("dopd_workers", role="decode", state="desired") == 2
    assert value("dopd_workers", role="decode", state="serving") == 1
    assert value("dopd_gpus", role="decode") == 1
    assert value("dopd_condition", type="Ready") == 1
    assert value("dopd_condition_reason", type="Ready", reason="AsExpected") == 1
    assert value("dopd_objective_attainment") == 0.99
    assert value("dopd_objective_seconds", latency="ttft") == 1.5
    assert value("dopd_forecast_error_vs_last_value") == 0.8
    assert value("dopd_forecast_trusted") == 1
    assert value("dopd_miss_share") == 0.25
    metrics.forget(KEY)
    assert value("dopd_miss_share") is None
    assert value("dopd_workers", role="decode", state="desired") is None
    assert value("dopd_forecast_trusted") is None
    assert value("dopd_condition_reason", type="Ready", reason="AsExpected") is None
    assert value("dopd_objective_attainment") is None


def test_a_reason_that_passed_is_not_told_any_more():
    observed = look(*ALL_WELL)
    for name in ("Unschedulable", "Crashing"):
        finding = Finding(ConditionType.READY, ConditionStatus.FALSE, ConditionReason(name))
        metrics.report(KEY, observed, dict.fromkeys(Role, 1), None, [finding])
    assert value("dopd_condition_reason", type="Ready", reason="Unschedulable") is None
    assert value("dopd_condition_reason", type="Ready", reason="Crashing") == 1
    metrics.forget(KEY)


def test_lead_times_are_shown_part_by_part():
    lead = Lead(5.0, 60.0, 3.0, waits={Part.NODE: 90.0})
    observed = replace(look(*ALL_WELL), leads={Role.DECODE: lead})
    metrics.report(KEY, observed, dict.fromkeys(Role, 1), None, findings(observed, (), None))
    assert value("dopd_lead_seconds", role="decode") == 153.0
    assert value("dopd_lead_part_seconds", role="decode", part="node") == 90.0
    assert value("dopd_lead_part_seconds", role="decode", part="exit") is None
    metrics.forget(KEY)
    assert value("dopd_lead_part_seconds", role="decode", part="node") is None


def test_what_the_load_needs_is_shown_beside_the_bounds_that_keep_the_target_from_it(model):
    policy, loop = Policy(prefill=RoleBounds(1, 2), decode=RoleBounds(1, 9)), Autoscaler(forecaster=None)
    observed = look(*ALL_WELL)

    def decided(demand: Demand | None, waiting_tokens: float = 0.0) -> None:
        loop.observe(Sample(0.0, demand), model, policy)
        workers = PerRole(Workers(1, waiting_tokens=waiting_tokens), Workers(1))
        planned = Planned(loop.decide(workers, 0.0, model, policy), Reading(0.0, demand))
        metrics.report(KEY, observed, dict.fromkeys(Role, 1), planned, findings(observed, (), planned))

    decided(Demand(60.0, 1000.0, 1.5e6, 200.0), waiting_tokens=5e6)
    assert (value("dopd_needed_workers", role="prefill") or 0) > 2 == value("dopd_target_workers", role="prefill")
    assert value("dopd_limited_by", bound="PrefillMax") == 1
    assert value("dopd_limited_by", bound="DecodeMax") == 0
    weighed = {load: value("dopd_weighed_workers", role="prefill", load=load) or 0 for load in WEIGHED}
    assert 0 < weighed["now"] <= weighed["peak"] < weighed["backlog"] == value("dopd_needed_workers", role="prefill")
    assert value("dopd_weighed_workers", role="decode", load="backlog") == 0
    decided(None)
    assert math.isnan(value("dopd_needed_workers", role="prefill") or 0)
    assert math.isnan(value("dopd_weighed_workers", role="prefill", load="now") or 0)
    assert value("dopd_limited_by", bound="PrefillMax") == 0
    metrics.forget(KEY)
    assert value("dopd_limited_by", bound="PrefillMax") is None
    assert value("dopd_weighed_workers", role="prefill", load="now") is None


def test_objectives_that_no_number_of_workers_meets_are_told(model):
    loop, observed = Autoscaler(forecaster=None), look(*ALL_WELL)
    demand = Demand(2.0, 4000.0, 1.7e7, 200.0)
    for ttft_seconds, told in ((0.001, 1), (5.0, 0)):
        objectives = Objectives(ttft_seconds, 0.05, 0.99)
        policy = Policy(objectives, prefill=RoleBounds(1, 9), decode=RoleBounds(1, 9))
        loop.observe(Sample(0.0, demand), model, policy)
        planned = Planned(loop.decide(PerRole(Workers(1), Workers(1)), 0.0, model, policy), Reading(0.0, demand))
        metrics.report(KEY, observed, dict.fromkeys(Role, 1), planned, findings(observed, (), planned))
        assert value("dopd_objectives_infeasible") == told
    metrics.forget(KEY)


WEIGHED = ("now", "peak", "backlog", "held")


def test_a_load_that_nobody_measures_any_more_is_not_shown():
    demand = Demand(3.0, 100.0, 20_000.0, 50.0)
    prefill = Outlook(60.0, now=1.5, peak=3.0, per_request=0.5, expected=2.5, promised=None)
    decode = Outlook(60.0, now=1.5, peak=3.0, per_request=0.5, expected=None, promised=2.0)
    report(Reading(0.0, demand, late_share=0.1), outlook=PerRole(prefill, decode))
    assert value("dopd_demand_requests_per_second") == 3.0
    assert value("dopd_forecast_requests_per_second", role="prefill") == 5.0
    assert value("dopd_forecast_requests_per_second", role="decode") is None
    assert math.isnan(value("dopd_forecast_for_now_requests_per_second", role="prefill") or 0.0)
    assert value("dopd_forecast_for_now_requests_per_second", role="decode") == 4.0
    report(Reading(1.0))
    assert math.isnan(value("dopd_demand_requests_per_second") or 0.0)
    assert math.isnan(value("dopd_late_share") or 0.0)
    assert value("dopd_forecast_requests_per_second", role="prefill") is None
    metrics.forget(KEY)


def test_series_are_looked_up_once_and_all_of_a_resource_s_go_with_it():
    gauge = Gauge("dopd_test_series", "of this test", ["namespace", "inference", "role"], registry=None)
    series, other = SeriesOfResources(), Key("ns", "other")
    for key in (KEY, other):
        for role in Role:
            series.of(gauge, key, role).set(1)
    assert series.of(gauge, KEY, Role.DECODE) is series.of(gauge, KEY, "decode")
    series.remove(gauge, KEY, Role.DECODE)
    series.remove(gauge, KEY, Role.DECODE)
    shown = {tuple(sample.labels.values()) for metric in gauge.collect() for sample in metric.samples}
    assert shown == {(*KEY, "prefill"), (*other, "prefill"), (*other, "decode")}
    series.of(gauge, KEY, Role.DECODE).set(1)
    series.forget(KEY)
    series.forget(KEY)
    shown = {tuple(sample.labels.values()) for metric in gauge.collect() for sample in metric.samples}
    assert shown == {(*other, "prefill"), (*other, "decode")}
