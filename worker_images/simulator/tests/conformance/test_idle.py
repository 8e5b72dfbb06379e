"""What tells that an engine is idle: no single signal does, all of them together."""

import asyncio
import datetime

import pytest

FRESH_SECONDS = 1.5
"""An idle engine renews its snapshot at each turn of its loop: each second with --sleep-on-idle, else all the time."""


async def look(engine):
    """The signals of an engine's load, and how old they are by the engine's own clock."""
    answer = await engine.json("/v1/loads")
    (load,) = answer["loads"]
    queues = load["disaggregation"]
    signals = {
        "running": load["num_running_reqs"],
        "waiting": load["num_waiting_reqs"],
        "sending": queues["prefill_inflight_queue_reqs"],
        "uncached tokens": load["num_waiting_uncached_tokens"],
        "used tokens": load["num_used_tokens"],
    }
    age = datetime.datetime.fromisoformat(answer["timestamp"]).timestamp() - load["timestamp"]
    return {name for name, value in signals.items() if value} | ({"old"} if age > FRESH_SECONDS else set())


async def test_an_idle_engine_says_so_at_every_look(each):
    """managers/scheduler.py: on_idle publishes at each turn."""
    await each.until_idle()
    await asyncio.sleep(1.2)
    for _ in range(6):
        assert await look(each) == set()
        await asyncio.sleep(0.2)


@pytest.mark.parametrize(("tokens", "stream"), [(500, True), (2500, False)])
async def test_a_prefill_engine_that_computes_is_told_by_all_signals_together(pair, tokens, stream):
    """managers/scheduler.py: publish_load_snapshot; a first pass shows by its age alone, later ones by their tokens."""
    await pair.prefill.until_idle()
    await pair.prefill.slow_down(2.3)
    seen = []
    try:
        body = pair.room(input_ids=[7] * tokens, sampling_params={"max_new_tokens": 2, "ignore_eos": True})
        ends = [
            asyncio.create_task(
                pair.decode.stream("/generate", body) if stream else pair.decode.post("/generate", body)
            )
        ]
        await pair.decode.until(lambda load: load["num_waiting_reqs"] == 1)
        send = pair.prefill.stream if stream else pair.prefill.post
        ends.append(asyncio.create_task(send("/generate", body)))
        await asyncio.sleep(FRESH_SECONDS + 0.5)  # what comes within that time of a look is not told by its age
        while not any(end.done() for end in ends):
            seen.append(await look(pair.prefill))
            await asyncio.sleep(0.05)
        assert [(await end)[0] for end in ends] == [200, 200]
    finally:
        await pair.prefill.slow_down(None)
    *during, _ = seen  # the answer may have come between the last look and the question whether it has
    assert during
    assert all(during)
    if tokens == 500:
        assert {"old"} in during, "no other signal shows the first pass"


async def test_a_running_decode_engine_is_told(pair):
    """managers/scheduler.py: the batch stays in the snapshot."""
    await pair.decode.until_idle()
    task = asyncio.create_task(pair.generate(tokens=400))
    await pair.decode.until(lambda load: load["num_running_reqs"] == 1)
    assert {"running", "used tokens"} <= await look(pair.decode)
    await task
