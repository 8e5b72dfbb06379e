"""A request that is given up before it runs, in the middle of its prompt, and after it."""

import asyncio
import random

CHUNKS = 8
PROMPT_TOKENS = 2048 * CHUNKS
"""Engines under test compute 2,048 tokens of a prompt at a time."""


def pass_seconds(engine):
    """Long enough to see what waits behind a pass, on a busy machine too."""
    return 0.5 if engine.server else 1.0


def request(rid, prompt_tokens=PROMPT_TOKENS, tokens=2):
    ids = [random.randrange(100, 20_000) for _ in range(prompt_tokens)]  # nothing that a prefix cache may hold
    return {"input_ids": ids, "rid": rid, "sampling_params": {"max_new_tokens": tokens, "ignore_eos": True}}


def computed(load):
    return load["total_prefill_uncached_tokens"]


async def test_aborted_while_waiting(regular, rid):
    """managers/scheduler.py: abort_request; what waits ends at once, and nothing of it is computed."""
    before = computed(await regular.load())
    await regular.slow_down(pass_seconds(regular))
    try:
        first = asyncio.create_task(regular.post("/generate", request(f"first-{rid}")))
        await regular.until(lambda load: computed(load) > before)
        second = asyncio.create_task(regular.post("/generate", request(rid)))
        await regular.until(lambda load: load["num_waiting_reqs"] == 1)
        await regular.post("/abort_request", {"rid": rid})
        status, answer = await second
        assert not first.done()
        assert (status, answer["meta_info"]["finish_reason"]["type"]) == (200, "abort")
    finally:
        await regular.slow_down(None)
    assert (await first)[1]["meta_info"]["finish_reason"]["type"] == "length"
    await regular.until_idle()
    assert computed(await regular.load()) == before + PROMPT_TOKENS


async def test_aborted_in_the_middle_of_a_prompt(regular, rid):
    """managers/scheduler.py: abort_request; the chunks that are left are not computed, the KV cache is freed."""
    before = computed(await regular.load())
    await regular.slow_down(pass_seconds(regular))
    try:
        running = asyncio.create_task(regular.post("/generate", request(rid)))
        await regular.until(lambda load: computed(load) > before)
        await regular.post("/abort_request", {"rid": rid})
        status, answer = await running
        assert (status, answer["meta_info"]["finish_reason"]["type"]) == (200, "abort")
    finally:
        await regular.slow_down(None)
    await regular.until_idle()
    load = await regular.until(lambda load: load["num_used_tokens"] == 0)
    assert computed(load) < before + PROMPT_TOKENS


async def test_aborted_after_the_prompt(pair, rid):
    """managers/scheduler.py: abort_request; decode ends it with what it has, prefill had ended it before."""
    body = pair.room(**request(rid, prompt_tokens=50, tokens=3000))
    prefill, decode = (asyncio.create_task(each.post("/generate", body)) for each in (pair.prefill, pair.decode))
    assert (await prefill)[0] == 200
    await pair.decode.until(lambda load: load["num_running_reqs"] == 1)
    await pair.decode.post("/abort_request", {"rid": rid})
    status, answer = await decode
    assert (status, answer["meta_info"]["finish_reason"]["type"]) == (200, "abort")
    assert 1 <= answer["meta_info"]["completion_tokens"] < 3000
    await pair.decode.until_idle()
    await pair.prefill.until_idle()


async def test_an_abort_goes_for_all_ids_that_begin_alike(regular, rid):
    """managers/scheduler.py: abort_request compares with startswith; an id that nobody has aborts nothing."""
    body = {"input_ids": [5], "sampling_params": {"max_new_tokens": 3000, "ignore_eos": True}}
    rids = (rid, f"{rid}-longer", f"other-{rid}")
    running = [asyncio.create_task(regular.post("/generate", {**body, "rid": each})) for each in rids]
    await regular.until(lambda load: load["num_running_reqs"] == 3)
    await regular.post("/abort_request", {"rid": rid[:-1]})
    await regular.post("/abort_request", {"rid": rid})
    ends = [(await each)[1]["meta_info"]["finish_reason"]["type"] for each in running[:2]]
    assert ends == ["abort", "abort"]
    assert not running[2].done()
    await regular.post("/abort_request", {"rid": rids[2]})
    await running[2]
    await regular.until_idle()
