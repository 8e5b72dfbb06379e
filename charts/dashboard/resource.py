"""The dashboard of one resource: load, forecast, plan, workers, latency, and how far it is to be believed."""

from grafana_foundation_sdk.builders import dashboard as dashboards

from charts.dashboard.parts import board, choice, lines, marks, number, written, yes_no

_ONE = 'namespace="$namespace", inference="$inference"'
_ENGINE = 'namespace="$namespace", dopd_dev_instance="$inference"'
_STREAMED = f'{_ENGINE}, dopd_dev_pool="decode", is_streaming!="false"'
_ROW = dashboards.Row


def _own(name: str, more: str = "") -> str:
    return f"dopd_{name}{{{_ONE}{more}}}"


def _either(expr: str) -> str:
    """A query of engines: Prometheus before 3 has `sglang_x` where it is `sglang:x` now."""
    return f"{expr.replace('SGLANG', 'sglang:')} or {expr.replace('SGLANG', 'sglang_')}"


def _quantiles(name: str) -> list[tuple[str, str]]:
    bucket = f"sum by (le) (rate(SGLANG{name}_bucket{{{_STREAMED}}}[$__rate_interval]))"
    return [(_either(f"histogram_quantile({q}, {bucket})"), f"p{100 * q:.0f}") for q in (0.5, 0.9, 0.99)]


def text() -> str:
    """The JSON of the dashboard."""
    made = board(
        "dopd",
        "dopd",
        "Workers of one DisaggregatedInference: the load, the forecast, the plan, and what became of it.",
        refresh="10s",
    )
    made.with_variable(choice("namespace", "Namespace", "label_values(dopd_workers, namespace)"))
    made.with_variable(
        choice("inference", "Inference", 'label_values(dopd_workers{namespace="$namespace"}, inference)')
    )
    for part in (_glance, _load, _workers, _latency, _engines, _order, _cost, _belief, _operator):
        part(made)
    changed = f"sum by (role) (changes({_own('target_workers')}[1m])) > 0"
    return written(made, [marks("Decisions", changed, "new target of {{role}}", "#5794f2")])


def _glance(made: dashboards.Dashboard) -> None:
    serving = _own("workers", ', role="ROLE", state="serving"')
    ratio = f"{serving.replace('ROLE', 'prefill')} / ignoring(role) {serving.replace('ROLE', 'decode')}"
    made.with_row(_ROW("At a glance"))
    made.with_panel(
        yes_no("Ready", "Requests are served (condition Ready).", _own("condition", ', type="Ready"'), width=2)
    )
    available = "The load can be read (condition MetricsAvailable). While it can not, the last target is held."
    made.with_panel(yes_no("Metrics available", available, _own("condition", ', type="MetricsAvailable"'), width=2))
    trusted = "Plans rest on the forecast; else on the load as observed."
    made.with_panel(yes_no("Forecast trusted", trusted, _own("forecast_trusted"), width=2))
    feasible = "Some number of workers meets the objectives."
    made.with_panel(yes_no("Objectives feasible", feasible, f"1 - {_own('objectives_infeasible')}", width=2))
    made.with_panel(number("P : D", "Prefill to decode workers that serve.", ratio, width=2))
    held = "GPUs that workers hold, draining ones included."
    made.with_panel(number("GPUs", held, f"sum({_own('gpus')})", width=2))
    hours = f"sum(avg_over_time({_own('gpus')}[$__range])) * $__range_s / 3600"
    made.with_panel(number("GPU-hours", "Of the time that is shown.", hours, width=2))
    late = "Share of recent requests that missed an objective."
    made.with_panel(number("Late", late, _own("late_share"), unit="percentunit", width=2))
    reason = "Why the latest plan asks for what it asks for."
    made.with_panel(
        number("Latest reason", reason, f"{_own('decision_reason')} == 1", legend="{{reason}}", names=True, width=3)
    )
    bound = "Bounds that keep the latest plan from what the load needs."
    made.with_panel(
        number(
            "Limited by", bound, f"{_own('limited_by')} == 1", legend="{{bound}}", names=True, empty="nothing", width=2
        )
    )
    wrong = "Conditions with a reason other than AsExpected."
    found = _own("condition_reason", ', reason!="AsExpected"')
    made.with_panel(
        number("Not as expected", wrong, found, legend="{{type}}: {{reason}}", names=True, empty="nothing", width=3)
    )


def _load(made: dashboards.Dashboard) -> None:
    made.with_row(_ROW("Load"))
    made.with_panel(
        lines(
            "Request rate",
            "Arrivals at the gateway, what the forecast had promised for this moment, and what is planned for.",
            12,
            (_own("demand_requests_per_second"), "arrivals"),
            (_own("forecast_for_now_requests_per_second", ', role="decode"'), "forecast a lead time ago"),
            (_own("planned_requests_per_second"), "planned for {{role}}"),
            (_own("not_streamed_requests_per_second"), "not streamed"),
            unit="reqps",
        )
    )
    ahead = "Arrivals expected at the lead time of each role; none while no forecast is trusted."
    made.with_panel(lines("Forecast", ahead, 6, (_own("forecast_requests_per_second"), "{{role}}"), unit="reqps"))
    lengths = "Mean lengths of prompts and answers."
    made.with_panel(lines("Tokens of a request", lengths, 6, (_own("demand_tokens"), "{{side}}")))


def _workers(made: dashboards.Dashboard) -> None:
    made.with_row(_ROW("Workers"))
    for role in ("prefill", "decode"):
        one = f', role="{role}"'
        made.with_panel(
            lines(
                f"{role.capitalize()} workers",
                "Target of the latest plan, what the load needs before any bound, what its peak within the lead needs,"
                " and the workers by state.",
                7,
                (_own("target_workers", one), "target"),
                (_own("workers", one), "{{state}}"),
                (_own("needed_workers", one), "needed"),
                (_own("weighed_workers", f'{one}, load="peak"'), "for the peak"),
            )
        )
    made.with_panel(lines("GPUs held", "In whatever state.", 3, (_own("gpus"), "{{role}}"), stacked=True))
    role = "From the loss of a worker's label until it serves in the other role; and such changes, by outcome."
    changed = f"sum by (outcome) (increase({_own('role_changes_total')}[$__rate_interval]))"
    seconds = (_own("role_change_seconds"), "seconds to {{role}}")
    made.with_panel(lines("Role changes", role, 4, seconds, (changed, "{{outcome}}")))
    reasons = f"sum by (reason) (increase({_own('decisions_total')}[$__rate_interval]))"
    made.with_panel(lines("Changes", "Plans that changed the target, by reason.", 3, (reasons, "{{reason}}")))


def _latency(made: dashboards.Dashboard) -> None:
    made.with_row(_ROW("Latency"))
    for title, explained, name, latency in (
        (
            "Time to first token",
            "At the decode workers: prefill queue, prefill and transfer included.",
            "time_to_first_token_seconds",
            "ttft",
        ),
        ("Time between tokens", "Mean of each request.", "request_time_per_output_token_seconds", "itl"),
    ):
        goal = (_own("objective_seconds", f', latency="{latency}"'), "objective")
        made.with_panel(lines(title, explained, 7, *_quantiles(name), goal, unit="s", limits=["objective"]))
    made.with_panel(
        lines(
            "Attainment",
            "Share of requests that met both objectives, what the plan expects, and what spec.slo asks for.",
            6,
            (f"1 - {_own('late_share')}", "on time"),
            (_own("expected_attainment"), "expected"),
            (_own("objective_attainment"), "objective"),
            unit="percentunit",
            limits=["objective"],
            top=1,
            from_zero=False,
        )
    )
    dared = (
        "Share of lead times in which the load may exceed what is held. Late requests lower it at once, calm raises it."
    )
    made.with_panel(lines("Miss share", dared, 4, (_own("miss_share"), "may be missed"), unit="percentunit"))


def _engines(made: dashboards.Dashboard) -> None:
    made.with_row(_ROW("Engines"))
    by_pod = "sum by (pod) (SGLANG%s{" + _ENGINE + ', dopd_dev_pool="%s"})'
    for title, explained, width, name, pool, unit in (
        ("Prompts that wait", "Of each prefill worker: all should be alike.", 6, "num_queue_reqs", "prefill", "short"),
        ("Answers that run", "Of each decode worker.", 6, "num_running_reqs", "decode", "short"),
        ("Answers that wait", "For room in each decode worker.", 6, "num_queue_reqs", "decode", "short"),
        ("KV cache", "Share that is taken, of each decode worker.", 6, "token_usage", "decode", "percentunit"),
    ):  # fmt: skip
        query = (_either(by_pod % (name, pool)), "{{pod}}")
        made.with_panel(lines(title, explained, width, query, unit=unit, top=1 if unit == "percentunit" else None))


def _order(made: dashboards.Dashboard) -> None:
    pool = f'{_ENGINE}, dopd_dev_pool="prefill"'

    def rate(name: str, by: str = "") -> str:
        return f"sum{by} (rate(dopd_prefill_{name}{{{pool}}}[$__rate_interval]))"

    made.with_row(_ROW("Order of prompts"))
    asked = "Prefill workers compute prompts in the order of spec.scheduling (condition SchedulingActive)."
    made.with_panel(yes_no("In the order asked for", asked, _own("condition", ', type="SchedulingActive"'), width=4))
    late, every = rate("late_prompts_total", " by (length)"), rate("prompts_total", " by (length)")
    short = (
        "Share of prompts whose prefill ended after the objective, short and long (below and above the predicted mean)."
    )
    made.with_panel(lines("Late prompts", short, 4, (f"{late} / ({every} > 0)", "{{length}}"), unit="percentunit"))
    wait = f"histogram_quantile(0.9, {rate('wait_seconds_bucket', ' by (length, le)')})"
    began = "From arrival until prefill began, for short and long prompts."
    made.with_panel(lines("Wait for prefill, P90", began, 4, (wait, "{{length}}"), unit="s"))
    passed = "Prompts a second that began before one that came earlier; and prompts of which a part is computed now."
    unfinished = f"sum(dopd_prefill_unfinished_prompts{{{pool}}})"
    made.with_panel(lines("Passed by", passed, 4, (rate("overtakings_total"), "passed by"), (unfinished, "unfinished")))
    refused = f"sum(increase(dopd_prefill_refused_prompts_total{{{pool}}}[$__rate_interval]))"
    back = f"sum by (reason) (increase(dopd_prefill_order_fallbacks_total{{{pool}}}[$__rate_interval]))"
    given = "Prompts refused since they could not be on time any more; and times that the order was left to the engine."
    made.with_panel(lines("Refused and given back", given, 4, (refused, "refused"), (back, "given back: {{reason}}")))
    batch = "Requests without a deadline, and their tokens, that prefill computed a second (spec.scheduling.batch)."
    counted = (rate("batch_prompts_total"), "prompts"), (rate("batch_tokens_total"), "tokens")
    made.with_panel(lines("Batch", batch, 4, *counted))


def _cost(made: dashboards.Dashboard) -> None:
    made.with_row(_ROW("What others would have used"))
    replayed = "Of the replayed window, on the same arrivals: used is measured, the others are replayed once an hour "
    replayed += "(counterfactual.enabled of the chart). The knobs of static and hpa are chosen with hindsight."
    hours = (_own("counterfactual_gpu_hours"), "{{policy}}")
    made.with_panel(lines("GPU-hours by policy", replayed, 10, hours))
    late = "Share of the requests that would have met both objectives, by replayed policy."
    attained = (_own("counterfactual_attainment"), "{{policy}}")
    goal = (_own("objective_attainment"), "objective")
    limits = ["objective"]
    made.with_panel(
        lines("On time by policy", late, 8, attained, goal, unit="percentunit", limits=limits, top=1, from_zero=False)
    )
    used = _own("counterfactual_gpu_hours", ', policy="used"')
    best = _own("counterfactual_gpu_hours", ', policy="hpa"')
    told = "GPU-hours used over those of the best HPA; below 1 is cheaper."
    made.with_panel(number("Used over HPA", told, f"{used} / ignoring(policy) {best}", empty="not replayed", width=3))
    window = "How much of the past was replayed; less than asked for where it held too many requests."
    made.with_panel(
        number("Window", window, _own("counterfactual_window_seconds"), unit="s", empty="not replayed", width=3)
    )


def _belief(made: dashboards.Dashboard) -> None:
    made.with_row(_ROW("Is it to be believed"))
    below = "Mean absolute error relative to that of the last value: below 1 the forecast helps."
    error = (_own("forecast_error_vs_last_value"), "error")
    made.with_panel(lines("Forecast error", below, 6, error, ("vector(1)", "last value"), limits=["last value"]))
    under = "Share of recent loads under the 90 % quantile."
    coverage = (_own("forecast_coverage_90"), "covered")
    made.with_panel(
        lines("Coverage", under, 6, coverage, ("vector(0.9)", "promised"), unit="percentunit", limits=["promised"])
    )
    lead = "From the decision for a new worker until it serves, P90: how far ahead is planned."
    parts = (_own("lead_part_seconds"), "{{role}} {{part}}")
    made.with_panel(lines("Lead time", lead, 6, (_own("lead_seconds"), "{{role}}"), parts, unit="s"))
    factor = (_own("profile_correction"), "{{role}}")
    fits = "Measured over profiled time; 1 while unknown."
    made.with_panel(
        lines("Engines against their profile", fits, 6, factor, ("vector(1)", "as profiled"), limits=["as profiled"])
    )


def _operator(made: dashboards.Dashboard) -> None:
    made.with_row(_ROW("Operator"))
    passes = ("sum by (outcome) (rate(dopd_reconciles_total[$__rate_interval]))", "{{outcome}}")
    made.with_panel(lines("Passes", "Passes over resources, by outcome.", 8, passes, unit="ops"))
    stage = "histogram_quantile(0.9, sum by (le, stage) (rate(dopd_stage_seconds_bucket[$__rate_interval])))"
    made.with_panel(lines("Time per stage", "P90 over all resources.", 8, (stage, "{{stage}}"), unit="s"))
    made.with_panel(lines("Active instances", "Must be one; with shards, each pod.", 8, ("sum(dopd_leader)", "active")))
