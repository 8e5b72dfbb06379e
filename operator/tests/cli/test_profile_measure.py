import argparse
import json
from contextlib import AsyncExitStack

import httpx
import pytest

from dopd.cli.profile_measure import MeasureError, call, measure
from dopd.perf import EngineModel
from dopd_simulator.options import Options
from dopd_simulator.profile import DEFAULT_PROFILE
from dopd_simulator.server import Server
from dopd_simulator.surface.app import listen


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


def arguments(**changes):
    usual = dict(
        name="n", model="m", gpu="g", data_type="fp8", gpus=1, prefill_url="http://p", decode_url="http://d",
        bootstrap_port=1, max_tokens=512, max_batch=1, limit_seconds=60.0, output=None,
    )  # fmt: skip
    return argparse.Namespace(**usual | changes)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (FakePair(running=3), "runs 3 requests; take it out of the gateway"),
        (FakePair(cached=True), "disable its prefix cache"),
        (FakePair(moments=False), "needs SGLang 0.5.17"),
        (FakePair(status=400), "answered 400"),
        (FakePair(), "no decode step was counted"),
    ],
)
async def test_a_pair_that_can_not_be_measured_is_refused_with_the_cure(pair, message, monkeypatch):
    monkeypatch.setattr("dopd.cli.profile_measure.STEADY_SECONDS", 0.0)
    with pytest.raises(MeasureError, match=message):
        await measure(arguments(), httpx.MockTransport(pair))


@pytest.mark.parametrize(
    ("argument", "value", "expected"),
    [
        ("max_tokens", 300, "--max-tokens 300: expected at least 512"),
        ("max_batch", 0, "--max-batch 0: expected at least 1"),
        ("gpus", 0, "--gpus 0: expected 1 to 1024"),
        ("bootstrap_port", 70000, "--bootstrap-port 70000: expected 1 to 65535"),
        ("limit_seconds", float("nan"), "--limit-seconds nan: expected at least 1"),
        ("prefill_url", "10.0.0.7:30000", "--prefill-url 10.0.0.7:30000: expected a base URL such as"),
        ("decode_url", "http://d:port", "--decode-url http://d:port: expected a base URL such as"),
    ],
)
def test_arguments_that_lead_to_no_profile_are_refused_before_the_first_request(argument, value, expected, capsys):
    assert call(arguments(**{argument: value})) == 2
    assert expected in capsys.readouterr().err


async def test_a_measurement_ends_when_it_has_taken_as_long_as_it_may(monkeypatch):
    monkeypatch.setattr("dopd.cli.profile_measure.STEADY_SECONDS", 30.0)
    with pytest.raises(MeasureError, match=r"not done after 0\.05 s: raise --limit-seconds"):
        await measure(arguments(limit_seconds=0.05), httpx.MockTransport(FakePair()))


async def test_what_is_measured_on_simulated_engines_is_the_profile_that_they_run(monkeypatch):
    monkeypatch.setattr("dopd.cli.profile_measure.STEADY_SECONDS", 0.3)
    async with AsyncExitStack() as stack:
        urls, port = {}, 0
        for role in ("prefill", "decode"):
            options = Options(
                model_path="tiny", served_model_name="tiny", port=0, disaggregation_bootstrap_port=0,
                disaggregation_mode=role, sim_startup_seconds=0.0,
            )  # fmt: skip
            server = Server(options, DEFAULT_PROFILE)
            await server.start()
            stack.push_async_callback(server.engine.stop)
            runner = await listen(server)
            stack.push_async_callback(runner.cleanup)
            await server.warm_up()
            urls[f"{role}_url"] = f"http://127.0.0.1:{runner.addresses[0][1]}/"
            if role == "prefill":
                port = server.engine.bootstrap.port
        spec = await measure(arguments(**urls, bootstrap_port=port, max_batch=4))
    model = EngineModel.from_profile(DEFAULT_PROFILE)
    assert spec.data_type == "fp8"
    assert [point.tokens for point in spec.prefill.points] == [128, 256, 512]
    for point in spec.prefill.points:
        assert point.seconds == pytest.approx(model.prefill_seconds(point.tokens), rel=0.02)
    assert [point.batch for point in spec.decode.points] == [1, 4]
    for point in spec.decode.points:
        assert point.itl_seconds == pytest.approx(model.itl_seconds(point.batch, 700), rel=0.05)
