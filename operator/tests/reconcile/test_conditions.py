"""From pods to conditions: each cause has its reason, and its message says what to do."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from dopd.api.conditions import REASONS, ConditionReason, ConditionStatus, ConditionType
from dopd.api.names import Role
from dopd.reconcile import conditions
from dopd.reconcile import pods as pod_reading
from dopd.reconcile.conditions import Finding
from dopd.reconcile.observe import Observed, read_spec
from dopd.reconcile.pods import Trouble
from dopd.reconcile.reading import Reading
from dopd.reconcile.scaling import Planned
from dopd.telemetry.gateway import GatewayView
from dopd.telemetry.prometheus import QueryFailed
from dopd.telemetry.prompt_order import PromptOrder
from dopd_forecasting.trust import TrustPolicy

SPEC: dict[str, Any] = {
    "model": "m",
    "engine": {"image": "sglang"},
    "prefill": {"gpus": 1, "replicas": 1},
    "decode": {"gpus": 1, "replicas": 1},
    "router": {"image": "smg", "replicas": 1},
}
IPS = {"prefill": "10.0.0.1", "decode": "10.0.0.2", "router": "10.0.0.3"}


def pod(pool: str, *, ready: bool = True, **status: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}, *status.pop("conditions", [])]
    labels = {"dopd.dev/pool": pool, **({"dopd.dev/role": pool} if pool != "router" else {})}
    return {
        "metadata": {
            "name": f"m-{pool}-x",
            "namespace": "ns",
            "labels": labels,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"nodeName": "node"},
        "status": {"podIP": IPS[pool], "conditions": conditions, **status},
    }


def deployment(pool: str, replicas: int = 1) -> dict[str, Any]:
    return {"kind": "Deployment", "metadata": {"name": f"m-{pool}"}, "spec": {"replicas": replicas}, "status": {}}


def look(*pods: dict[str, Any], listed: dict[str, str] | None = None, spec: dict[str, Any] | None = None) -> Observed:
    roles = listed if listed is not None else {IPS["prefill"]: "prefill", IPS["decode"]: "decode"}
    roles = {f"{ip}:30000": role for ip, role in roles.items()}
    gateway = GatewayView(frozenset(roles), (roles,), (), answered=("m-router-x",))
    pools = {pool: pod_reading.of_pool(pods, pool) for pool in IPS}
    resource = {"metadata": {"name": "m", "namespace": "ns", "uid": "u", "generation": 1}, "spec": spec or SPEC}
    read, problem = read_spec(resource)
    return Observed(
        resource=resource,
        spec=read,
        spec_problem=problem,
        children={("Deployment", f"m-{pool}"): deployment(pool) for pool in IPS},
        pods=pools,
        ending={role: [] for role in Role},
        finished={role: [] for role in Role},
        gateway=gateway,
        loads={},
        workers={role: [pod_reading.worker(p, gateway, None) for p in pools[role]] for role in Role},
        model="",
        orders={"m-prefill-x": PromptOrder(frozenset({"on-time-first"}), active=True)},
    )


ONE_EACH = MappingProxyType({Role.PREFILL: 1, Role.DECODE: 1})


def findings(
    observed: Observed,
    refused: Sequence[Trouble],
    planned: Planned | None,
    targets: Mapping[Role, int] = ONE_EACH,
) -> list[Finding]:
    result = conditions.findings(observed, refused, planned, targets)
    for finding in result:
        assert finding.reason in (ConditionReason.AS_EXPECTED, *REASONS[finding.type]), "the reference knows it"
    return result


def found(observed: Observed, kind: ConditionType, *refused: Trouble) -> Finding:
    return next(f for f in findings(observed, refused, None) if f.type is kind)


ALL_WELL = (pod("prefill"), pod("decode"), pod("router"))


def test_all_is_well():
    assert all(f.status is ConditionStatus.TRUE for f in findings(look(*ALL_WELL), (), None))


def test_a_target_that_was_just_raised_counts_before_the_deployment_shows_it():
    raised = {Role.PREFILL: 1, Role.DECODE: 3}
    kind = ConditionType.WORKERS_AVAILABLE
    told = next(f for f in findings(look(*ALL_WELL), (), None, raised) if f.type is kind)
    assert (told.status, told.reason) == (ConditionStatus.FALSE, ConditionReason.STARTING)
    assert told.message == "2 workers are starting"


def waiting(reason: str, message: str = "", restarts: int = 0, **last: Any) -> dict[str, Any]:
    state: dict[str, Any] = {"waiting": {"reason": reason, "message": message}}
    container = {"name": "engine", "image": "sglang", "state": state, "restartCount": restarts, "lastState": last}
    return {"containerStatuses": [container]}


UNSCHEDULABLE = {
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/3 nodes: 3 Insufficient gpu",
        }
    ]
}


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (UNSCHEDULABLE, ConditionReason.UNSCHEDULABLE, ["Insufficient gpu", "add nodes"]),
        (waiting("ErrImageNeverPull"), ConditionReason.IMAGE_PULL, ["sglang", "imagePullSecrets"]),
        (waiting("ImagePullBackOff", "denied"), ConditionReason.IMAGE_PULL, ["denied"]),
        (
            waiting("CreateContainerConfigError", 'secret "hf" not found'),
            ConditionReason.CONFIG,
            ['secret "hf" not found', "Create what is missing"],
        ),
        (
            waiting("CrashLoopBackOff", restarts=3, terminated={"exitCode": 0, "reason": "Completed"}),
            ConditionReason.CRASHING,
            ["3 times", "exit code 0", "kubectl logs m-decode-x"],
        ),
        ({}, ConditionReason.STARTING, ["none is ready yet"]),
    ],
)
def test_what_keeps_a_worker_from_serving_is_named(status: dict[str, Any], reason: ConditionReason, words: list[str]):
    observed = look(pod("prefill"), pod("decode", ready=False, **status), pod("router"))
    ready = found(observed, ConditionType.READY)
    assert (ready.status, ready.reason) == (ConditionStatus.FALSE, reason)
    assert all(word in ready.message for word in words), ready.message


def test_pods_that_are_refused_are_reported_from_the_deployment():
    observed = look(pod("prefill"), pod("router"))
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
    observed.children["Deployment", "m-decode"]["status"]["conditions"] = [failure]
    assert "exceeded quota" in found(observed, ConditionType.READY).message


def test_a_refused_child_comes_first():
    refused = Trouble(ConditionReason.PORT_TAKEN, "Service m-router: port taken")
    ready = found(look(*ALL_WELL), ConditionType.READY, refused)
    assert (ready.status, ready.reason) == (ConditionStatus.FALSE, ConditionReason.PORT_TAKEN)


def test_a_gateway_that_is_not_ready_yet_has_not_registered_the_workers():
    observed = look(pod("prefill"), pod("decode"), pod("router", ready=False), listed={})
    assert found(observed, ConditionType.READY).reason is ConditionReason.NOT_REGISTERED


def test_a_gateway_that_lists_other_workers_is_out_of_sync():
    sync = found(
        look(*ALL_WELL, listed={IPS["prefill"]: "prefill", "10.9.9.9": "decode"}), ConditionType.ROUTER_IN_SYNC
    )
    assert sync.status is ConditionStatus.FALSE
    assert "does not list decode m-decode-x" in sync.message
    assert "10.9.9.9" in sync.message


def test_one_worker_in_trouble_does_not_make_the_resource_unready():
    extra = pod("decode", ready=False, **waiting("ErrImageNeverPull"))
    extra["metadata"]["name"] = "m-decode-y"
    observed = look(*ALL_WELL, extra)
    assert found(observed, ConditionType.READY).status is ConditionStatus.TRUE
    assert found(observed, ConditionType.WORKERS_AVAILABLE).reason is ConditionReason.IMAGE_PULL


def test_a_field_that_the_cluster_has_no_means_for_is_said_so():
    spec = {**SPEC, "prefill": {"gpus": 2, "replicas": 1, "nodes": 2}}
    honored = found(replace(look(*ALL_WELL, spec=spec), groups_known=False), ConditionType.SPEC_HONORED)
    assert honored.status is ConditionStatus.FALSE
    assert "spec.prefill.nodes (2)" in honored.message
    assert found(look(*ALL_WELL, spec=spec), ConditionType.SPEC_HONORED).status is ConditionStatus.TRUE


def test_a_spec_of_another_schema_is_reported_with_the_field():
    observed = look(spec={**SPEC, "decode": {"gpus": 0, "replicas": 1}})
    ready, reconciled = findings(observed, (), None)
    assert ready.reason is ConditionReason.INVALID_SPEC
    assert "spec.decode.gpus" in ready.message
    assert reconciled.reason is ConditionReason.AS_EXPECTED


def test_without_a_profile_nothing_is_claimed_of_metrics_and_forecast():
    planned = Planned(None, profile_problem="namespace ns has no EngineProfile p")
    scaling = findings(look(*ALL_WELL), (), planned)[6:]
    assert [(f.type, f.status, f.reason) for f in scaling] == [
        (ConditionType.PROFILE_FOUND, ConditionStatus.FALSE, ConditionReason.NO_PROFILE)
    ]


def failed(reason: ConditionReason) -> Reading:
    return Reading(0.0, failure=QueryFailed(reason, "why"))


@pytest.mark.parametrize(
    ("reading", "kind", "reason"),
    [
        (None, ConditionType.METRICS_AVAILABLE, "Starting"),
        (failed(ConditionReason.NO_PROMETHEUS), ConditionType.METRICS_AVAILABLE, "NoPrometheus"),
        (failed(ConditionReason.QUERY_FAILED), ConditionType.METRICS_AVAILABLE, "QueryFailed"),
        (failed(ConditionReason.NOT_A_NUMBER), ConditionType.METRICS_AVAILABLE, "NotANumber"),
        (failed(ConditionReason.NO_SERIES), ConditionType.METRICS_AVAILABLE, "NoSeries"),
        (failed(ConditionReason.QUERY_FAILED), ConditionType.FORECAST_TRUSTED, "MetricsUnavailable"),
        (Reading(0.0), ConditionType.METRICS_AVAILABLE, "AsExpected"),
        (Reading(0.0), ConditionType.FORECAST_TRUSTED, "ShortHistory"),
        (Reading(0.0), ConditionType.BUDGET_LIMITED, "AsExpected"),
    ],
)
def test_what_the_last_plan_rested_on(reading: Reading | None, kind: ConditionType, reason: str):
    found = findings(look(*ALL_WELL), (), Planned(None, reading))
    assert next(f for f in found if f.type is kind).reason == reason


def test_a_forecast_that_is_being_made_is_said():
    planned = Planned(None, Reading(0.0), no_forecaster="the forecast is being made from the history")
    trusted = next(f for f in findings(look(*ALL_WELL), (), planned) if f.type is ConditionType.FORECAST_TRUSTED)
    assert trusted.reason == "ForecastPending"
    assert trusted.message.startswith("the forecast is being made from the history: plans rest on")


def test_what_is_not_known_of_a_load_that_is_known_is_said():
    reading = Reading(0.0, remarks=("lateness is not known", "no history from noon to one"))
    found = {f.type: f for f in findings(look(*ALL_WELL), (), Planned(None, reading))}
    assert found[ConditionType.METRICS_AVAILABLE].status is ConditionStatus.TRUE
    assert found[ConditionType.METRICS_AVAILABLE].message == "lateness is not known; no history from noon to one"


def test_a_bin_that_no_forecast_followed_is_said():
    trust = TrustPolicy().judge(
        age_seconds=0.0, bin_seconds=60.0, scored_bins=100, error_vs_last_value=0.9, coverage_90=0.9, doubted_bins=1
    )
    found = {f.type: f for f in findings(look(*ALL_WELL), (), Planned(None, Reading(0.0), trust=trust))}
    assert found[ConditionType.FORECAST_TRUSTED].status is ConditionStatus.TRUE
    assert found[ConditionType.FORECAST_TRUSTED].message.startswith("1 of the newest bins stood alone")


def test_engines_and_gateways_that_can_not_be_read_are_named_and_no_more_than_three():
    problems = {f"m-prefill-{n}": f"loads.{n}: no number" for n in range(5)}
    gateway = GatewayView(frozenset(), (), ("m-router-x",), {"m-router-x": "workers.1: no URL with a host"})
    available = found(replace(look(*ALL_WELL), unread=problems), ConditionType.WORKERS_AVAILABLE)
    assert available.status is ConditionStatus.TRUE
    assert "m-prefill-0 (loads.0: no number)" in available.message
    assert available.message.endswith("and 2 more")
    in_sync = found(replace(look(*ALL_WELL), gateway=gateway), ConditionType.ROUTER_IN_SYNC)
    assert in_sync.status is ConditionStatus.UNKNOWN
    assert "m-router-x (workers.1: no URL with a host)" in in_sync.message


IDLE_SPEC: dict[str, Any] = {
    **SPEC,
    "prefill": {"gpus": 1},
    "decode": {"gpus": 1},
    "scaling": {
        "prefill": {"min": 1, "max": 4},
        "decode": {"min": 1, "max": 4},
        "profileRef": {"name": "p"},
        "idle": {"after": "30m"},
    },
}
NONE = MappingProxyType({Role.PREFILL: 0, Role.DECODE: 0})


def at_zero(*pods: dict[str, Any], targets: Mapping[Role, int] = NONE, **scaling: Any) -> dict[ConditionType, Finding]:
    spec = {**IDLE_SPEC, "scaling": {**IDLE_SPEC["scaling"], **scaling}}
    told = findings(look(*pods, listed={}, spec=spec), (), None, targets)
    return {finding.type: finding for finding in told}


def test_asleep_is_as_the_spec_wants_it():
    told = at_zero(pod("router", ready=False))
    ready = told[ConditionType.READY]
    assert (ready.status, ready.reason) == (ConditionStatus.TRUE, ConditionReason.ASLEEP)
    assert "503 with Retry-After" in ready.message
    for kind in (ConditionType.WORKERS_AVAILABLE, ConditionType.ROUTER_IN_SYNC):
        assert told[kind].status is ConditionStatus.TRUE


def test_a_paused_sleeper_says_that_nobody_wakes_it():
    assert "wakes nobody" in at_zero(pod("router", ready=False), mode="Paused")[ConditionType.READY].message


def test_asleep_without_a_gateway_is_not_ready():
    assert at_zero()[ConditionType.READY].status is ConditionStatus.FALSE


def test_waking_is_not_ready_until_requests_are_served():
    told = at_zero(pod("router", ready=False), targets=ONE_EACH)
    assert told[ConditionType.READY].status is ConditionStatus.FALSE
