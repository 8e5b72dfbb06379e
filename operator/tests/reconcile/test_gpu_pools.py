"""The ledger of a pool: who writes what, and what happens when it is not there or somebody else writes, too."""

import copy
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import REGISTRY

from dopd.api.conditions import ConditionReason as Reason
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import GPUS_ANNOTATION, POOL_LABEL, Role
from dopd.cluster import ApiError, kinds
from dopd.reconcile.gpu_pools import GpuPools, Want
from dopd.reconcile.grants import types_of
from dopd.reconcile.queue import Key
from dopd.workloads.groups import SET_LABEL

Json = dict[str, Any]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
POOL: Json = {
    "gpuTypes": [{"name": "h100", "gpus": 8}],
    "members": [{"namespace": "a", "priority": 10}, {"namespace": "b", "guaranteed": {"h100": 4}}],
    "holdTime": "1m",
}


class Api:
    """An API server with pools, resources and pods, as far as a turn reads and writes them."""

    def __init__(self) -> None:
        self.pools: dict[str, Json] = {}
        self.resources: dict[tuple[str, str], Json] = {}
        self.pods: list[Json] = []
        self.writes = 0
        self.before_write: Any = None
        self.error: ApiError | None = None

    def put(self, spec: Json, name: str = "p") -> None:
        self.pools[name] = {"metadata": {"name": name, "resourceVersion": "1", "generation": 1}, "spec": spec}

    async def get(self, kind: kinds.Kind, namespace: str, name: str) -> Json | None:
        if self.error:
            raise self.error
        found = self.pools.get(name) if kind is kinds.GPU_POOL else self.resources.get((namespace, name))
        return copy.deepcopy(found)

    async def list(self, kind: kinds.Kind, namespace: str | None = None, selector: str = "", *_: Any) -> list[Json]:
        if kind is kinds.POD:
            of = (namespace, selector.partition("=")[2])
            return [pod for pod in self.pods if (pod["metadata"]["namespace"], pod["of"]) == of]
        return [copy.deepcopy(r) for (where, _), r in self.resources.items() if namespace in (None, where)]

    async def update_status(self, _: kinds.Kind, read: Json, status: Json) -> Json:
        if self.before_write:
            meanwhile, self.before_write = self.before_write, None
            meanwhile()
        stored = self.pools[read["metadata"]["name"]]
        if stored["metadata"]["resourceVersion"] != read["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "the object has been modified")
        stored["metadata"]["resourceVersion"] += "1"
        stored["status"] = copy.deepcopy(status)
        self.writes += 1
        return stored

    def row(self, name: str) -> Json:
        rows = self.pools["p"].get("status", {}).get("members", [])
        return next((row for row in rows if row["name"] == name), {})


def spec_of(**roles: Json) -> DisaggregatedInferenceSpec:
    said = {role: {"gpus": 1, "replicas": 1, **roles.get(role, {})} for role in ("prefill", "decode")}
    rest = {"model": "m", "engine": {"image": "i"}, "router": {"image": "r"}, "gpuPool": {"name": "p"}}
    return DisaggregatedInferenceSpec.model_validate({**rest, **said})


def want(namespace: str, wanted: tuple[int, int], held: tuple[int, int] = (0, 0), **others: Any) -> Want:
    return Want(Key(namespace, "m"), others.pop("spec", spec_of()), wanted, (1, 1), held, **others)


@pytest.fixture
def api() -> Api:
    found = Api()
    found.put(POOL)
    return found


def operator(api: Api, *namespaces: str, clock: Any = lambda: 0.0) -> GpuPools:
    return GpuPools(api, clock, namespaces)  # type: ignore[arg-type]


async def test_what_is_granted_is_written_before_it_is_given_and_at_rest_nothing_is(api: Api):
    pools = operator(api)
    grant = await pools.turn(want("a", (2, 3)), NOW)
    assert (grant.share, dict(grant.granted), grant.reason) == ((2, 3), {"h100": 5}, Reason.AS_EXPECTED)
    assert api.row("m")["gpus"] == [{"type": "h100", "guaranteed": 0, "wanted": 5, "granted": 5, "held": 0}]
    await pools.turn(want("a", (2, 3), (2, 3)), NOW)
    writes = api.writes
    await pools.turn(want("a", (2, 3), (2, 3)), NOW)
    assert api.writes == writes


async def test_a_write_of_somebody_else_meanwhile_is_heeded(api: Api):
    """Two operators, a namespace each: the second reads anew, and the sum holds."""
    one, other = operator(api, "a"), operator(api, "b")
    await one.turn(want("a", (1, 1)), NOW)

    def meanwhile() -> None:
        status = api.pools["p"]["status"]
        status["members"][0]["gpus"][0]["granted"] = 7
        api.pools["p"]["metadata"]["resourceVersion"] += "x"

    api.before_write = meanwhile
    grant = await other.turn(want("b", (4, 4)), NOW)
    assert dict(grant.granted) == {"h100": 1}
    assert grant.reason in (Reason.HAND_OVER, Reason.POOL_LIMITED)


async def test_an_operator_that_begins_anew_goes_on_from_the_ledger(api: Api):
    await operator(api).turn(want("a", (4, 4)), NOW)
    grant = await operator(api).turn(want("b", (2, 2)), NOW)
    assert (grant.share, dict(grant.granted), grant.reason) == ((2, 2), {}, Reason.HAND_OVER)
    loser = await operator(api).turn(want("a", (4, 4), (4, 4)), NOW)
    assert (sum(loser.share), dict(loser.granted), loser.reason) == (4, {"h100": 8}, Reason.POOL_LIMITED)
    assert "b/m 4 (priority 0)" in loser.message
    await operator(api).turn(want("a", (4, 4), (2, 3)), NOW)
    grant = await operator(api).turn(want("b", (2, 2)), NOW)
    assert dict(grant.granted) == {"h100": 3}, "as its pods are gone"


@pytest.mark.parametrize("missing", [True, False])
async def test_without_a_pool_what_was_granted_last_holds(api: Api, missing: bool):
    pools = operator(api)
    last = await pools.turn(want("a", (2, 3)), NOW)
    if missing:
        del api.pools["p"]
    else:
        api.error = ApiError(0, "Unreachable", "no answer")
    grant = await pools.turn(want("a", (4, 4), (2, 3), last=last), NOW)
    assert (grant.share, dict(grant.granted)) == ((2, 3), {"h100": 5})
    assert grant.reason is (Reason.NO_POOL if missing else Reason.API_FAILED)
    less = await pools.turn(want("a", (1, 1), (2, 3), last=last), NOW)
    assert less.share == (1, 1), "what is not wanted goes all the same"
    fresh = await pools.turn(want("b", (4, 4), (1, 1)), NOW)
    assert (fresh.share, fresh.budget(None)) == ((1, 1), 2), "and where nothing was granted, what is held stays"


async def test_a_ledger_of_another_schema_is_not_used_at_all(api: Api):
    api.pools["p"]["status"] = {"members": [{"namespace": "a", "name": "m", "share": "many"}]}
    grant = await operator(api).turn(want("a", (2, 2), (1, 1)), NOW)
    assert grant.reason is Reason.NO_POOL
    assert "members.0" in grant.message


async def test_an_entry_that_stands_twice_is_named(api: Api):
    api.pools["p"]["spec"] = {**POOL, "members": [{"namespace": "a"}, {"namespace": "a"}]}
    grant = await operator(api).turn(want("a", (2, 2), (1, 1)), NOW)
    assert grant.reason is Reason.NO_POOL
    assert "a/ is named twice" in grant.message


async def test_a_new_ledger_counts_what_is_held_first(api: Api):
    of = {"prefill": {"desired": 2, "ready": 2, "summary": ""}, "decode": {"desired": 3, "ready": 3, "summary": ""}}
    spec = spec_of().model_dump(mode="json", by_alias=True, exclude_none=True)
    api.resources["a", "m"] = {"metadata": {"namespace": "a", "name": "m"}, "spec": spec, "status": of}
    grant = await operator(api).turn(want("b", (4, 4)), NOW)
    assert dict(grant.granted) == {"h100": 3}
    assert {row["namespace"] for row in api.pools["p"]["status"]["members"]} == {"a", "b"}


async def test_a_resource_that_is_gone_counts_until_its_pods_are(api: Api):
    clock = iter(float(n) for n in range(0, 10_000, 100))
    pools = operator(api, clock=lambda: next(clock))
    await pools.turn(want("a", (3, 3)), NOW)
    meta = {"name": "d", "namespace": "a", "labels": {POOL_LABEL: "decode"}, "annotations": {GPUS_ANNOTATION: "2"}}
    api.pods = [{"metadata": meta, "of": "m", "status": {}}]
    pools.forget(Key("a", "m"))
    grant = await pools.turn(want("b", (4, 4)), NOW)
    assert dict(grant.granted) == {"h100": 6}
    api.pods = []
    grant = await pools.turn(want("b", (4, 4)), NOW)
    assert dict(grant.granted) == {"h100": 8}


@pytest.mark.parametrize(
    ("phase", "ends", "granted"),
    [
        ("Running", "2026-01-01T00:00:30Z", 6),
        ("Succeeded", "2026-01-01T00:00:30Z", 6),
        ("Succeeded", None, 8),
        ("Running", "2025-12-31T23:00:00Z", 8),
    ],
    ids=["leaves", "has ended and is there still", "has ended and nobody deletes it", "on a lost node"],
)
async def test_a_pod_of_a_resource_that_is_gone_counts_until_the_api_server_lets_it_go(
    api: Api, phase: str, ends: str | None, granted: int
):
    clock = iter(float(n) for n in range(0, 10_000, 100))
    pools = operator(api, clock=lambda: next(clock))
    await pools.turn(want("a", (3, 3)), NOW)
    meta = {"name": "d", "namespace": "a", "labels": {POOL_LABEL: "decode"}, "annotations": {GPUS_ANNOTATION: "2"}}
    deleted = {"deletionTimestamp": ends} if ends else {}
    api.pods = [{"metadata": {**meta, **deleted}, "of": "m", "status": {"phase": phase}}]
    pools.forget(Key("a", "m"))
    grant = await pools.turn(want("b", (4, 4)), NOW)
    assert dict(grant.granted) == {"h100": granted}


async def test_what_a_group_of_pods_holds_counts_once(api: Api):
    clock = iter(float(n) for n in range(0, 10_000, 100))
    pools = operator(api, clock=lambda: next(clock))
    await pools.turn(want("a", (2, 2)), NOW)
    labels = {POOL_LABEL: Role.PREFILL.value, SET_LABEL: "m-prefill-0"}
    told = {"namespace": "a", "labels": labels, "annotations": {GPUS_ANNOTATION: "4"}}
    api.pods = [{"metadata": {**told, "name": f"g-{n}"}, "of": "m", "status": {}} for n in range(2)]
    pools.forget(Key("a", "m"))
    grant = await pools.turn(want("b", (4, 4)), NOW)
    assert dict(grant.granted) == {"h100": 4}


async def test_rows_of_namespaces_that_others_watch_are_left_alone(api: Api):
    await operator(api, "a").turn(want("a", (3, 3)), NOW)
    clock = iter(float(n) for n in range(0, 10_000, 100))
    pools = operator(api, "b", clock=lambda: next(clock))
    for _ in range(3):
        grant = await pools.turn(want("b", (4, 4)), NOW)
    assert dict(grant.granted) == {"h100": 2}


def test_types_are_told_by_resource_and_by_the_nodes_that_are_asked_for(api: Api):
    from dopd.api.gpupool import GpuPoolSpec

    types = GpuPoolSpec.model_validate(
        {
            "gpuTypes": [
                {"name": "h100", "product": "NVIDIA-H100-80GB-HBM3", "gpus": 8},
                {"name": "any", "gpus": 8},
                {"name": "amd", "resourceName": "amd.com/gpu", "product": "MI300X", "gpus": 8},
            ]
        }
    ).gpu_types
    on = {"template": {"spec": {"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}}}}
    assert types_of(spec_of(prefill=on), types) == (("h100", "any"), "")
    found, problem = types_of(spec_of(decode={"gpuResource": "amd.com/gpu"}), types)
    assert found == ("any", "")
    assert "decode workers ask for amd.com/gpu of any product" in problem
    assert Role.DECODE.value in problem


def shown(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"pool": "p", **labels})


async def test_a_pool_and_what_each_resource_is_denied_are_metrics(api: Api):
    api.put({**POOL, "members": [{"namespace": "a", "priority": 10}, {"namespace": "b", "guaranteed": {"h100": 4}}]})
    pools = operator(api)
    await pools.turn(want("a", (4, 4), (4, 4)), NOW)
    await pools.turn(want("b", (2, 3)), NOW)
    grant = await pools.turn(want("a", (4, 4), (4, 4)), NOW)
    states = {state: shown("dopd_pool_gpus", type="h100", state=state) for state in STATES}
    assert states == {"cap": 8, "guaranteed": 4, "wanted": 13, "granted": 8, "held": 8}
    assert shown("dopd_pool_denied_members") == 2
    assert shown("dopd_pool_named_twice_members") == 0
    of_a = {"namespace": "a", "inference": "m"}
    denied = [shown("dopd_pool_denied_workers", **of_a, role=role) for role in ("prefill", "decode")]
    assert denied == [4 - grant.share[0], 4 - grant.share[1]]
    assert sum(number or 0 for number in denied) == 4
    assert shown("dopd_pool_lacking_guaranteed_gpus", namespace="b", inference="m", type="h100") == 4
    assert shown("dopd_pool_lacking_guaranteed_gpus", **of_a, type="h100") is None, "it is guaranteed nothing"
    await pools.turn(want("a", (4, 4), (2, 2)), NOW)
    await pools.turn(want("b", (2, 3)), NOW)
    assert shown("dopd_pool_lacking_guaranteed_gpus", namespace="b", inference="m", type="h100") == 0
    pools.forget(Key("a", "m"))
    assert shown("dopd_pool_denied_workers", **of_a, role="prefill") is None
    assert shown("dopd_pool_gpus", type="h100", state="cap") == 8
    pools.forget(Key("b", "m"))
    assert shown("dopd_pool_gpus", type="h100", state="cap") is None


STATES = ("cap", "guaranteed", "wanted", "granted", "held")


async def test_a_pool_that_is_gone_or_names_one_twice_shows_no_old_numbers(api: Api):
    pools = operator(api)
    await pools.turn(want("a", (1, 1)), NOW)
    api.pools["p"]["spec"] = {**POOL, "members": [{"namespace": "a"}, {"namespace": "a"}, {"namespace": "b"}]}
    grant = await pools.turn(want("a", (4, 4), (1, 1)), NOW)
    assert grant.reason is Reason.NO_POOL
    assert shown("dopd_pool_named_twice_members") == 1
    assert shown("dopd_pool_denied_workers", namespace="a", inference="m", role="decode") == 3, "and it gets no more"
    del api.pools["p"]
    await pools.turn(want("a", (4, 4), (1, 1)), NOW)
    assert shown("dopd_pool_named_twice_members") is None
    assert shown("dopd_pool_gpus", type="h100", state="cap") is None
    pools.forget(Key("a", "m"))
