"""The operator's own pods with real SGLang: Ready, streamed answers, more and fewer of them, and their lateness."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from dopd.telemetry.loads import LoadReader, Source
from e2e.demo.watch import Watcher
from e2e.load import BackgroundLoad, Schedule, Target
from e2e.sglang.tests.cluster.resource import MODEL, NAME
from e2e.sglang.tests.http import post
from e2e.stack import Stack, wait_for

TOKENS, LONG_TOKENS = 48, 1200
RISE_SECONDS = 600
FALL_SECONDS = 300
LOAD = Schedule.steady(requests_per_second=1.5, seconds=RISE_SECONDS, input_tokens=64, output_tokens=TOKENS)


@pytest.fixture(scope="module")
def watcher(served: Stack) -> Iterator[Watcher]:
    """What the operator reports, from the beginning of the module on."""
    watching = Watcher(lambda: served.inference(NAME))
    yield watching
    watching.stop()


def test_ready_pods_stream_through_the_gateway(served: Stack) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": TOKENS}
    options = {"stream": True, "stream_options": {"include_usage": True}, "ignore_eos": True}
    status, text = post(f"{served.gateway_url}/v1/chat/completions", body | options)
    assert status == 200
    assert f'"completion_tokens":{TOKENS}' in text.replace(" ", "")
    assert text.count('"content":"') > TOKENS // 2


async def test_a_second_decode_worker_comes_and_goes_and_nothing_is_lost(served: Stack, watcher: Watcher) -> None:
    target = Target(served.gateway_url, MODEL)
    with BackgroundLoad(target, LOAD) as load:
        wait_for(
            lambda: watcher.samples and watcher.samples[-1].decode.ready >= 2,
            "two decode workers serve",
            timeout_seconds=RISE_SECONDS,
        )
        await asyncio.sleep(20)  # some of what is sent now is for the new one
        generous, strict = await late_share(served, 400.0), await late_share(served, 0.001)
        results = load.stop()
        assert load.lost == []
    assert len(results) > 20
    assert all(result.got_tokens == result.asked_tokens for result in results)
    assert generous is not None
    assert strict is not None
    assert generous < 0.5 < strict  # a machine that starts an engine beside may hold a token back for many seconds

    # A few long answers, so that the worker that goes has something to finish.
    last = Schedule.steady(requests_per_second=1, seconds=4, input_tokens=64, output_tokens=LONG_TOKENS)
    with BackgroundLoad(target, last) as load:
        wait_for(
            lambda: watcher.samples[-1].decode.present == 1, "one decode worker again", timeout_seconds=FALL_SECONDS
        )
        load.wait()
        assert load.lost == []
    assert any(sample.decode.draining for sample in watcher.samples)


async def late_share(stack: Stack, objective_seconds: float) -> float | None:
    """Share of requests that missed an objective for TTFT and ITL, by the operator's own queries; None without any."""
    source = Source(stack.prometheus_url, bin_seconds=2.0, history_seconds=60.0, interval_seconds=3.0)
    reading = LoadReader().now(
        source, ("default", NAME), time.time(), ttft_seconds=objective_seconds, itl_seconds=objective_seconds
    )
    return (await reading).late_share
