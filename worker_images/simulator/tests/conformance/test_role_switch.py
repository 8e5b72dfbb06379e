"""The role switch: its refusals, what follows it, and its fault. Named to run last: it leaves traces in the engines."""

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

SAMPLING = {"max_new_tokens": 4, "temperature": 0, "ignore_eos": True}


def switch(engine, role, **body):
    return engine.post("/pd_role_switch", {"new_role": role, **body})


async def test_switch_needs_the_flag(regular):
    """managers/tokenizer_control_mixin.py: pd_role_switch."""
    status, answer = await switch(regular, "decode")
    assert status == 400
    assert answer == {
        "rid": None, "http_worker_ipc": None, "success": False, "old_role": "null", "new_role": "decode",
        "message": "--enable-pd-role-switch is not set on this server", "safe_to_restore": True,
    }  # fmt: skip


async def test_switch_to_no_role(pair):
    """managers/io_struct.py: PdRoleSwitchReqInput; disaggregation/role_switch.py: _reject_reason."""
    status, answer = await switch(pair.prefill, "regular")
    assert (status, answer["object"], answer["type"]) == (400, "error", "Bad Request")
    status, answer = await switch(pair.prefill, "")
    assert (status, answer["message"], answer["safe_to_restore"]) == (400, "invalid new_role=''", True)


async def test_switch_to_the_same_role(each, role):
    """disaggregation/role_switch.py: handle_pd_role_switch."""
    status, answer = await switch(each, role)
    assert (status, answer["success"], answer["message"]) == (200, True, "ok")
    status, answer = await switch(each, role, prepare_only=True)
    assert (status, answer["message"]) == (200, "ready")


async def test_switch_prepared_only(pair):
    """disaggregation/role_switch.py: prepare_only checks and changes nothing."""
    status, answer = await switch(pair.decode, "prefill", prepare_only=True)
    assert (status, answer["message"], answer["safe_to_restore"]) == (200, "ready", True)
    assert (await pair.decode.load())["disaggregation"]["mode"] == "decode"


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        (None, "decode_cuda_graph_memory_gb is required before capturing decode graphs"),
        (-1, "decode_cuda_graph_memory_gb must be non-negative"),
        (1e6, "insufficient decode CUDA graph headroom: required=1000000.000 GB, available="),
    ],
)
async def test_switch_to_decode_needs_room_for_graphs(pair, memory, message):
    """disaggregation/role_switch.py: will_capture_graphs."""
    status, answer = await switch(pair.prefill, "decode", decode_cuda_graph_memory_gb=memory)
    assert (status, answer["safe_to_restore"]) == (400, True)
    assert answer["message"].startswith(message)


async def test_switch_of_a_busy_engine(pair):
    """disaggregation/role_switch.py: is_fully_idle."""
    body = pair.room(input_ids=[5, 6, 7], sampling_params=SAMPLING, rid="busy")
    waiting = asyncio.create_task(pair.decode.post("/generate", body))
    await pair.decode.until(lambda load: load["num_waiting_reqs"] == 1)
    status, answer = await switch(pair.decode, "prefill")
    assert (status, answer["success"], answer["safe_to_restore"]) == (400, False, True)
    assert answer["message"] == "instance is not idle; drain all requests before switching"
    await pair.decode.post("/abort_request", {"rid": "busy"})
    await waiting
    await pair.decode.until_idle()


async def test_both_switch_and_back(pair):
    """disaggregation/role_switch.py; /server_info keeps the role of the start, the others follow."""
    for prefill, decode in ((pair.decode, pair.prefill), (pair.prefill, pair.decode)):
        status, answer = await switch(decode, "decode", decode_cuda_graph_memory_gb=0)
        assert (status, answer["success"], answer["old_role"], answer["new_role"]) == (200, True, "prefill", "decode")
        assert (await switch(prefill, "prefill"))[0] == 200
        assert (await decode.load())["disaggregation"]["mode"] == "decode"
        assert (await decode.json("/model_info"))["disaggregation_mode"] == "decode"
        assert (await decode.json("/server_info"))["internal_states"][0]["disaggregation_mode"] == "decode"
        (status_p, _), (status_d, answer) = await type(pair)(prefill, decode).generate(tokens=4)
        assert (status_p, status_d, len(answer["output_ids"])) == (200, 200, 4)
    assert (await pair.prefill.json("/server_info"))["disaggregation_mode"] == "prefill"


async def test_second_turn_as_prefill_hangs_old_peers(impatient_pair):
    """disaggregation/common/conn.py: connection_pool keeps the old rank address until a transfer has timed out."""
    assert (await impatient_pair.generate())[1][0] == 200
    assert (await switch(impatient_pair.prefill, "decode", decode_cuda_graph_memory_gb=0))[0] == 200
    assert (await switch(impatient_pair.prefill, "prefill"))[0] == 200
    (status_p, prefill), (status_d, decode) = await impatient_pair.generate()
    assert (status_p, status_d) == (500, 500)
    assert prefill["message"].endswith("s in KVPoll.Bootstrapping")
    assert decode["message"].endswith("s in KVPoll.WaitingForInput")
    assert (await impatient_pair.generate())[1][0] == 200
    # The old address confirms nothing, so decode keeps the KV cache of the lost request for 30 seconds.
    assert (await switch(impatient_pair.decode, "prefill", prepare_only=True))[0] == 400
    await impatient_pair.decode.until_idle()


async def test_a_second_turn_as_prefill_is_found_under_a_fresh_bootstrap_port(impatient_pair):
    """disaggregation/common/conn.py: decode engines remember by host and port of the bootstrap server."""
    prefill = impatient_pair.prefill
    assert (await impatient_pair.generate())[1][0] == 200
    assert (await switch(prefill, "decode", decode_cuda_graph_memory_gb=0))[0] == 200
    assert (await switch(prefill, "prefill"))[0] == 200

    async def copy(reader, writer):
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def pass_on(reader, writer):
        from_engine, to_engine = await asyncio.open_connection("127.0.0.1", prefill.bootstrap_port)
        await asyncio.gather(copy(reader, to_engine), copy(from_engine, writer))

    alias = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    fresh = replace(prefill, bootstrap_port=alias.sockets[0].getsockname()[1])
    try:
        for _ in range(2):
            (status_p, _), (status_d, _) = await type(impatient_pair)(fresh, impatient_pair.decode).generate()
            assert (status_p, status_d) == (200, 200)
    finally:
        alias.close()
