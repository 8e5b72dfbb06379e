"""What the operator starts serves: its rendered flags, the gateway, the end by SIGTERM (last: it ends the engines)."""

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from e2e.sglang.tests.engines.conftest import Served
from e2e.sglang.tests.http import generate, load_of, post, status_of

TOKENS = 12
END_SECONDS = 90
"""SGLang looks each 5 s whether work is left, and gives its schedulers 15 s."""


def test_the_rendered_flags_start_and_serve(served: Served) -> None:
    """workloads/engines.py: engine_flags; through the gateway, streamed."""
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": TOKENS}
    options = {"stream": True, "stream_options": {"include_usage": True}, "ignore_eos": True}
    status, text = post(f"{served.gateway.url}/v1/chat/completions", body | options)
    assert status == 200
    assert f'"completion_tokens":{TOKENS}' in text.replace(" ", "")
    assert text.rstrip().endswith("data: [DONE]")


@pytest.mark.parametrize("prompt_tokens", [3, 700, 5000])
def test_greedy_tokens_of_a_pair_are_those_of_one_engine(served: Served, prompt_tokens: int) -> None:
    """disaggregation/decode.py: the KV cache that has come over is the one that would have been computed."""
    seeded = random.Random(prompt_tokens)
    body = generate([seeded.randrange(100, 20_000) for _ in range(prompt_tokens)], TOKENS)
    status, alone = post(f"{served.regular.url}/generate", body)
    status_pair, together = post(f"{served.gateway.url}/generate", body)
    assert (status, status_pair) == (200, 200)
    assert len(alone["output_ids"]) == TOKENS
    assert together["output_ids"] == alone["output_ids"]


@pytest.mark.parametrize("which", ["regular", "decode", "prefill"])
def test_sigterm_finishes_what_runs(served: Served, which: str) -> None:
    """entrypoints: probes fail at once, what runs is finished, the process ends by itself with status 0."""
    engine, tokens = served.engines[which], 400
    decode = served.pair.decode
    through_pair = which == "decode"
    prompt = [7] * 20
    with ThreadPoolExecutor() as pool:
        if which != "prefill":  # its decode engine has ended by then, so nothing can run on it
            watched = decode if through_pair else engine
            url = served.gateway.url if through_pair else engine.url
            running = pool.submit(post, f"{url}/generate", generate(prompt, tokens))
            until(lambda: load_of(watched.url)["num_running_reqs"] == 1)
        engine.server.terminate()
        until(lambda: status_of(f"{engine.url}/ready") == 503)
        if which != "prefill":
            status, answer = running.result()
            assert (status, len(answer["output_ids"])) == (200, tokens)
            assert answer["meta_info"]["finish_reason"]["type"] == "length"
    assert engine.server.wait_for_end(END_SECONDS) == 0


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Look again and again until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)
