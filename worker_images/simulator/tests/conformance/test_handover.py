"""A request on a prefill and a decode engine: rendezvous, hand-over, and what happens when a side is missing."""

import asyncio
import json

import pytest

SAMPLING = {"max_new_tokens": 4, "temperature": 0, "ignore_eos": True}
ROUTE = ("prefill_dp_rank", "prefill_cp_rank", "target_tp_rank", "target_pp_rank")


async def test_pair(pair):
    """disaggregation/prefill.py, decode.py: prefill ends with one token, decode returns all of them."""
    (status_p, prefill), (status_d, decode) = await pair.generate(tokens=4)
    assert (status_p, status_d) == (200, 200)
    assert prefill["meta_info"]["finish_reason"] == {"type": "length", "length": 0}
    assert prefill["meta_info"]["completion_tokens"] == 1
    assert decode["meta_info"]["finish_reason"] == {"type": "length", "length": 4}
    assert decode["output_ids"][:1] == prefill["output_ids"]
    assert len(decode["output_ids"]) == 4


async def test_pair_streams_chat(pair):
    """entrypoints/openai/protocol.py: PDRoutingFields; both engines stream the same body."""
    messages = [{"role": "user", "content": "hello"}]
    body = pair.room(
        model="any", messages=messages, max_tokens=4, ignore_eos=True, stream_options={"include_usage": True}
    )
    (status_p, prefill), (status_d, decode) = await asyncio.gather(
        pair.prefill.stream("/v1/chat/completions", body), pair.decode.stream("/v1/chat/completions", body)
    )
    assert (status_p, status_d) == (200, 200)
    assert json.loads(prefill[-2])["usage"]["completion_tokens"] == 1
    assert json.loads(decode[-2])["usage"]["completion_tokens"] == 4
    assert prefill[-1] == decode[-1] == "[DONE]"


async def test_many_at_once(pair):
    """disaggregation/common/conn.py: rooms keep requests apart."""
    answers = await asyncio.gather(*(pair.generate(tokens=tokens) for tokens in range(1, 17)))
    assert [len(decode["output_ids"]) for _, (_, decode) in answers] == list(range(1, 17))


async def test_room_is_required(each):
    """managers/scheduler.py: handle_generate_request."""
    status, answer = await each.post("/generate", {"text": "hello", "sampling_params": SAMPLING})
    assert status == 400
    assert answer["error"]["message"].startswith(
        "Invalid request: Disaggregated request received without bootstrap room id. req.rid="
    )
    status, answer = await each.post("/v1/completions", {"model": "any", "prompt": "hello"})
    assert (status, answer["object"], answer["type"], answer["code"]) == (400, "error", "BadRequestError", 400)


async def test_room_is_required_of_streams_too(each):
    """managers/tokenizer_manager.py: _handle_abort_finish_reason; a stream has begun, so the status is 200."""
    status, events = await each.stream("/generate", {"text": "hello", "sampling_params": SAMPLING})
    finish = json.loads(events[0])["meta_info"]["finish_reason"]
    assert (status, finish["type"], finish["status_code"], events[-1]) == (200, "abort", 400, "[DONE]")
    status, events = await each.stream("/v1/completions", {"model": "any", "prompt": "hello"})
    error = json.loads(events[0])["error"]
    assert (status, error["type"], error["code"], events[-1]) == (200, "BAD_REQUEST", 400, "[DONE]")


async def test_bootstrap_server(pair):
    """disaggregation/common/conn.py: CommonKVBootstrapServer."""
    boot = f"http://127.0.0.1:{pair.prefill.bootstrap_port}"

    async def route(*ranks):
        async with pair.prefill.http.get(
            f"{boot}/route", params=dict(zip(ROUTE, map(str, ranks), strict=False))
        ) as answer:
            return answer.status, await answer.text()

    async with pair.prefill.http.get(f"{boot}/health") as answer:
        assert (answer.status, await answer.text()) == (200, "OK")
    status, text = await route(-1, -1, -1, -1)
    info = json.loads(text)
    assert status == 200
    assert (info["attn_tp_size"], info["dp_size"], info["pp_size"], info["page_size"]) == (1, 1, 1, 1)
    assert (info["follow_bootstrap_room"], info["decode_allocation_policy"]) == (True, "early")
    status, text = await route(0, 0, 0, 0)
    assert status == 200
    assert set(json.loads(text)) == {"rank_ip", "rank_port"}
    assert await route(0, 0, 7, 0) == (404, "Bootstrap info not found for dp_rank=0 cp_rank=0 tp_rank=7 pp_rank=0")
    assert await route(0) == (400, "Missing inputs for bootstrap server.")


async def test_bootstrap_server_of_a_decode_engine(pair):
    """managers/disagg_service.py: with role switching every engine has one; nobody is registered on decode."""
    boot = f"http://127.0.0.1:{pair.decode.bootstrap_port}"
    async with pair.decode.http.get(f"{boot}/route", params=dict.fromkeys(ROUTE, "-1")) as answer:
        assert answer.status == 503
        assert await answer.text() == "Prefill server not fully registered yet (0 workers registered)."


async def test_decode_waits_in_vain(impatient_pair):
    """disaggregation/common/conn.py: CommonKVReceiver._check_waiting_timeout."""
    body = impatient_pair.room(input_ids=[5, 6, 7], sampling_params=SAMPLING)
    waiting = asyncio.create_task(impatient_pair.decode.post("/generate", body))
    load = await impatient_pair.decode.until(lambda load: load["disaggregation"]["decode_transfer_queue_reqs"] == 1)
    assert (load["num_running_reqs"], load["num_waiting_reqs"], load["num_used_tokens"]) == (0, 1, 3)
    assert load["num_active_tokens"] == 0
    status, answer = await waiting
    assert (status, answer["type"], answer["code"]) == (500, "500", 500)
    assert "Decode transfer failed for request rank=0" in answer["message"]
    assert answer["message"].endswith("s in KVPoll.WaitingForInput")
    await impatient_pair.decode.until_idle()


async def test_prefill_waits_in_vain(impatient_pair):
    """disaggregation/common/conn.py: CommonKVSender._check_bootstrap_timeout."""
    body = impatient_pair.room(input_ids=[5, 6, 7], sampling_params=SAMPLING)
    waiting = asyncio.create_task(impatient_pair.prefill.post("/generate", body))
    await impatient_pair.prefill.until(lambda load: load["disaggregation"]["prefill_bootstrap_queue_reqs"] == 1)
    status, answer = await waiting
    assert status == 500
    assert "Prefill bootstrap failed for request rank=0" in answer["message"]
    assert answer["message"].endswith("s in KVPoll.Bootstrapping")


@pytest.mark.parametrize("first", ["prefill", "decode"])
async def test_either_side_may_come_first(pair, first):
    """disaggregation/common/conn.py: a room waits for its other side."""
    body = pair.room(input_ids=[5, 6, 7], sampling_params=SAMPLING)
    engines = [pair.prefill, pair.decode] if first == "prefill" else [pair.decode, pair.prefill]
    early = asyncio.create_task(engines[0].post("/generate", body))
    await engines[0].until(lambda load: load["num_waiting_reqs"] == 1)
    assert (await engines[1].post("/generate", body))[0] == 200
    assert (await early)[0] == 200


async def test_no_prefill_engine_at_the_address(pair):
    """disaggregation/decode.py: _ensure_prefill_info gives up after 15 tries, one a second."""
    body = pair.room(input_ids=[5, 6, 7], sampling_params=SAMPLING) | {"bootstrap_port": 1}
    status, answer = await pair.decode.post("/generate", body)
    assert status == 500
    assert "Decode handshake failed for request rank=0" in answer["message"]
    assert answer["message"].endswith("Aborted by AbortReq.")


async def test_aborted_in_transfer(pair, rid):
    """managers/scheduler.py: abort_request; in the middle of a hand-over an abort is an error."""
    body = pair.room(input_ids=[5, 6, 7], sampling_params=SAMPLING, rid=rid)
    waiting = asyncio.create_task(pair.decode.post("/generate", body))
    await pair.decode.until(lambda load: load["disaggregation"]["decode_transfer_queue_reqs"] == 1)
    await pair.decode.post("/abort_request", {"rid": rid})
    status, answer = await waiting
    assert status == 500
    assert "Decode transfer failed" in answer["message"]
    assert answer["message"].endswith("Aborted by AbortReq.")
    await pair.decode.until_idle()


async def test_aborted_while_bootstrapping(pair, rid):
    """managers/scheduler.py: abort_request."""
    body = pair.room(input_ids=[5, 6, 7], sampling_params=SAMPLING, rid=rid)
    waiting = asyncio.create_task(pair.prefill.post("/generate", body))
    await pair.prefill.until(lambda load: load["disaggregation"]["prefill_bootstrap_queue_reqs"] == 1)
    await pair.prefill.post("/abort_request", {"rid": rid})
    status, answer = await waiting
    assert status == 500
    assert "Prefill bootstrap failed" in answer["message"]
    assert answer["message"].endswith("Aborted by AbortReq.")
