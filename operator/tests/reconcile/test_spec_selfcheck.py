"""What `dopd doctor` says of workers of several nodes, of domains and of a batch."""

from typing import Any

import pytest

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.cluster import ApiError
from dopd.reconcile.queue import Key
from dopd.reconcile.spec_selfcheck import check_fields
from dopd.telemetry.selfcheck import Check, Verdict

BOUNDS = {"prefill": {"min": 1, "max": 4}, "decode": {"min": 1, "max": 4}, "profileRef": {"name": "p"}}
KEY = "topology.kubernetes.io/rack"


def spec(
    *gpus: int, scaling: dict[str, Any] | None = None, nodes: int = 1, **others: Any
) -> DisaggregatedInferenceSpec:
    static = {} if scaling else {"replicas": 2}
    one_each = gpus or (1,)
    roles = {
        role: {"gpus": one_each[at % len(one_each)], **static, **({"nodes": nodes} if nodes > 1 else {})}
        for at, role in enumerate(("prefill", "decode"))
    }
    rest: dict[str, Any] = {"model": "m", "engine": {"image": "i"}, "router": {"image": "r"}, **roles, **others}
    return DisaggregatedInferenceSpec.model_validate({**rest, **({"scaling": scaling} if scaling else {})})


def racks(*gpus: int) -> dict[str, Any]:
    return {"domainKey": KEY, "domains": [{"name": f"rack-{n}", "gpus": of} for n, of in enumerate(gpus)]}


class Api:
    """An API server that has LeaderWorkerSets, or answers with an error."""

    def __init__(self, error: ApiError | None = None) -> None:
        self.error, self.asked = error, 0

    async def list(self, *_: Any) -> list[Any]:
        self.asked += 1
        if self.error:
            raise self.error
        return []


async def checks(of: DisaggregatedInferenceSpec, api: Api | None = None) -> list[Check]:
    return [one async for one in check_fields(api or Api(), Key("ns", "m"), of)]  # type: ignore[arg-type]


async def test_a_resource_that_uses_none_of_it_costs_nothing():
    api = Api()
    assert await checks(spec(scaling=BOUNDS), api) == []
    assert api.asked == 0


@pytest.mark.parametrize(
    ("error", "verdict", "words"),
    [
        (None, Verdict.OK, "prefill workers on 2 nodes, decode workers on 2 nodes, by LeaderWorkerSets"),
        (ApiError(404, "NotFound", "no such kind"), Verdict.FAIL, "the cluster has no LeaderWorkerSets"),
        (ApiError(403, "Forbidden", "may not list"), Verdict.SKIPPED, "are not to be read (Forbidden)"),
    ],
)
async def test_workers_of_several_nodes_need_leader_worker_sets(error: ApiError | None, verdict: Verdict, words: str):
    (found,) = await checks(spec(16, nodes=2), Api(error))
    assert found.verdict is verdict
    assert words in found.found


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (spec(8, topology=racks(8, 8)), "a prefill and a decode worker take 16 GPUs, and no domain has so many"),
        (spec(1, topology=racks(2, 1)), "replicas allow 4 GPUs, and the domains have 3 (rack-0 2, rack-1 1)"),
        (
            spec(2, scaling=BOUNDS, topology=racks(8, 7)),
            "spec.scaling.prefill.max and spec.scaling.decode.max allow 16",
        ),
        (
            spec(2, scaling={**BOUNDS, "gpuBudget": {"max": 12}}, topology=racks(8, 3)),
            "spec.scaling.gpuBudget.max allow 12 GPUs, and the domains have 11",
        ),
    ],
)
async def test_what_domains_have_no_room_for_is_named(of: DisaggregatedInferenceSpec, words: str):
    (found,) = await checks(of)
    assert found.failed
    assert words in found.found
    assert found.fix


@pytest.mark.parametrize(
    "of",
    [
        spec(1, topology=racks(2, 2)),
        spec(2, scaling=BOUNDS, topology=racks(8, 8)),
        spec(2, 4, scaling={**BOUNDS, "gpuBudget": {"max": 16}}, topology=racks(8, 8)),
    ],
)
async def test_domains_with_room_for_all_are_well(of: DisaggregatedInferenceSpec):
    (found,) = await checks(of)
    assert found.verdict is Verdict.OK
    assert "16" in found.found or "rack-1 2" in found.found


async def test_without_a_list_of_domains_there_is_nothing_to_fit():
    assert await checks(spec(8, scaling=BOUNDS, topology={"domainKey": KEY})) == []


async def test_a_share_of_a_batch_that_is_not_told_apart_has_no_effect():
    (found,) = await checks(spec(scaling={**BOUNDS, "batchShare": 0.2}))
    assert found.failed
    assert "without spec.scheduling.batch" in found.found
    assert await checks(spec(scaling={**BOUNDS, "batchShare": 0.2}, scheduling={"batch": {}})) == []
