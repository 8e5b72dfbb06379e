"""Gateway pods as the reading of the load needs them: which ones must be scraped, and since when they count. Pure."""

from collections.abc import Sequence

from dopd.reconcile import pods as pod_reading
from dopd.reconcile.pods import Pod
from dopd.telemetry.present import Gateway


def serving_gateways(pods: Sequence[Pod]) -> list[Gateway]:
    """The gateways among pods that are ready, with the time at which their counters began."""
    return [
        Gateway(pod["metadata"]["name"], address, pod_reading.epoch_seconds(started))
        for pod in pods
        if pod_reading.ready(pod) and (address := pod.get("status", {}).get("podIP")) and (started := _started(pod))
    ]


def _started(pod: Pod) -> str | None:
    """When its newest container started, else the pod."""
    status = pod.get("status", {})
    running = [c.get("state", {}).get("running", {}).get("startedAt") for c in status.get("containerStatuses", [])]
    started: str | None = max(filter(None, running), default=status.get("startTime"))
    return started
