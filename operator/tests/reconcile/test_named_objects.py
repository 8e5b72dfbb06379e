"""What a resource names in its namespace: profiles of its roles, and the Secret with the key."""

import base64
import copy
from dataclasses import replace
from typing import Any

import pytest
import yaml

from dopd.api.conditions import ConditionReason, ConditionStatus, ConditionType
from dopd.api.names import Role
from dopd.cluster import ApiError, kinds
from dopd.cluster.apikey import key_headers
from dopd.cluster.podhttp import PodHttpError
from dopd.perf import EngineModel
from dopd.reconcile.observe import observe, read_api_key, read_control_key, read_profiles, read_spec
from dopd.reconcile.queue import Key
from dopd.reconcile.scaling import Planned
from dopd.replay.profiles import load_profile
from dopd.telemetry.prompt_order import PromptOrderReader

from .test_conditions import ALL_WELL, SPEC, findings
from .test_conditions import look as seen_from

KEY = Key("ns", "m")
BOUNDS = {"min": 1, "max": 2}
SCALING = {"prefill": BOUNDS, "decode": BOUNDS, "profileRef": {"name": "llama-3.1-8b-h100"}}
SCALED = {**SPEC, "prefill": {"gpus": 1}, "decode": {"gpus": 1}, "scaling": SCALING}


class Cluster:
    """A namespace with the shipped profiles, some Secrets and the pods of a resource."""

    def __init__(self, secrets: dict[str, dict[str, str]] | None = None, forbidden: bool = False) -> None:
        self.secrets, self.forbidden = secrets or {}, forbidden

    async def get(self, kind: kinds.Kind, namespace: str, name: str) -> dict[str, Any] | None:
        if kind is kinds.SECRET:
            if self.forbidden:
                raise ApiError(403, "Forbidden", "secrets is forbidden")
            data = self.secrets.get(name)
            return (
                None if data is None else {"data": {k: base64.b64encode(v.encode()).decode() for k, v in data.items()}}
            )
        try:
            return {"spec": yaml.safe_load(load_profile(name).model_dump_json(by_alias=True, exclude_none=True))}
        except ValueError:
            return None

    async def list(self, kind: kinds.Kind, namespace: str, selector: str, *_: Any) -> list[dict[str, Any]]:
        pods = copy.deepcopy(list(ALL_WELL))
        for pod in pods:
            meta = pod["metadata"]
            owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": meta["name"], "controller": True}
            pod["metadata"] = {**meta, "uid": meta["name"], "ownerReferences": [owner]}
        return pods if kind is kinds.POD else []


async def profiles(**spec: Any) -> tuple[Any, EngineModel | str]:
    read, problem = read_spec({"spec": {**SCALED, **spec}})
    assert read, problem
    return await read_profiles(Cluster(), KEY, read)  # type: ignore[arg-type]


async def test_each_role_has_its_own_profile_and_else_that_of_the_scaling():
    own = {"gpus": 1, "profileRef": {"name": "llama-3.1-8b-l40s"}}
    _, shared = await profiles()
    _, mixed = await profiles(decode=own)
    h100, l40s = (EngineModel.from_profile(load_profile(f"llama-3.1-8b-{gpu}")) for gpu in ("h100", "l40s"))
    assert shared == h100
    assert isinstance(mixed, EngineModel)
    assert (mixed.prefill_curve, mixed.itl_curves) == (h100.prefill_curve, l40s.itl_curves)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"decode": {"gpus": 1, "profileRef": {"name": "gone"}}}, "spec.decode.profileRef names EngineProfile gone"),
        ({"scaling": {**SCALING, "profileRef": {"name": "gone"}}}, "spec.scaling.profileRef names EngineProfile gone"),
        ({"scaling": {"prefill": BOUNDS, "decode": BOUNDS}}, "names no EngineProfile"),
    ],
)
async def test_a_profile_that_is_missing_is_told_by_the_field_that_names_it(spec: dict[str, Any], words: str):
    found, model = await profiles(**spec)
    assert found == {}
    assert isinstance(model, str)
    assert words in model


async def api_key(cluster: Cluster, **ref: str) -> tuple[str, str]:
    spec, problem = read_spec({"spec": {**SPEC, "apiKey": {"name": "llama", **ref}}})
    assert spec, problem
    return await read_api_key(cluster, KEY, spec)  # type: ignore[arg-type]


async def test_the_key_is_read_without_the_line_break_that_editors_add():
    assert await api_key(Cluster({"llama": {"key": "k-1\n"}})) == ("k-1", "")
    assert await api_key(Cluster({"llama": {"other": "k-2"}}), key="other") == ("k-2", "")


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        (Cluster(), "does not exist in namespace ns; create it"),
        (Cluster({"llama": {"another": "x"}}), "key key of Secret llama does not exist"),
        (Cluster({"llama": {"key": ""}}), "is empty"),
        (Cluster({"llama": {"key": "a\x01b"}}), "printable ASCII"),
        (Cluster({"llama": {"key": "schlüssel"}}), "printable ASCII"),
        (Cluster(forbidden=True), "may not read it; name that Secret in the chart's apiKeySecrets"),
    ],
)
async def test_a_key_that_can_not_be_read_is_told(cluster: Cluster, words: str):
    key, problem = await api_key(cluster)
    assert key == ""
    assert words in problem


async def test_the_key_of_the_control_plane_may_stand_in_a_secret():
    cluster = Cluster({"gateways": {"key": "k-2"}})
    for ref, expected in ((None, ""), ({"name": "gateways"}, "k-2"), ({"name": "gone"}, "")):
        spec, problem = read_spec({"spec": {**SPEC, "router": {**SPEC["router"], "controlKey": ref}}})
        assert spec, problem
        found, problem = await read_control_key(cluster, KEY, spec)  # type: ignore[arg-type]
        assert found == expected
        missing = bool(ref) and not expected
        assert ("spec.router.controlKey: key key of Secret gone does not exist" in problem) is missing


class Keyed:
    """Pods that ask for the key k-1."""

    async def get_json(self, pod: Any, port: int, path: str, query: Any = None) -> Any:
        if key_headers() != {"Authorization": "Bearer k-1"}:
            raise PodHttpError("status 401")
        if path == "/workers":
            return {"workers": [{"url": f"http://10.0.0.{i}:30000", "worker_type": r} for i, r in enumerate(Role, 1)]}
        return {"loads": [{"num_running_reqs": 0, "num_waiting_reqs": 0, "token_usage": 0.0}]}

    async def get_text(self, pod: Any, port: int, path: str) -> str:
        return ""


async def look(cluster: Cluster) -> Any:
    """A look at a resource whose engines and gateway ask for the key k-1."""
    http = Keyed()
    meta = {"name": "m", "namespace": "ns", "uid": "u", "generation": 1}
    resource = {"metadata": meta, "spec": {**SPEC, "apiKey": {"name": "llama"}}}
    return await observe(cluster, http, PromptOrderReader(http, lambda: 0.0), KEY, resource)  # type: ignore[arg-type]


async def test_engines_and_gateway_are_asked_with_the_key():
    observed = await look(Cluster({"llama": {"key": "k-1"}}))
    assert set(observed.loads) == {"m-prefill-x", "m-decode-x"}
    assert observed.gateway.silent == ()
    assert "k-1" not in repr(observed), "it may stand in a log"


async def test_without_the_key_the_condition_says_how_to_give_it():
    observed = await look(Cluster(forbidden=True))
    (found,) = [f for f in findings(observed, (), None) if f.type is ConditionType.ROUTER_IN_SYNC]
    assert (found.status, found.reason) == (ConditionStatus.UNKNOWN, ConditionReason.API_KEY_UNREADABLE)
    assert "apiKeySecrets" in found.message


def test_a_profile_of_other_workers_is_a_condition_and_no_reason_to_stop():
    workers = {"gpus": 8, "replicas": 1}
    seen = replace(
        seen_from(*ALL_WELL, spec={**SPEC, "model": "Llama-3.1-8B", "prefill": workers}),
        profiles=dict.fromkeys(Role, load_profile("llama-3.1-8b-h100")),
    )
    (found,) = [f for f in findings(seen, (), Planned(None)) if f.type is ConditionType.PROFILE_MATCHES]
    assert (found.status, found.reason) == (ConditionStatus.FALSE, ConditionReason.OTHER_WORKERS)
    assert "a prefill worker has 8 GPUs" in found.message
    assert "dopd profile" in found.message
