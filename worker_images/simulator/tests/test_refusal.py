"""`latePrompts: Refuse` in a simulated engine: as dopd's plugin refuses, by its own code."""

import asyncio
import json
from dataclasses import asdict
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.perf import EngineModel
from dopd.perf.prefill_times import service_times
from dopd_sglang.prefill_order.planner import Planner
from dopd_sglang.prefill_order.refusal import MESSAGE
from dopd_sglang.prefill_order.requests import Requests
from dopd_sglang.prefill_order.settings import FILE_VARIABLE, SettingsFile
from dopd_simulator.clock import Clock
from dopd_simulator.metric_store import Families
from dopd_simulator.options import Options
from dopd_simulator.ordering import Ordering
from dopd_simulator.profile import DEFAULT_PROFILE
from dopd_simulator.request import Request

MODEL = EngineModel.from_profile(DEFAULT_PROFILE)


def settings(**fields):
    return json.dumps({"version": 1, "policy": "on-time-first", "ttftSeconds": 2.0, "latePrompts": "Refuse", **fields})


def times_of_the_profile():
    times = asdict(service_times(MODEL))
    return {
        "passPoints": [{"tokens": tokens, "seconds": seconds} for tokens, seconds in times["pass_points"]],
        "attentionSeconds": times["attention_seconds"],
        "transferSeconds": times["transfer_seconds"],
        "transferTokenSeconds": times["transfer_token_seconds"],
    }


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("settings") / "scheduling.json"
    path.write_text(settings(times=times_of_the_profile()))
    return path


@pytest.fixture(scope="module")
def plugin(file):
    """The plugin's part that decides, as it is in an engine."""
    planner = Planner(SettingsFile(str(file)), lambda error: None)
    planner.refresh(0.0)
    return planner


@pytest.fixture(scope="module")
def simulated(file):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FILE_VARIABLE, str(file))
        made = Ordering(Options("m", "m"), MODEL, Clock(1.0), Families())
        assert made.refresh()
    return made


def as_in_sglang(request):
    """What the plugin reads of a request of SGLang; there is no prefix cache, as in the simulator."""
    done = request.prefilled_tokens
    return SimpleNamespace(
        rid=request.rid,
        origin_input_ids=range(request.prompt_tokens),
        output_ids=(),
        prefix_len=done,
        num_matched_prefix_tokens=done,
        time_stats=SimpleNamespace(created_time=request.created),
    )


NOW = 100.0
waits = st.lists(st.tuples(st.floats(0.001, 5.0), st.integers(1, 60_000)), max_size=80)


@given(waits, st.lists(st.integers(2, 30_000), max_size=2))
def test_it_refuses_whom_the_plugin_refuses(plugin, simulated, waiting, begun):
    requests = [
        Request(str(number), prompt_tokens=tokens, max_new_tokens=1, length=1, created=NOW - waited)
        for number, (waited, tokens) in enumerate(waiting)
    ]
    unfinished = [
        Request("u", prompt_tokens=tokens, max_new_tokens=1, length=1, created=NOW - 1, prefilled_tokens=tokens // 2)
        for tokens in begun
    ]
    here = simulated.hopeless(NOW, requests, len(unfinished))
    if len(requests) + len(unfinished) < 2:  # the plugin does not look at a prompt that waits alone
        assert here == []
        return
    there, also = [as_in_sglang(request) for request in requests], [as_in_sglang(request) for request in unfinished]
    decision = plugin.decide(NOW, Requests(1, None), there, also, 8192, float("inf"), 3)
    assert {request.rid for request in here} == {there[position].rid for position in decision.refused}


async def flood(pair, count=6, tokens=20_000):
    body = {"input_ids": [5] * tokens, "sampling_params": {"max_new_tokens": 2, "ignore_eos": True}}
    rooms = [pair.room(**body) for _ in range(count)]
    both = [asyncio.gather(pair.prefill.post("/generate", room), pair.decode.post("/generate", room)) for room in rooms]
    return await asyncio.gather(*both)


async def metric(engine, name):
    _, text = await engine.get("/metrics")
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


@pytest.mark.parametrize("late_prompts", ["Refuse", "Serve"])
async def test_client_and_decode_engine_are_told_and_nothing_is_kept(
    simulate_pair, tmp_path, monkeypatch, late_prompts
):
    path = tmp_path / "scheduling.json"
    path.write_text(settings(ttftSeconds=60, latePrompts=late_prompts))
    monkeypatch.setenv(FILE_VARIABLE, str(path))
    pair = await simulate_pair(sim_speedup=1.0, max_total_tokens=200_000)
    # Shorter than any of these takes: of those that wait together none can be on time.
    path.write_text(settings(ttftSeconds=0.2, latePrompts=late_prompts))
    await asyncio.sleep(1.1)
    answers = await flood(pair, tokens=8_000)
    refused = [answer for answer in answers if answer[0][0] == 503]
    served = [answer for answer in answers if answer[0][0] == 200]
    assert len(refused) + len(served) == len(answers)
    assert bool(refused) is (late_prompts == "Refuse")
    for (_, prefill), (status, decode) in refused:
        assert prefill["message"] == MESSAGE
        assert status == 500
        assert MESSAGE in decode["message"]
    assert all(status == 200 for _, (status, _) in served)
    assert await metric(pair.prefill, "dopd_prefill_refused_prompts_total") == len(refused)
    for engine in (pair.prefill, pair.decode):
        await engine.until_idle()
        assert engine.server.engine.scheduler.kv_used == 0
