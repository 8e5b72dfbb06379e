"""What `dopd doctor` says of GpuPools and of the resources that name them."""

from typing import Any

import pytest

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.cluster import ApiError
from dopd.reconcile import pool_selfcheck
from dopd.reconcile.pool_selfcheck import check_pools
from dopd.reconcile.queue import Key
from dopd.telemetry.selfcheck import Verdict

Json = dict[str, Any]
POOL: Json = {
    "gpuTypes": [{"name": "h100", "gpus": 8}],
    "members": [{"namespace": "a", "guaranteed": {"h100": 4}}, {"namespace": "b", "max": {"h100": 6}}],
}
BOUNDS = {"prefill": {"min": 1, "max": 9}, "decode": {"min": 1, "max": 9}, "profileRef": {"name": "p"}}


def resource(namespace: str = "a", *, gpus: int = 1, **spec: Any) -> tuple[Key, DisaggregatedInferenceSpec]:
    static = {} if "scaling" in spec else {"replicas": 1}
    roles = {role: {"gpus": gpus, **static, **spec.pop(role, {})} for role in ("prefill", "decode")}
    rest = {"model": "m", "engine": {"image": "i"}, "router": {"image": "r"}, "gpuPool": {"name": "p"}}
    return Key(namespace, "m"), DisaggregatedInferenceSpec.model_validate({**rest, **roles, **spec})


class Api:
    """An API server with one pool, or none; counts what is read."""

    def __init__(self, spec: Json | None, error: ApiError | None = None) -> None:
        self.spec, self.error, self.reads = spec, error, 0

    async def get(self, *_: Any) -> Json | None:
        self.reads += 1
        if self.error:
            raise self.error
        return {"metadata": {"name": "p"}, "spec": self.spec} if self.spec is not None else None


async def checks(api: Api, *resources: tuple[Key, DisaggregatedInferenceSpec]) -> dict[str, str]:
    """Lines by subject, with the verdict."""
    found = [check async for check in check_pools(api, resources)]  # type: ignore[arg-type]
    assert len({(check.subject, check.name) for check in found}) == len(found)
    assert all(check.expected and check.fix for check in found if check.failed)
    return {check.subject: f"{check.verdict} {check}" for check in found}


async def test_a_pool_that_fits_its_members_is_well_and_read_once():
    api = Api(POOL)
    found = await checks(api, resource("a"), resource("b", gpus=2))
    assert found["GpuPool p"].startswith("OK GpuPool p: pool: 8 h100 GPUs of which 4 are guaranteed; 2 entries")
    assert found["a/m"].startswith("OK") and found["b/m"].startswith("OK")  # noqa: PT018
    assert api.reads == 1


async def test_without_a_pool_nothing_is_read():
    api = Api(POOL)
    assert await checks(api) == {}
    assert api.reads == 0


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        (None, "there is none of that name; named by a/m"),
        ({**POOL, "members": [{"namespace": "a"}, {"namespace": "a"}]}, "members: a/ named twice"),
        ({**POOL, "members": [{"namespace": "a", "name": "m"}] * 2}, "members: a/m named twice"),
        (
            {**POOL, "members": [{"namespace": n, "guaranteed": {"h100": 5}} for n in ("a", "b")]},
            "guarantees: they add up to 10 h100 GPUs of 8",
        ),
        ({"gpuTypes": "many"}, "gpuTypes"),
    ],
)
async def test_what_is_wrong_with_a_pool_is_named(pool: Json | None, words: str):
    found = (await checks(Api(pool), resource()))["GpuPool p"]
    assert found.startswith("FAIL")
    assert words in found


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (resource("c"), "no entry is about it or its namespace"),
        (resource("a", prefill={"gpuResource": "amd.com/gpu"}), "prefill workers ask for amd.com/gpu"),
        (
            resource("b", gpus=4),
            "replicas of both roles take 8 h100 GPUs, so not all of them start, expected at most 6",
        ),
        (resource("b", gpus=4, scaling=BOUNDS), "so nothing starts, expected at most 6 h100 GPUs. Lower them"),
        (resource("a", scaling={**BOUNDS, "gpuBudget": {"max": 9}}), "gpuBudget.max is 9, more than the pool ever"),
        (resource("b", scaling={**BOUNDS, "gpuBudget": {"max": 7}}), "expected at most 6 h100 GPUs"),
    ],
)
async def test_what_keeps_a_resource_from_gpus_is_named(one: tuple[Key, DisaggregatedInferenceSpec], words: str):
    found = await checks(Api(POOL), one)
    assert found["GpuPool p"].startswith("OK")
    assert found[str(one[0])].startswith("FAIL")
    assert words in found[str(one[0])]


async def test_a_budget_within_two_types_of_gpu_fits():
    types = [{"name": "h100", "gpus": 8}, {"name": "amd", "resourceName": "amd.com/gpu", "gpus": 8}]
    pool = {**POOL, "gpuTypes": types}
    scaling = {**BOUNDS, "gpuBudget": {"max": 14}}
    found = await checks(Api(pool), resource("b", decode={"gpuResource": "amd.com/gpu"}, scaling=scaling))
    assert found["b/m"].startswith("OK"), found


@pytest.mark.parametrize(("inside", "verdict"), [(True, Verdict.FAIL), (False, Verdict.SKIPPED)])
async def test_rights_that_are_missing_are_the_operators_or_ones_own(
    monkeypatch: pytest.MonkeyPatch, inside: bool, verdict: Verdict
):
    monkeypatch.setattr(pool_selfcheck, "in_cluster", lambda: inside)
    found = (await checks(Api(None, ApiError(403, "Forbidden", "may not get")), resource()))["GpuPool p"]
    assert found.startswith(str(verdict))
