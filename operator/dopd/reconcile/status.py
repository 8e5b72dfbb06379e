"""The status that is written: conditions with their times, counts, and the last decisions. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import gcd
from typing import Any

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import ROUTER_POOL, Role
from dopd.api.status import (
    LONGEST_MESSAGE,
    Condition,
    DecisionStatus,
    DisaggregatedInferenceStatus,
    LeadStatus,
    Load,
    LoadStatus,
    PlanStatus,
    RatioStatus,
    RoleStatus,
)
from dopd.api.text import plain
from dopd.autoscaler import Decision
from dopd.planning import Demand
from dopd.reconcile.conditions import Finding, of_current_revision
from dopd.reconcile.domains import domain_status
from dopd.reconcile.grants import Grant
from dopd.reconcile.leadtimes import LONGEST, Lead, Part
from dopd.reconcile.moved import Moved
from dopd.reconcile.observe import Observed
from dopd.reconcile.plan_status import plan_status
from dopd.reconcile.scaling import Planned
from dopd.reconcile.stored import rfc3339, stored_status

KEPT_DECISIONS = 10
LONGEST_TEXT = 4096
"""Characters of a text of the status, unless it has a limit of its own."""

MOST_DOMAINS = 64
"""Domains of a status."""

WORTH_TELLING = 0.1
"""A number that moved by less than this share is not written again."""


def build_status(
    observed: Observed,
    findings: Sequence[Finding],
    targets: Mapping[Role, int],
    decisions: Sequence[DecisionStatus],
    planned: Planned | None,
    now: datetime,
    moved: Moved | None = None,
    grant: Grant | None = None,
    *,
    partial: bool = False,
) -> dict[str, Any]:
    """The status as it should stand, with the times of conditions that did not change kept.

    Args:
        observed: the look at the cluster.
        findings: conditions.
        targets: workers that should serve, by role.
        decisions: last decisions, newest first.
        planned: the latest plan; None without spec.scaling.
        now: the time of the look.
        moved: what the pass did to the workers; None where it did not come to that.
        grant: what the GpuPool gives; None without one.
        partial: a part of the pass failed: what it would have found stays as stored.
    """
    resource = observed.resource
    generation = resource["metadata"].get("generation", 0)
    stored = stored_status(resource)
    old = {condition.type: condition for condition in stored.conditions}
    conditions = [_condition(finding, old.get(finding.type), generation, rfc3339(now)) for finding in findings]
    if partial:
        found = {condition.type for condition in conditions}
        conditions += [condition for condition in stored.conditions if condition.type not in found]
    status = DisaggregatedInferenceStatus(observed_generation=generation, conditions=conditions)
    if observed.spec is not None:
        told = {Role.PREFILL: stored.prefill, Role.DECODE: stored.decode}
        roles = {role: _role(observed, role, targets[role], told[role], moved) for role in Role}
        prefill, decode = roles[Role.PREFILL], roles[Role.DECODE]
        load, plan = load_and_plan(planned, observed.spec.slo.attainment, stored)
        status = status.model_copy(
            update={
                "prefill": prefill,
                "decode": decode,
                "ratio": RatioStatus(
                    desired=ratio(prefill.desired, decode.desired), current=ratio(prefill.ready, decode.ready)
                ),
                "domains": domain_status(observed, moved)[:MOST_DOMAINS] or None,
                "mode": observed.spec.scaling.mode.value if observed.spec.scaling else "Static",
                "endpoint": endpoint(observed, observed.spec),
                "load": load,
                "plan": plan,
                "gpus": _held_gpus(observed, observed.spec),
                "gpu_pool": grant.status() if grant else None,
                "miss_share": miss_share(planned, stored.miss_share),
                "decisions": list(decisions[:KEPT_DECISIONS]),
            }
        )
    return _json(status)


def failed_status(resource: dict[str, Any], finding: Finding, now: datetime) -> dict[str, Any]:
    """The stored status with one condition changed: of a pass that found nothing else."""
    stored = stored_status(resource)
    old = next((condition for condition in stored.conditions if condition.type == finding.type), None)
    new = _condition(finding, old, resource["metadata"].get("generation", 0), rfc3339(now))
    others = [condition for condition in stored.conditions if condition.type != finding.type]
    return _json(stored.model_copy(update={"conditions": [new, *others]}))


def endpoint(observed: Observed, spec: DisaggregatedInferenceSpec) -> str:
    """URL of the gateway inside the cluster."""
    owner = observed.owner
    return f"http://{owner.child_name(ROUTER_POOL)}.{owner.namespace}.svc:{spec.router.service.port}/v1"


def decision_status(decision: Decision, before: str, now: str) -> DecisionStatus:
    """A decision as it is reported."""
    return DecisionStatus.model_validate(
        {
            "time": now,
            "from": before,
            "to": f"{decision.prefill}+{decision.decode}",
            "reason": decision.reason.value,
            "message": clipped(decision.message, LONGEST_TEXT),
            "limitedBy": [bound.value for bound in decision.limited_by],
            "demand": _load(decision.planned_for.prefill) if decision.planned_for else None,
            "summary": f"{before} to {decision.prefill}+{decision.decode}: {decision.reason.value}",
        }
    )


def ratio(prefill: int, decode: int) -> str:
    """Prefill to decode in lowest terms."""
    divisor = gcd(prefill, decode) or 1
    return f"{prefill // divisor}:{decode // divisor}"


def stored_leads(resource: dict[str, Any]) -> dict[Role, Lead]:
    """Lead times that the stored status tells of."""
    status = stored_status(resource)
    told = {Role.PREFILL: status.prefill, Role.DECODE: status.decode}
    return {role: _lead(of.lead_time) for role, of in told.items() if of and of.lead_time}


def _lead(stored: LeadStatus) -> Lead:
    def within(part: Part, seconds: float) -> float:
        return min(max(0.0, seconds), LONGEST[part])

    return Lead(
        within(Part.NODE, stored.node_seconds),
        within(Part.START, stored.start_seconds),
        within(Part.REGISTRATION, stored.registration_seconds),
        None if stored.exit_seconds is None else within(Part.EXIT, stored.exit_seconds),
        None if stored.drain_seconds is None else within(Part.DRAIN, stored.drain_seconds),
    )


def lead_status(lead: Lead | None, old: LeadStatus | None) -> LeadStatus | None:
    """Lead times, or the stored ones while none moved by a tenth of them all, and by a second."""
    if lead is None:
        return old
    new = LeadStatus(
        node_seconds=round(lead.node_seconds, 1),
        start_seconds=round(lead.start_seconds, 1),
        registration_seconds=round(lead.registration_seconds, 1),
        exit_seconds=None if lead.exit_seconds is None else round(lead.exit_seconds, 1),
        drain_seconds=None if lead.drain_seconds is None else round(lead.drain_seconds, 1),
    )
    if old is None:
        return new
    before, after = ([value or 0.0 for value in one.model_dump().values()] for one in (old, new))
    worth = max(1.0, WORTH_TELLING * sum(before))
    return new if any(abs(a - b) >= worth for a, b in zip(after, before, strict=True)) else old


def _role(observed: Observed, role: Role, target: int, old: RoleStatus | None, moved: Moved | None) -> RoleStatus:
    counts = observed.role_counts(role)
    serving = observed.serving(role)
    revision = moved.revisions[role].name if moved and role in moved.revisions else ""
    return RoleStatus(
        desired=target,
        ready=counts.serving,
        starting=counts.starting,
        draining=counts.draining,
        lead_time=lead_status(observed.leads.get(role), old.lead_time if old else None),
        changing=sum(worker.turning for worker in observed.workers[role]),
        updated=sum(
            worker in serving and moved is not None and of_current_revision(pod, moved)
            for pod, worker in zip(observed.pods[role], observed.workers[role], strict=True)
        ),
        revision=revision,
        rejected_revision=moved.rejected.get(role) if moved else None,
        summary=f"{target}/{counts.serving}",
    )


def load_and_plan(
    planned: Planned | None, objective: float, stored: DisaggregatedInferenceStatus
) -> tuple[LoadStatus | None, PlanStatus | None]:
    """Load and plan, both of one time: what is told of them belongs together.

    Args:
        planned: the latest plan; None without one.
        objective: share of requests that must be on time.
        stored: what was written before, which stays while no number of the load moved by a tenth and neither the target
            nor what limits it changed.
    """
    load = load_status(planned, None)
    plan = plan_status(planned, objective, load.time if load else "")
    if load is None or plan is None:
        return load_status(planned, stored.load), stored.plan
    old = stored.plan
    if old is None or _decides(old) != _decides(plan) or not stored.load or _moved(stored.load, load):
        return load, plan
    return stored.load, old


def _decides(plan: PlanStatus) -> tuple[str, list[str], float]:
    return plan.target, plan.limited_by, plan.attainment.objective


def _held_gpus(observed: Observed, spec: DisaggregatedInferenceSpec) -> int:
    held = 0
    for role, of in ((Role.PREFILL, spec.prefill), (Role.DECODE, spec.decode)):
        counts = observed.role_counts(role)
        held += of.gpus * (counts.serving + counts.starting + counts.draining)
    return held


def load_status(planned: Planned | None, old: LoadStatus | None) -> LoadStatus | None:
    """The load that the latest plan rests on, or the stored one while no number of it moved by a tenth."""
    decision, reading = (planned.decision, planned.reading) if planned else (None, None)
    if reading is None or reading.demand is None or decision is None:
        return old
    prefill, decode = decision.planned_for or (reading.demand, reading.demand)
    new = LoadStatus(
        time=_rfc3339_of(reading.at_seconds),
        demand=_load(reading.demand),
        prefill=_load(prefill),
        decode=_load(decode),
    )
    return old if old and not _moved(old, new) else new


def miss_share(planned: Planned | None, old: float | None) -> float | None:
    """How much is dared, or the stored number while it did not move by a tenth."""
    new = planned.miss if planned else None
    if new is None or (old and abs(new - old) <= WORTH_TELLING * old):
        return old
    return float(f"{new:.3g}")


def stored_miss(resource: dict[str, Any]) -> float | None:
    """How much was dared, as the stored status says; None if it says nothing."""
    return stored_status(resource).miss_share


def _moved(old: LoadStatus, new: LoadStatus) -> bool:
    def numbers(load: LoadStatus) -> list[float]:
        return [value for part in (load.demand, load.prefill, load.decode) for value in part.model_dump().values()]

    apart = (abs(b - a) > WORTH_TELLING * max(abs(a), 1e-9) for a, b in zip(numbers(old), numbers(new), strict=True))
    return any(apart)


def _load(demand: Demand) -> Load:
    return Load(
        requests_per_second=round(demand.requests_per_second, 3),
        input_tokens=round(demand.input_tokens, 1),
        output_tokens=round(demand.output_tokens, 1),
    )


def _rfc3339_of(epoch_seconds: float) -> str:
    return rfc3339(datetime.fromtimestamp(epoch_seconds, UTC))


def _condition(finding: Finding, old: Condition | None, generation: int, now: str) -> Condition:
    return Condition(
        type=finding.type,
        status=finding.status,
        reason=finding.reason,
        message=clipped(finding.message, LONGEST_MESSAGE),
        last_transition_time=old.last_transition_time if old and old.status == finding.status else now,
        observed_generation=generation,
    )


def clipped(text: str, most: int) -> str:
    """A text that the schema of the status takes: not too long, and of characters that can be seen.

    Conditions repeat the API server, Prometheus and pods, and reach terminals as they are (`kubectl -o jsonpath`).
    """
    whole = plain(text)
    return whole if len(whole) <= most else f"{whole[: most - len(_CUT)]}{_CUT}"


_CUT = " ... (cut)"


def _json(status: DisaggregatedInferenceStatus) -> dict[str, Any]:
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)
