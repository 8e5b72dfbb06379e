"""The plan in the status: loads that were weighed, which decided, and what clients are expected to meet. Pure."""

import math

from dopd.api.names import Role
from dopd.api.status import AttainmentStatus, LengthsStatus, PlanStatus, RolePlanStatus
from dopd.autoscaler.calibration import applied
from dopd.autoscaler.decision import Decision
from dopd.planning import Demand, PerRole
from dopd.planning.demand import squared_cv
from dopd.reconcile.scaling import Planned


def plan_status(planned: Planned | None, objective: float, time: str) -> PlanStatus | None:
    """The latest plan; None where it rests on no load.

    Args:
        planned: with the load and the decision that it led to.
        objective: share of requests that must be on time.
        time: of the load (RFC 3339).
    """
    decision = planned.decision if planned else None
    if planned is None or decision is None or decision.weighed is None or planned.outlook is None:
        return None
    if planned.reading is None or planned.reading.demand is None:
        return None
    corrections, weighed, expectations = applied(planned.corrections), decision.weighed, planned.outlook

    def of(role: Role) -> RolePlanStatus:
        loads, outlook = weighed[role], expectations[role]
        return RolePlanStatus(
            now=loads.now,
            peak=loads.peak,
            backlog=loads.backlog,
            held=loads.held,
            decided_by=loads.cause.value,
            lead_seconds=round(outlook.lead_seconds, 1),
            busy_now=round(outlook.now, 3),
            busy_peak=round(outlook.peak, 3),
            correction=round(corrections[role], 4),
        )

    roles = PerRole.of(of)
    told = decision.planned_for.prefill if decision.planned_for else planned.reading.demand
    expected = decision.expected
    ends = expected is not None and math.isfinite(expected.ttft_seconds)
    late = planned.reading.late_share
    return PlanStatus(
        time=time,
        target=f"{decision.prefill}+{decision.decode}",
        prefill=roles.prefill,
        decode=roles.decode,
        limited_by=[bound.value for bound in decision.limited_by],
        attainment=_attainment(objective, decision, late),
        ttft_seconds=round(expected.ttft_seconds, 4) if expected and ends else None,
        itl_seconds=round(expected.itl_seconds, 5) if expected and ends else None,
        lengths=_lengths(told),
        on_time_first=planned.ordered,
    )


def _attainment(objective: float, decision: Decision, late_share: float | None) -> AttainmentStatus:
    expected = _down(decision.expected.attainment) if decision.expected else None
    told = "?" if expected is None else percent(expected)
    return AttainmentStatus(
        objective=objective,
        expected=expected,
        observed=None if late_share is None else _down(1 - late_share),
        summary=f"{told}/{percent(objective)}",
    )


def _down(share: float) -> float:
    """To five digits; what is not all never reads as all."""
    return math.floor(1e5 * share + 1e-6) / 1e5


def percent(share: float) -> str:
    """A share in percent, with as many digits as tell it from 100."""
    digits = f"{100 * share:.2f}".rstrip("0").rstrip(".")
    return "99.99%" if share < 1 and digits == "100" else f"{digits}%"


def _lengths(demand: Demand) -> LengthsStatus:
    return LengthsStatus(
        input_cv=round(math.sqrt(squared_cv(demand.input_tokens, demand.input_tokens_second_moment)), 4),
        output_cv=round(math.sqrt(demand.output_tokens_squared_cv), 4),
        uncached_share=round(demand.uncached_share, 4),
    )
