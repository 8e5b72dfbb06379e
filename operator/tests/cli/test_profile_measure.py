import argparse
import json

import httpx
import pytest

from dopd.cli.profile_measure import MeasureError, measure


class FakePair:
    """Answers as an idle pair would that computes a token in 25 us; tests break one thing at a time."""

    def __init__(self, *, running=0, cached=False, moments=True, status=200):
        self.running, self.cached, self.moments, self.status = running, cached, moments, status
        self.tokens, self.busy_us = 0, 0.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/generate":
            if request.url.host == "p":
                length = len(json.loads(request.content)["input_ids"])
                self.tokens += 1 if self.cached else length
                self.busy_us += 25 * length
            return httpx.Response(self.status, json={})
        load = {
            "num_running_reqs": self.running,
            "num_waiting_reqs": 0,
            "max_total_num_tokens": 100_000,
            "max_running_requests": 64,
            "total_prefill_uncached_tokens": self.tokens,
            "total_prefill_busy_us": self.busy_us,
            "decode_moments": [0.0] * 6 if self.moments else None,
        }
        return httpx.Response(200, json={"loads": [load]})


def arguments():
    return argparse.Namespace(
        name="n", model="m", gpu="g", gpus=1, prefill_url="http://p", decode_url="http://d", bootstrap_port=1,
        max_tokens=512, max_batch=1, output=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (FakePair(running=3), "runs 3 requests; take it out of the gateway"),
        (FakePair(cached=True), "disable its prefix cache"),
        (FakePair(moments=False), "needs SGLang 0.5.20"),
        (FakePair(status=400), "answered 400"),
        (FakePair(), "no decode step was counted"),
    ],
)
async def test_a_pair_that_can_not_be_measured_is_refused_with_the_cure(pair, message, monkeypatch):
    monkeypatch.setattr("dopd.cli.profile_measure.STEADY_SECONDS", 0.0)
    with pytest.raises(MeasureError, match=message):
        await measure(arguments(), httpx.MockTransport(pair))
