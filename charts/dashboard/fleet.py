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
    _pools(made)
    return written(made)


def _pools(made: dashboards.Dashboard) -> None:
    """Who has the GPUs of a GpuPool. Operators that share one each show the whole of it."""
    made.with_row(dashboards.Row("GPU pools"))

    def of(state: str) -> str:
        return f'max by (pool, type) (dopd_pool_gpus{{state="{state}"}})'

    states = ("cap", "guaranteed", "wanted", "granted", "held")
    denied = (f"max by (pool) (dopd_pool_denied_members) + on (pool) group_right() (0 * {of('cap')})", "denied members")
    made.with_panel(
        rows(
            "By pool",
            "GPUs by type. Granted: what members may hold. Denied: members of the pool that get fewer than they want.",
            12,
            *((of(state), state) for state in states),
            denied,
        )
    )
    cap = ("vector(1)", "cap")
    used = tuple((f"{of(state)} / ({of('cap')} > 0)", "{{pool}} {{type}} " + state) for state in ("held", "wanted"))
    share = "GPUs that members hold and want, over the cap."
    made.with_panel(lines("Pools and their caps", share, 12, *used, cap, unit="percentunit", limits=["cap"]))
    workers = "max by (namespace, inference, pool, role) (dopd_pool_denied_workers) > 0"
    made.with_panel(
        lines("Workers denied by a pool", "Wanted and not given.", 12, (workers, _NAME + " {{role}}, {{pool}}"))
    )
    lacking = "max by (namespace, inference, pool, type) (dopd_pool_lacking_guaranteed_gpus)"
    told = "GPUs that a resource wants and is guaranteed, and that others drain still: for as long as a drain takes."
    made.with_panel(lines("Guarantees not met yet", told, 12, (lacking, _NAME + " {{type}}, {{pool}}")))
