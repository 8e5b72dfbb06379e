"""Pause, flush and slow-down."""

import asyncio

SAMPLING = {"max_new_tokens": 4, "temperature": 0, "ignore_eos": True}


async def test_pause_and_continue(regular):
    """entrypoints/http_server.py: pause_generation, ready, sagemaker_health."""
    status, answer = await regular.post("/pause_generation", {"mode": "in_place"})
    assert (status, answer) == (200, {"message": "Generation paused successfully.", "status": "ok"})
    assert (await regular.get("/ready"))[0] == 503
    assert (await regular.get("/ping"))[0] == 200
    waiting = asyncio.create_task(regular.post("/generate", {"input_ids": [5], "sampling_params": SAMPLING}))
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done
    status, answer = await regular.post("/continue_generation", {})
    assert (status, answer) == (200, {"message": "Generation continued successfully.", "status": "ok"})
    assert (await waiting)[0] == 200
    assert (await regular.get("/ready"))[0] == 200


async def test_loads_stand_still_while_paused(regular):
    """managers/scheduler.py: a paused scheduler takes no snapshots."""
    assert (await regular.post("/pause_generation", {"mode": "in_place"}))[0] == 200
    try:
        await asyncio.sleep(0.3)
        first = await regular.load()
        await asyncio.sleep(1.2)  # an idle one takes one each second at least
        assert (await regular.load())["timestamp"] == first["timestamp"]
    finally:
        await regular.post("/continue_generation", {})


async def test_an_abort_while_paused_in_place_is_lost(regular, rid):
    """managers/tokenizer_manager.py: what waits for the end of a pause is not with the scheduler yet."""
    await regular.post("/pause_generation", {"mode": "in_place"})
    try:
        waiting = asyncio.create_task(
            regular.post("/generate", {"input_ids": [5], "rid": rid, "sampling_params": SAMPLING})
        )
        await asyncio.sleep(0.3)
        await regular.post("/abort_request", {"rid": rid})
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
    finally:
        await regular.post("/continue_generation", {})
        status, answer = await waiting
    assert (status, answer["meta_info"]["finish_reason"]["type"]) == (200, "length")


async def test_pause_that_aborts(regular):
    """managers/tokenizer_manager.py: pause_generation; `abort` is the default mode."""
    body = {"input_ids": [5], "sampling_params": {"max_new_tokens": 3000, "ignore_eos": True}}
    running = asyncio.create_task(regular.post("/generate", body))
    await regular.until(lambda load: load["num_running_reqs"] == 1)
    assert (await regular.post("/pause_generation", {}))[0] == 200
    status, answer = await running
    assert (status, answer["meta_info"]["finish_reason"]["type"]) == (200, "abort")
    assert (await regular.post("/continue_generation", {}))[0] == 200
    assert (await regular.post("/pause_generation", {"mode": "nonsense"}))[0] == 400


async def test_flush_cache(regular):
    """managers/scheduler.py: flush_cache works on an idle engine only."""
    status, text = await regular.get("/flush_cache")
    assert (status, text.splitlines()[0]) == (200, "Cache flushed.")
    body = {"input_ids": [5], "rid": "flush", "sampling_params": {"max_new_tokens": 3000, "ignore_eos": True}}
    running = asyncio.create_task(regular.post("/generate", body))
    await regular.until(lambda load: load["num_running_reqs"] == 1)
    assert (await regular.post("/flush_cache", None))[0] == 400
    await regular.post("/abort_request", {"abort_all": True})
    await running


async def test_slow_down(regular):
    """managers/scheduler.py: forward_sleep_time is added to each pass; none ends it."""
    assert await regular.post("/slow_down", {"forward_sleep_time": 0.3}) == (200, None)
    try:
        _, answer = await regular.post("/generate", {"input_ids": [5], "sampling_params": SAMPLING})
    finally:
        assert await regular.post("/slow_down", {"forward_sleep_time": None}) == (200, None)
    _, after = await regular.post("/generate", {"input_ids": [5], "sampling_params": SAMPLING})
    assert answer["meta_info"]["e2e_latency"] > after["meta_info"]["e2e_latency"]
