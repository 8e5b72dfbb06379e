"""The figures as a Markdown table, with how each grows. Pure."""

from collections.abc import Sequence

from e2e.scale.measure import Figures
from e2e.scale.sizes import exponent

ROWS = {
    "CPU of a period, s": "cpu_seconds_of_period",
    "of it the event loop, s": "main_cpu_seconds_of_period",
    "of it a kopf operator that does nothing, s": "floor_cpu_seconds_of_period",
    "CPU of the forecasts in a period, s": "forecast_cpu_seconds_of_period",
    "memory, MiB": "memory_mib",
    "of it a kopf operator that does nothing, MiB": "floor_memory_mib",
    "memory of the forecasts, MiB": "forecast_memory_mib",
    "passes in a period": "passes_of_period",
    "requests to gateways and engines in a period": "engine_requests_of_period",
    "Prometheus queries in a period": "prometheus_queries_of_period",
    "API reads in a period": "reads_of_period",
    "API writes in a period": "writes_of_period",
    "created: API writes for each": "create_writes",
    "created: API reads for each": "create_reads",
    "created: CPU for each, s": "create_cpu_seconds",
    "created: p99 of an apply, 100 at a time, s": "create_apply_p99_seconds",
    "all changed: API writes for each": "change_writes",
    "all changed: API reads for each": "change_reads",
    "all changed: CPU for each, s": "change_cpu_seconds",
}


def table(found: Sequence[Figures]) -> str:
    """One column for each size, and the exponent of the growth with the number of resources."""
    heads = [f"{one.resources} resources, {one.workers} workers" for one in found]
    lines = [f"| | {' | '.join(heads)} | exponent |", "|---|" + "---|" * (len(found) + 1)]
    for words, name in ROWS.items():
        values = [float(getattr(one, name)) for one in found]
        power = exponent([one.resources for one in found], values)
        shown = "" if power is None else f"{power:.2f}"
        lines.append(f"| {words} | {' | '.join(f'{value:.3g}' for value in values)} | {shown} |")
    return "\n".join(lines) + "\n"
