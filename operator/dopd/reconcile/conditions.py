"""From what was observed to the conditions that are reported. Pure: one function per condition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dopd.api.conditions import ConditionReason as Reason
from dopd.api.conditions import ConditionStatus as Status
from dopd.api.conditions import ConditionType as Type
from dopd.api.inference import DisaggregatedInferenceSpec, ScalingMode
from dopd.api.names import POOL_LABEL, ROLES, ROUTER_POOL, Role
from dopd.api.topology import TopologyPolicy
from dopd.planning import Bound
from dopd.reconcile import pods as pod_reading
from dopd.reconcile import rollout_words
from dopd.reconcile.gateway_watch import Difference, differences
from dopd.reconcile.grants import Grant
from dopd.reconcile.moved import Moved
from dopd.reconcile.observe import Observed
from dopd.reconcile.pods import NAMED_PODS, Trouble
from dopd.reconcile.profile_match import PROFILE_FIX, profile_differences
from dopd.reconcile.prompt_order import order_verdict
from dopd.reconcile.reading import Reading
from dopd.reconcile.refusals import no_groups
from dopd.reconcile.scaling import Planned
from dopd_forecasting import TrustReason


@dataclass(frozen=True)
class Finding:
    """A condition before it gets its times."""

    type: Type
    status: Status
    reason: Reason
    message: str = ""


_TRUST_REASONS = {
    TrustReason.STALE: Reason.STALE_HISTORY,
    TrustReason.SHORT_HISTORY: Reason.SHORT_HISTORY,
    TrustReason.WORSE_THAN_LAST_VALUE: Reason.WORSE_THAN_LAST_VALUE,
    TrustReason.BANDS_MISS: Reason.BANDS_MISS,
}
_LIMITING = {Bound.PREFILL_MAX, Bound.DECODE_MAX, Bound.RATIO, Bound.GPU_BUDGET, Bound.GPU_POOL}


_OF_THE_SERVER = {Reason.API_FAILED, Reason.PASS_FAILED}
"""Troubles that may pass by themselves, so that they say nothing of whether requests are served."""


def findings(
    observed: Observed,
    troubles: Sequence[Trouble],
    planned: Planned | None,
    targets: Mapping[Role, int],
    moved: Moved | None = None,
    lasting: Sequence[Difference] = (),
    grant: Grant | None = None,
) -> list[Finding]:
    """All conditions of a resource.

    Args:
        observed: the look at the cluster.
        troubles: what failed in this pass: children that can not be made, that the API server refused or that belong
            to someone else, and errors.
        planned: the latest plan; None without spec.scaling.
        targets: workers that should serve, by role.
        moved: what this pass did to the workers; None where it did not come to that.
        lasting: what gateways have listed otherwise than the pods are for longer than a change takes.
        grant: what the GpuPool gives; None without one.
    """
    if observed.spec is None:
        message = f"{observed.spec_problem}. Correct the resource"
        return [Finding(Type.READY, Status.FALSE, Reason.INVALID_SPEC, message), reconciled(troubles)]
    refused = [trouble for trouble in troubles if trouble.reason not in _OF_THE_SERVER]
    result = [
        reconciled(troubles),
        _ready(observed, refused, targets),
        _workers_available(observed, refused, moved.placed(targets) if moved else targets),
        *([rolled_out(observed, moved)] if moved else []),
        _router_in_sync(observed, lasting),
        _spec_honored(observed, observed.spec),
        *topology_honored(observed, observed.spec, moved),
    ]
    if grant is not None:
        granted = Status.TRUE if grant.reason is Reason.AS_EXPECTED else Status.FALSE
        result.append(Finding(Type.GPUS_GRANTED, granted, grant.reason, grant.message))
    ordered = order_verdict(observed.spec, observed.orders)
    if ordered is not None:
        result.append(Finding(Type.SCHEDULING_ACTIVE, *ordered))
    return result + plan_findings(observed, observed.spec, planned)


def plan_findings(observed: Observed, spec: DisaggregatedInferenceSpec, planned: Planned | None) -> list[Finding]:
    """The conditions that follow from the plan; of what was observed the profiles alone are looked at.

    Args:
        observed: the look at the cluster.
        spec: of the resource.
        planned: the latest plan; None without spec.scaling.
    """
    if planned is None:
        return []
    if planned.asked:
        return [_budget_limited(planned)]
    if planned.profile_problem:  # nothing was read and nothing was planned
        return [_profile_found(planned)]
    return [
        _profile_found(planned),
        _profile_matches(observed, spec),
        _metrics_available(planned.reading, spec),
        _forecast_trusted(planned),
        _budget_limited(planned),
    ]


def reconciled(troubles: Sequence[Trouble]) -> Finding:
    """Whether a pass did all that it meant to."""
    if not troubles:
        return Finding(Type.RECONCILED, Status.TRUE, Reason.AS_EXPECTED)
    message = "; ".join(trouble.message for trouble in troubles)
    return Finding(Type.RECONCILED, Status.FALSE, troubles[0].reason, message)


def _ready(observed: Observed, refused: Sequence[Trouble], targets: Mapping[Role, int]) -> Finding:
    lasting = [trouble for trouble in refused if trouble.reason is not Reason.QUOTA_EXCEEDED]
    if lasting:
        return Finding(Type.READY, Status.FALSE, *lasting[0])
    gateways = observed.pods[ROUTER_POOL]
    if asleep(observed, targets) and any(pod_reading.has_address(pod) for pod in gateways):
        return Finding(Type.READY, Status.TRUE, Reason.ASLEEP, _asleep_words(observed))
    for role, missing in ((Role.PREFILL, Reason.NO_PREFILL), (Role.DECODE, Reason.NO_DECODE)):
        if not any(w.labelled and w.ready for w in observed.workers[role]):
            found = pod_reading.first_trouble(observed.pods[role]) or next(iter(refused), None)
            return Finding(Type.READY, Status.FALSE, *(found or _starting(observed, role, missing)))
    if not any(pod_reading.has_address(pod) for pod in observed.pods[ROUTER_POOL]):
        trouble = pod_reading.first_trouble(observed.pods[ROUTER_POOL]) or _starting(
            observed, ROUTER_POOL, Reason.ROUTER_UNAVAILABLE
        )
        return Finding(Type.READY, Status.FALSE, *trouble)
    if not any(pod_reading.ready(pod) for pod in observed.pods[ROUTER_POOL]):
        trouble = pod_reading.first_trouble(observed.pods[ROUTER_POOL]) or Trouble(
            Reason.NOT_REGISTERED, "the gateway runs and has not registered a prefill and a decode worker yet"
        )
        return Finding(Type.READY, Status.FALSE, *trouble)
    return Finding(Type.READY, Status.TRUE, Reason.AS_EXPECTED, "requests are served")


def asleep(observed: Observed, targets: Mapping[Role, int]) -> bool:
    """Whether no worker is to run, since spec.scaling.idle wants it so."""
    scaling = observed.spec.scaling if observed.spec else None
    return scaling is not None and scaling.idle is not None and not any(targets.values())


def _asleep_words(observed: Observed) -> str:
    assert observed.spec
    assert observed.spec.scaling
    if observed.spec.scaling.mode is ScalingMode.PAUSED:
        return "no worker runs; requests get 503, and mode Paused wakes nobody. Set it to Auto"
    seconds = max((lead.seconds for lead in observed.leads.values()), default=0.0)
    return f"no worker runs; the next request gets 503 with Retry-After and starts them, in about {seconds:.0f} s"


def _starting(observed: Observed, pool: str, missing: Reason) -> Trouble:
    made_by = observed.gateway_deployments().values() if pool == ROUTER_POOL else [observed.deployment(pool) or {}]
    for condition in [c for one in made_by for c in one.get("status", {}).get("conditions", [])]:
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return Trouble(Reason.CHILD_REFUSED, f"pods of {pool} are refused: {condition.get('message', '')}")
    if observed.pods[pool]:
        return Trouble(Reason.STARTING, f"{len(observed.pods[pool])} {pool} pods are starting, none is ready yet")
    return Trouble(missing, f"there is no {pool} pod yet")


def _workers_available(observed: Observed, refused: Sequence[Trouble], targets: Mapping[Role, int]) -> Finding:
    if refused:
        return Finding(Type.WORKERS_AVAILABLE, Status.FALSE, *refused[0])
    starting = draining = turning = 0
    for role in Role:
        trouble = pod_reading.first_trouble(observed.pods[role])
        if trouble:
            return Finding(Type.WORKERS_AVAILABLE, Status.FALSE, *trouble)
        workers = observed.workers[role]
        starting += max(targets[role] - sum(w.ready and w.labelled for w in workers), 0)
        turning += sum(w.turning for w in workers)
        draining += sum(not (w.labelled or w.turning or w.proving) for w in workers)
    if turning:
        words = f"{turning} workers change their role" + (f", {starting - turning} start" if starting > turning else "")
        return Finding(Type.WORKERS_AVAILABLE, Status.FALSE, Reason.CHANGING_ROLE, words)
    if starting:
        return Finding(Type.WORKERS_AVAILABLE, Status.FALSE, Reason.STARTING, f"{starting} workers are starting")
    if draining:
        return Finding(Type.WORKERS_AVAILABLE, Status.FALSE, Reason.DRAINING, f"{draining} workers are draining")
    silent = f"the load is not known of {_named(observed.unread)}" if observed.unread else ""
    return Finding(Type.WORKERS_AVAILABLE, Status.TRUE, Reason.AS_EXPECTED, silent)


def rolled_out(observed: Observed, moved: Moved) -> Finding:
    """Whether every worker is made from what the spec says, and what is in the way."""
    kind = Type.ROLLED_OUT
    if moved.rejected:
        names = " and ".join(f"{role} {name}" for role, name in sorted(moved.rejected.items()))
        message = f"workers of {names} did not come up, and those of the revision before serve. Correct the spec"
        return Finding(kind, Status.FALSE, Reason.ROLLED_BACK, message)
    held = sorted({name for step in moved.steps.values() for name in step.held})
    if held:
        first = pod_reading.first_trouble([p for r in Role for p in observed.pods[r] if p["metadata"]["name"] in held])
        what = first.message if first else "not ready in time"
        message = f"no further worker is replaced: {', '.join(held[:NAMED_PODS])} did not come up: {what}"
        return Finding(kind, Status.FALSE, Reason.ROLLOUT_HELD, message)
    refused = next((trouble for trouble in moved.troubles if trouble.reason not in _OF_THE_SERVER), None)
    if refused:
        return Finding(kind, Status.FALSE, *refused)
    if moved.adopting:
        return Finding(kind, Status.FALSE, Reason.ADOPTING, f"workers of {' and '.join(sorted(moved.adopting))}")
    old = {role: old_workers(observed, moved, role) for role in Role}
    if moved.outage:
        return Finding(kind, Status.FALSE, Reason.ROLLOUT_OUTAGE, rollout_words.outage(old))
    if not any(old.values()):
        return Finding(kind, Status.TRUE, Reason.AS_EXPECTED)
    counted = [f"{count} {role} workers" for role, count in old.items() if count]
    if moved.waiting:
        return Finding(kind, Status.FALSE, Reason.NO_SPARE_GPU, rollout_words.no_spare_gpu(observed, moved))
    return Finding(kind, Status.FALSE, Reason.ROLLING_OUT, f"{' and '.join(counted)} are yet to be replaced")


def old_workers(observed: Observed, moved: Moved, role: Role) -> int:
    """Workers of a role that are of another revision than the current one, until they are gone."""
    if role not in moved.revisions:
        return 0
    return sum(not of_current_revision(pod, moved) for pod in (*observed.pods[role], *observed.ending[role]))


def of_current_revision(pod: dict[str, Any], moved: Moved) -> bool:
    """Whether a worker is made from what the spec says: for the role that its engine is in, as its revision is."""
    of = pod["metadata"].get("labels", {}).get(POOL_LABEL)
    wanted = moved.revisions.get(Role(of)) if of in ROLES else None
    return wanted is not None and pod_reading.revision(pod) == wanted.name


def _named(problems: Mapping[str, str]) -> str:
    """The first few names of pods with what is wrong with each."""
    first = sorted(problems)[:NAMED_PODS]
    more = f" and {len(problems) - len(first)} more" if len(problems) > len(first) else ""
    return ", ".join(f"{name} ({problems[name]})" for name in first) + more


_REPAIR = "A gateway that stays so is replaced by one that reads the pods anew, once that one serves. To do it at once"


def _router_in_sync(observed: Observed, lasting: Sequence[Difference]) -> Finding:
    gateway = observed.gateway
    if observed.api_key_problem:
        return Finding(Type.ROUTER_IN_SYNC, Status.UNKNOWN, Reason.API_KEY_UNREADABLE, observed.api_key_problem)
    if gateway.silent:
        told = {name: gateway.problems.get(name, "no answer") for name in gateway.silent}
        message = f"gateway pods do not list their workers: {_named(told)}"
        return Finding(Type.ROUTER_IN_SYNC, Status.UNKNOWN, Reason.ROUTER_UNREACHABLE, message)
    if lasting:
        more = f" and {len(lasting) - NAMED_PODS} more" if len(lasting) > NAMED_PODS else ""
        named = "; ".join(map(str, lasting[:NAMED_PODS]))
        gateways = " ".join(sorted({difference.gateway for difference in lasting}))
        message = f"{named}{more}. {_REPAIR}: kubectl delete pod {gateways}"
        return Finding(Type.ROUTER_IN_SYNC, Status.FALSE, Reason.ROUTER_OUT_OF_SYNC, message)
    young = differences(observed)
    if young:
        message = "; ".join(map(str, young[:NAMED_PODS]))
        return Finding(Type.ROUTER_IN_SYNC, Status.FALSE, Reason.NOT_REGISTERED, message)
    return Finding(Type.ROUTER_IN_SYNC, Status.TRUE, Reason.AS_EXPECTED)


def _spec_honored(observed: Observed, spec: DisaggregatedInferenceSpec) -> Finding:
    if observed.groups_known:
        return Finding(Type.SPEC_HONORED, Status.TRUE, Reason.AS_EXPECTED)
    return Finding(Type.SPEC_HONORED, Status.FALSE, Reason.NOT_ACTED_ON, no_groups(spec))


def topology_honored(observed: Observed, spec: DisaggregatedInferenceSpec, moved: Moved | None) -> list[Finding]:
    """Whether every worker is in a domain of spec.topology, and all that should serve have a place; none without it."""
    kind, topology = Type.TOPOLOGY_HONORED, spec.topology
    if topology is None or moved is None:
        return []
    division = moved.division
    if division and any(division.unplaced.values()):
        lacking = " and ".join(f"{count} {role}" for role, count in sorted(division.unplaced.items()) if count)
        message = (
            f"there is no room for {lacking} workers in the ratio of the whole in any domain. Raise gpus of a domain in"
            " spec.topology.domains, or list another"
        )
        return [Finding(kind, Status.FALSE, Reason.DOMAIN_FULL, message)]
    waiting = [
        worker
        for role in Role
        for pod, worker in zip(observed.pods[role], observed.workers[role], strict=True)
        if (found := pod_reading.trouble(pod)) and found.reason is Reason.UNSCHEDULABLE
    ]
    begun = any(worker.domain or worker.scheduled for role in Role for worker in observed.workers[role])
    if waiting and begun and topology.policy is TopologyPolicy.REQUIRED:
        names = ", ".join(_at(worker.name, worker.domain) for worker in waiting[:NAMED_PODS])
        message = (
            f"no node of the domain takes {names}. Free GPUs there, correct {topology.domain_key} on the nodes, lower"
            " gpus of the domain, or set policy Preferred"
        )
        return [Finding(kind, Status.FALSE, Reason.DOMAIN_FULL, message)]
    counts = division.counts if division else {"": {}}
    outside = [w for role in Role for w in observed.workers[role] if w.domain not in counts]
    if outside:
        message = f"{len(outside)} workers are yet to leave for a domain that is listed"
        return [Finding(kind, Status.FALSE, Reason.ROLLING_OUT, message)]
    return [Finding(kind, Status.TRUE, Reason.AS_EXPECTED)]


def _at(name: str, domain: str) -> str:
    return f"{name} ({domain})" if domain else name


def _profile_found(planned: Planned) -> Finding:
    if planned.profile_problem:
        return Finding(Type.PROFILE_FOUND, Status.FALSE, Reason.NO_PROFILE, planned.profile_problem)
    return Finding(Type.PROFILE_FOUND, Status.TRUE, Reason.AS_EXPECTED)


def _profile_matches(observed: Observed, spec: DisaggregatedInferenceSpec) -> Finding:
    differing = profile_differences(spec, observed.profiles)
    if not differing:
        return Finding(Type.PROFILE_MATCHES, Status.TRUE, Reason.AS_EXPECTED)
    return Finding(Type.PROFILE_MATCHES, Status.FALSE, Reason.OTHER_WORKERS, f"{'; '.join(differing)}. {PROFILE_FIX}")


def _metrics_available(reading: Reading | None, spec: DisaggregatedInferenceSpec) -> Finding:
    if reading is None:
        return Finding(Type.METRICS_AVAILABLE, Status.UNKNOWN, Reason.STARTING, "the load is being read")
    if reading.failure is None:
        return Finding(Type.METRICS_AVAILABLE, Status.TRUE, Reason.AS_EXPECTED, "; ".join(reading.remarks))
    message = f"{reading.failure}. The last target is held, and queues in the engines still add workers"
    fallback = spec.scaling.fallback if spec.scaling else None
    if fallback:
        message += f"; after {fallback.after} there are at least {fallback.prefill}+{fallback.decode} workers"
    return Finding(Type.METRICS_AVAILABLE, Status.FALSE, reading.failure.reason, message)


def _forecast_trusted(planned: Planned) -> Finding:
    reading, trust = planned.reading, planned.trust
    if reading is None or reading.failure:
        message = "the load is not known"
        return Finding(Type.FORECAST_TRUSTED, Status.UNKNOWN, Reason.METRICS_UNAVAILABLE, message)
    message = "plans rest on how the load moved, and on what came a day and a week before"
    if trust is None and planned.no_forecaster:
        words = f"{planned.no_forecaster}: {message}"
        return Finding(Type.FORECAST_TRUSTED, Status.FALSE, Reason.FORECAST_PENDING, words)
    if trust is None:
        return Finding(Type.FORECAST_TRUSTED, Status.FALSE, Reason.SHORT_HISTORY, f"no history: {message}")
    doubted = ""
    if trust.doubted_bins:
        doubted = f"{trust.doubted_bins} of the newest bins stood alone, far from all around it, and moved no forecast"
    if trust.trusted:
        return Finding(Type.FORECAST_TRUSTED, Status.TRUE, Reason.AS_EXPECTED, doubted)
    message = f"{message}; {doubted}" if doubted else message
    return Finding(Type.FORECAST_TRUSTED, Status.FALSE, _TRUST_REASONS[trust.reason], message)


def _budget_limited(planned: Planned) -> Finding:
    decision = planned.decision
    bit = [bound for bound in decision.limited_by if bound in _LIMITING] if decision else []
    needed = planned.asked or (decision.needed if decision else None)
    if decision and needed and bit and (decision.prefill < needed[0] or decision.decode < needed[1]):
        who = "a scaler asks for" if planned.asked else "the load needs"
        message = (
            f"{who} {needed[0]} prefill and {needed[1]} decode workers; limited by {', '.join(bit)}. Raise the bound,"
            " or accept the latency"
        )
        return Finding(Type.BUDGET_LIMITED, Status.TRUE, Reason.LIMITED, message)
    return Finding(Type.BUDGET_LIMITED, Status.FALSE, Reason.AS_EXPECTED)
