"""Starts as the pods tell them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from dopd.reconcile.leadtimes import lead_seconds

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def pod(seconds: float | None, restarts: int = 0) -> dict[str, Any]:
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": BEGAN.isoformat()}
    conditions = [scheduled]
    if seconds is not None:
        ready = (BEGAN + timedelta(seconds=seconds)).isoformat()
        conditions.append({"type": "Ready", "status": "True", "lastTransitionTime": ready})
    return {"status": {"conditions": conditions, "containerStatuses": [{"restartCount": restarts}]}}


def test_few_starts_leave_the_profiles_figure():
    assert lead_seconds([pod(10.0), pod(12.0), pod(None)], 60.0) == 60.0


def test_the_slow_starts_count():
    assert 90.0 <= lead_seconds([pod(10.0 * i) for i in range(1, 11)], 60.0) <= 100.0


def test_a_pod_whose_container_restarted_tells_nothing_about_a_start():
    starts = [pod(10.0), pod(10.0), pod(10.0), pod(5000.0, restarts=1)]
    assert lead_seconds(starts, 60.0) == 10.0
