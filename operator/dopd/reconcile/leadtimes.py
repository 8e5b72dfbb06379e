"""How long a worker takes until it serves, as measured on this cluster. Pure.

The forecast must look as far ahead as a start takes, and only the cluster itself knows that: images, weights on
disk or not, graph capture. Each pod tells its own start by the times of its conditions, so nothing has to be
remembered.
"""

from collections.abc import Sequence
from statistics import median, quantiles
from typing import Any

from dopd.reconcile.pods import epoch_seconds

ENOUGH_STARTS = 3
"""With fewer measured starts the profile's figure stands."""
BEYOND_USUAL = 10.0
"""A start that took so many times as long as the others, and as the profile expects, met a clock that was set."""
LONGEST_START_SECONDS = 6 * 3600.0
"""The times are those of wall clocks: what is longer than any start, or below zero, tells of one that was set."""


def lead_seconds(pods: Sequence[dict[str, Any]], expected_seconds: float) -> float:
    """P90 of scheduled to ready over the pods of a role, or what the profile expects.

    A restart of a container makes a pod ready anew much later: such a pod tells nothing about a start.
    """
    starts = [seconds for pod in pods if (seconds := _start_seconds(pod)) is not None]
    if len(starts) < ENOUGH_STARTS:
        return expected_seconds
    usual = BEYOND_USUAL * max(median(starts), expected_seconds)
    starts = [seconds for seconds in starts if seconds <= usual]
    return quantiles(starts, n=10, method="inclusive")[-1]


def _start_seconds(pod: dict[str, Any]) -> float | None:
    status = pod.get("status", {})
    times = {
        c["type"]: c["lastTransitionTime"]
        for c in status.get("conditions", [])
        if c["status"] == "True" and c["type"] in ("PodScheduled", "Ready") and c.get("lastTransitionTime")
    }
    restarted = any(c.get("restartCount", 0) for c in status.get("containerStatuses", []))
    if len(times) < 2 or restarted:
        return None
    took = epoch_seconds(times["Ready"]) - epoch_seconds(times["PodScheduled"])
    return took if 0 <= took <= LONGEST_START_SECONDS else None
