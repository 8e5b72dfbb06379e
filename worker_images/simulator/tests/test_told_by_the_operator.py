"""What the operator asks of engines that change their role, asked of simulated ones."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from dopd.api.names import Role
from dopd.cluster.podhttp import DirectPodHttp
from dopd.telemetry.engines import read_loads
from dopd.telemetry.role_switch import Pair, Switched, broken_pairs, switch_role

SAMPLING = {"max_new_tokens": 2000, "temperature": 0, "ignore_eos": True}


@pytest.fixture
async def pods() -> AsyncIterator[DirectPodHttp]:
    http = DirectPodHttp()
    yield http
    await http.close()


def pod(name: str, engine: Any) -> dict[str, Any]:
    port = {"name": "http", "containerPort": urlsplit(engine.url).port}
    spec = {"containers": [{"name": "engine", "ports": [port]}]}
    return {"metadata": {"name": name}, "spec": spec, "status": {"podIP": "127.0.0.1"}}


async def roles(http: DirectPodHttp, *of: dict[str, Any]) -> list[str]:
    loads = await read_loads(http, of)
    return [loads[each["metadata"]["name"]].role for each in of]


async def test_an_engine_changes_and_a_canary_tells_of_its_second_turn(pods, impatient_pair):
    prefill, decode = pod("p", impatient_pair.prefill), pod("d", impatient_pair.decode)
    pair = Pair(prefill, decode, impatient_pair.prefill.bootstrap_port)
    assert await broken_pairs(pods, [pair]) == []
    assert await roles(pods, prefill, decode) == ["prefill", "decode"]
    for role in (Role.DECODE, Role.PREFILL):
        assert await switch_role(pods, prefill, role, 1.0) == Switched(done=True)
        assert await roles(pods, prefill) == [role]
    [(broken, why)] = await broken_pairs(pods, [pair])
    assert broken is pair
    assert "/generate" in why


async def test_refusals_are_told_apart(pods, pair):
    prefill, decode = pod("p", pair.prefill), pod("d", pair.decode)
    told = await switch_role(pods, prefill, Role.DECODE, 1e6)
    assert told.refused.startswith("insufficient decode CUDA graph headroom")
    assert told.restorable
    body = pair.room(input_ids=[5, 6, 7], sampling_params=SAMPLING, rid="busy")
    waiting = asyncio.create_task(pair.decode.post("/generate", body))
    await pair.decode.until(lambda load: load["num_waiting_reqs"] == 1)
    assert await switch_role(pods, decode, Role.PREFILL, 0.0) == Switched(done=False), "asked again later"
    await pair.decode.post("/abort_request", {"rid": "busy"})
    await waiting
