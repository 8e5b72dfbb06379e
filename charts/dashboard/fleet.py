"""The dashboard of all resources: which need a look, and what all of them cost."""

from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import stat

from charts.dashboard.parts import board, lines, number, rows, written

_EACH = "by (namespace, inference)"
_LATE = (
    f"sum_over_time((max {_EACH} (dopd_late_share * dopd_demand_requests_per_second >= 0))[1h:1m])"
    f" / (sum_over_time((max {_EACH} (dopd_demand_requests_per_second >= 0 and dopd_late_share >= 0))[1h:1m]) > 0)"
)
_BURN = f"({_LATE}) / (1 - max {_EACH} (dopd_objective_attainment))"
_NAME = "{{namespace}}/{{inference}}"


def _serving(role: str) -> str:
    return f'max {_EACH} (dopd_workers{{role="{role}", state="serving"}})'


def _where(title: str, what: str, condition: str, value: int) -> stat.Panel:
    """How many resources a condition holds of (1), or does not (0); none is good."""
    query = f"sum(max {_EACH} (dopd_condition{{type='{condition}'}}) == bool {value})"
    return number(title, what, query, width=4, says={"0": ("0", "green")})


def text() -> str:
    """The JSON of the dashboard."""
    made = board("dopd-fleet", "dopd fleet", "All DisaggregatedInferences: which need a look, and what they cost.")
    made.with_row(dashboards.Row("All resources"))
    for panel in (
        number("Resources", "All there are.", f"count(max {_EACH} (dopd_condition{{type='Ready'}}))", width=4),
        _where("Not ready", "Resources that serve nobody.", "Ready", 0),
        number("All GPUs", "That workers hold.", "sum(max by (namespace, inference, role) (dopd_gpus))", width=4),
        number("Requests", "Arrivals.", f"sum(max {_EACH} (dopd_demand_requests_per_second))", unit="reqps", width=4),
        _where("Load unknown", "Resources whose load can not be read.", "MetricsAvailable", 0),
        _where("At a bound", "Resources that need more than their bounds allow.", "BudgetLimited", 1),
    ):  # fmt: skip
        made.with_panel(panel)
    made.with_panel(
        rows(
            "By resource",
            "Late: in the last hour. Burn: late requests over those that spec.slo.attainment allows.",
            24,
            (f"max {_EACH} (dopd_condition{{type='Ready'}})", "ready"),
            (_serving("prefill"), "P"),
            (_serving("decode"), "D"),
            (f"sum {_EACH} (max by (namespace, inference, role) (dopd_gpus))", "GPUs"),
            (f"max {_EACH} (dopd_demand_requests_per_second)", "requests/s"),
            (_LATE, "late %"),
            (f"max {_EACH} (dopd_objective_attainment)", "objective %"),
            (_BURN, "burn"),
        )
    )
    made.with_row(dashboards.Row("Over time"))
    gpus = (f"sum {_EACH} (max by (namespace, inference, role) (dopd_gpus))", _NAME)
    made.with_panel(lines("GPUs by resource", "In whatever state.", 12, gpus, stacked=True))
    budget = ("vector(1)", "budget")
    burning = "Late requests of the last hour over those that are allowed."
    made.with_panel(lines("Burn of the error budget", burning, 12, (_BURN, _NAME), budget, limits=["budget"]))
    demand = (f"max {_EACH} (dopd_demand_requests_per_second)", _NAME)
    made.with_panel(lines("Requests by resource", "As observed.", 12, demand, unit="reqps"))
    factor = ("max by (namespace, inference, role) (dopd_profile_correction)", _NAME + " {{role}}")
    profiled = ("vector(1)", "as profiled")
    fits = "Measured over profiled time of the engines."
    made.with_panel(lines("Engines and profiles", fits, 12, factor, profiled, limits=["as profiled"]))
    return written(made)
