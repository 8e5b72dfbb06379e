"""How long the stages of a pass take, for the operator's metrics."""

from prometheus_client import Histogram

STAGE_SECONDS = Histogram(
    "dopd_stage_seconds",
    "Duration of one stage of the loop: observe, telemetry, forecast, plan, act, report.",
    ["stage"],
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
