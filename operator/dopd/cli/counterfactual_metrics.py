"""Metrics of `dopd counterfactual`, labelled as the operator's are. Names and labels are an interface."""

from prometheus_client import Counter, Gauge

from dopd.reconcile.queue import Key
from dopd.replay.counterfactual import WouldHave

GPU_HOURS = Gauge(
    "dopd_counterfactual_gpu_hours",
    "GPU-hours of the window on the same arrivals, by policy: used (what workers held, measured); and, replayed, dopd,"
    " static (the cheapest fixed counts), hpa (with its best targets), hindsight (the load known in advance).",
    ["namespace", "inference", "policy"],
)
ATTAINMENT = Gauge(
    "dopd_counterfactual_attainment",
    "Share of the requests that would have met both objectives, by replayed policy.",
    ["namespace", "inference", "policy"],
)
WINDOW = Gauge(
    "dopd_counterfactual_window_seconds",
    "How much of the past was replayed: less than was asked for where that held too many requests.",
    ["namespace", "inference"],
)
REQUESTS = Gauge("dopd_counterfactual_requests", "Requests that were replayed.", ["namespace", "inference"])
END = Gauge(
    "dopd_counterfactual_end_timestamp_seconds", "End of that window, since the epoch.", ["namespace", "inference"]
)
SECONDS = Gauge("dopd_counterfactual_seconds", "How long the replays took.", ["namespace", "inference"])
FAILURES = Counter(
    "dopd_counterfactual_failures_total",
    "Replays that came to nothing: history not read, no profile, too long or too large.",
    ["namespace", "inference"],
)
GAUGES = (GPU_HOURS, ATTAINMENT, WINDOW, REQUESTS, END, SECONDS)


def told(key: Key, policy: str, found: WouldHave) -> None:
    """Set the gauges of a policy."""
    GPU_HOURS.labels(*key, policy).set(found.gpu_hours)
    ATTAINMENT.labels(*key, policy).set(found.attainment)
    REQUESTS.labels(*key).set(found.requests)


def forget(key: Key) -> None:
    """Drop the gauges of a resource, so that nobody reads an old window as the newest."""
    for gauge in GAUGES:
        gauge.remove_by_labels({"namespace": key.namespace, "inference": key.name})
