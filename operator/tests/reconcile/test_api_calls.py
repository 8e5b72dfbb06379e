"""What a pass asks of the API server: a field that a resource does not use costs it no call."""

from typing import Any

import pytest

from dopd.cluster import kinds
from dopd.reconcile.reconciler import Reconciler

from .test_conditions import SPEC
from .test_pass import KEY, Clock, Cluster, reconciler

Json = dict[str, Any]
LIST = ("list", kinds.WORKER_SCALE.kind, "")
SCALED = {
    **{name: value for name, value in SPEC.items() if name not in ("prefill", "decode")},
    "prefill": {"gpus": 1},
    "decode": {"gpus": 1},
}
LIMITS = {"prefill": {"min": 1, "max": 2}, "decode": {"min": 1, "max": 2}, "gpuBudget": {"max": 4}}


def with_mode(mode: str) -> Json:
    profile = {} if mode == "External" else {"profileRef": {"name": "p"}}
    return {**SCALED, "slo": {"ttftSeconds": 1, "itlSeconds": 0.1}, "scaling": {"mode": mode, **LIMITS, **profile}}


async def asked(passes: Reconciler, cluster: Cluster) -> list[tuple[str, str, str]]:
    """The calls of one pass."""
    cluster.sent.clear()
    await passes.reconcile(KEY)
    return list(cluster.sent)


@pytest.mark.parametrize("spec", [SPEC, with_mode("Auto"), with_mode("Paused")], ids=["static", "Auto", "Paused"])
async def test_worker_scales_are_looked_for_once_where_no_scaler_decides(spec: Json):
    cluster = Cluster()
    cluster.resource["spec"] = spec
    passes = reconciler(cluster, Clock())
    first = await asked(passes, cluster)
    assert first.count(LIST) == 1, "an operator that begins does not know what was before"
    later = [await asked(passes, cluster) for _ in range(3)]
    assert not any(kind == kinds.WORKER_SCALE.kind for calls in later for _, kind, _ in calls)
    lists = [{kind for verb, kind, _ in calls if verb == "list"} for calls in (first, later[-1])]
    assert lists[0] - lists[1] == {kinds.WORKER_SCALE.kind}, "all else is looked at each time"


async def test_a_scaler_s_worker_scales_are_looked_at_each_time_and_until_they_are_gone():
    cluster = Cluster()
    cluster.resource["spec"] = with_mode("External")
    passes = reconciler(cluster, Clock())
    assert [(await asked(passes, cluster)).count(LIST) for _ in range(3)] == [1, 1, 1]
    assert {name for kind, name in cluster.kept if kind == kinds.WORKER_SCALE.kind} == {"m-prefill", "m-decode"}

    cluster.resource["spec"] = with_mode("Paused")
    calls = await asked(passes, cluster)
    assert calls.count(LIST) == 1
    deleted = {name for verb, kind, name in calls if (verb, kind) == ("delete", kinds.WORKER_SCALE.kind)}
    assert deleted == {"m-prefill", "m-decode"}
    assert LIST in await asked(passes, cluster), "they might be there still"
    assert LIST not in await asked(passes, cluster)
