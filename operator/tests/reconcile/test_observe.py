"""The look at a cluster: who is asked for what."""

import copy
from typing import Any

import pytest

from dopd.cluster import kinds
from dopd.cluster.podhttp import PodHttpError
from dopd.reconcile.observe import observe
from dopd.reconcile.queue import Key
from dopd.telemetry.prompt_order import PromptOrderReader

from .test_conditions import ALL_WELL, SPEC, pod


class Cluster:
    """A namespace with some pods and nothing else."""

    def __init__(self, *pods: dict[str, Any]) -> None:
        self.pods = list(pods)

    async def list(
        self, kind: kinds.Kind, namespace: str, selector: str, most: int | None = None
    ) -> list[dict[str, Any]]:
        return self.pods if kind is kinds.POD else []

    async def get(self, kind: kinds.Kind, namespace: str, name: str) -> None:
        return None


class Http:
    """Pods that tell nothing; who was asked for its metrics is kept."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def get_json(self, *_: Any) -> Any:
        raise PodHttpError("no answer")

    async def get_text(self, pod: dict[str, Any], port: int, path: str) -> str:
        self.asked.append(pod["metadata"]["name"])
        return "dopd_prefill_order_active 1\n"


@pytest.mark.parametrize(
    ("scheduling", "asked"), [({}, ["m-prefill-x"]), ({"policy": "EngineDefault"}, []), ({"policy": "Nonsense"}, [])]
)
async def test_ready_prefill_workers_are_asked_for_their_order_where_one_is_wanted(
    scheduling: dict[str, Any], asked: list[str]
):
    starting = pod("prefill", ready=False)
    starting["metadata"]["name"] = "m-prefill-y"
    pods = [*copy.deepcopy(ALL_WELL), starting]
    for one in pods:
        pool = one["metadata"]["labels"]["dopd.dev/pool"]
        made_by = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"m-{pool}-5d", "controller": True}
        one["metadata"] |= {"uid": one["metadata"]["name"], "ownerReferences": [made_by]}
    stranger = copy.deepcopy(pods[0])
    stranger["metadata"] |= {"name": "m-prefill-z", "uid": "z", "ownerReferences": []}
    pods.append(stranger)
    http = Http()
    meta = {"name": "m", "namespace": "ns", "uid": "u"}
    resource = {"metadata": meta, "spec": {**SPEC, "scheduling": scheduling}}
    reader = PromptOrderReader(http, lambda: 0.0)  # type: ignore[arg-type]
    observed = await observe(Cluster(*pods), http, reader, Key("ns", "m"), resource)  # type: ignore[arg-type]
    assert http.asked == asked
    assert list(observed.orders) == asked
