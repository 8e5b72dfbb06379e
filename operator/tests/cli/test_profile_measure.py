import json
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import yaml

from dopd.cli import measure_pair
from dopd.cli.measure_pair import MeasureError
from dopd.cli.profile_measure import ORIGINS_ANNOTATION, call, measure
from dopd.perf import EngineModel
from dopd_simulator.options import Options
from dopd_simulator.profile import DEFAULT_PROFILE
from dopd_simulator.server import Server
from dopd_simulator.surface.app import listen

INFO = {
    "version": "0.5.23",
    "model_path": "m",
    "dtype": "bfloat16",
    "quantization": None,
    "kv_cache_dtype": "auto",
    "chunked_prefill_size": 2048,
    "max_prefill_tokens": 16384,
    "max_req_input_len": 32762,
    "internal_states": [{"world_size": 1}],
}


class FakePair:
    """Answers as an idle pair would that computes a token in 25 us; tests break one thing at a time.

    Its counters move at every look after the request, as those of an engine do that takes 100 ms for a step.
    """

    def __init__(self, **broken):
        self.broken = broken
        self.tokens, self.busy_us, self.steps, self.ids = 0, 0.0, 0, []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        broken, path, prefill = self.broken, request.url.path, request.url.host == "p"
        if path == "/server_info":
            return httpx.Response(200, json={**INFO, **broken.get("prefill_info" if prefill else "info", {})})
        if path == "/v1/tokenize":
            return httpx.Response(broken.get("tokenize", 200), json={"tokens": broken.get("tokens", [5, 20_479])})
        if path == "/generate":
            ids = json.loads(request.content)["input_ids"]
            self.ids += ids
            if prefill:
                self.tokens += 1 if broken.get("cached") else len(ids)
                self.busy_us += 25 * len(ids)
            return httpx.Response(broken.get("status", 200), json={})
        load = {
            "num_running_reqs": broken.get("running", 0),
            "num_waiting_reqs": 0,
            "max_total_num_tokens": 100_000,
            "max_running_requests": 64,
            "total_prefill_uncached_tokens": self.tokens,
            "total_prefill_busy_us": self.busy_us,
            "decode_moments": None,
            "disaggregation": {"mode": broken.get("mode", "prefill" if prefill else "decode")},
        }
        return httpx.Response(200 if path == "/v1/loads" else 404, json={"loads": [load] * broken.get("ranks", 1)})


def arguments(**changes):
    usual = dict(
        name="n", model="m", gpu="g", data_type="fp8", gpus=None, prefill_url="http://p", decode_url="http://d",
        bootstrap_port=1, max_tokens=512, max_batch=1, limit_seconds=60.0, output=None, points=None, vocabulary=None,
    )  # fmt: skip
    return SimpleNamespace(**usual | changes)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"running": 3}, "runs 3 requests; take it out of the gateway"),
        ({"cached": True}, "disable its prefix cache"),
        ({"status": 400}, "answered 400"),
        ({"mode": "null"}, r"http://p is a null engine; expected a prefill engine: swap or correct the URLs"),
        ({"ranks": 2}, r"has 2 data-parallel ranks; measure an engine with one"),
        ({"tokenize": 404}, r"answered 404; give --vocabulary, the vocab_size of the model's config.json"),
        ({"info": {"internal_states": [{"world_size": 8}]}}, "the engines have 1 and 8 GPUs"),
        ({"info": {"max_req_input_len": None}}, "/server_info tells max_req_input_len None; expected a number"),
        ({"info": {"max_req_input_len": 500}}, "the engines take 500 tokens"),
        ({}, "ended before 30 steps were seen"),
    ],
)
async def test_a_pair_that_can_not_be_measured_is_refused_with_the_cure(broken, message, monkeypatch):
    monkeypatch.setattr(measure_pair, "MOST_SECONDS_UNMOVED", 0.5)
    with pytest.raises(MeasureError, match=message):
        await measure(arguments(), httpx.MockTransport(FakePair(**broken)))


@pytest.mark.parametrize(
    ("argument", "value", "expected"),
    [
        ("max_tokens", 300, "--max-tokens 300: expected at least 512"),
        ("max_batch", 0, "--max-batch 0: expected at least 1"),
        ("gpus", 0, "--gpus 0: expected 1 to 1024"),
        ("vocabulary", 1, "--vocabulary 1: expected at least 2"),
        ("bootstrap_port", 70000, "--bootstrap-port 70000: expected 1 to 65535"),
        ("limit_seconds", float("nan"), "--limit-seconds nan: expected at least 1"),
        ("prefill_url", "10.0.0.7:30000", "--prefill-url 10.0.0.7:30000: expected a base URL such as"),
        ("decode_url", "http://d:port", "--decode-url http://d:port: expected a base URL such as"),
    ],
)
def test_arguments_that_lead_to_no_profile_are_refused_before_the_first_request(argument, value, expected, capsys):
    assert call(arguments(**{argument: value})) == 2
    assert expected in capsys.readouterr().err


async def test_other_gpus_than_the_engines_report_are_refused():
    with pytest.raises(MeasureError, match=r"--gpus 8: the engines report 1; leave it out"):
        await measure(arguments(gpus=8), httpx.MockTransport(FakePair()))


@pytest.mark.parametrize(
    ("given", "tokens", "most"), [(None, [5, 20_479], 20_000), (None, [5, 700], 700), (300, [9_999], 299), (2, [], 1)]
)
async def test_prompts_are_of_ids_that_the_model_has(given, tokens, most):
    fake = FakePair(tokens=tokens)
    with pytest.raises(MeasureError, match="ended before"):
        await measure(arguments(vocabulary=given), httpx.MockTransport(fake))
    assert max(fake.ids) <= most
    assert len(set(fake.ids)) > min(most, 100) / 2
    assert min(fake.ids) >= min(100, most // 2)


async def test_a_measurement_ends_when_it_has_taken_as_long_as_it_may(tmp_path):
    with pytest.raises(MeasureError, match=r"not done after 0\.05 s: raise --limit-seconds"):
        await measure(arguments(limit_seconds=0.05), httpx.MockTransport(FakePair(cached=True)))


@pytest.fixture
async def pair():
    """URLs and bootstrap port of two simulated engines; `pair(...)` takes options of both."""
    async with AsyncExitStack() as stack:

        async def start(profile=DEFAULT_PROFILE, **changes):
            found = {}
            for role in ("prefill", "decode"):
                options = Options(
                    model_path="tiny", served_model_name="tiny", port=0, disaggregation_bootstrap_port=0,
                    disaggregation_mode=role, sim_startup_seconds=0.0, enable_metrics=True, **changes,
                )  # fmt: skip
                server = Server(options, profile)
                await server.start()
                stack.push_async_callback(server.engine.stop)
                runner = await listen(server)
                stack.push_async_callback(runner.cleanup)
                await server.warm_up()
                found[f"{role}_url"] = f"http://127.0.0.1:{runner.addresses[0][1]}/"
                if role == "prefill":
                    found["bootstrap_port"] = server.engine.bootstrap.port
            return found

        yield start


async def test_what_is_measured_on_simulated_engines_is_the_profile_that_they_run(pair, monkeypatch):
    monkeypatch.setattr(measure_pair, "LEAST_SECONDS", 0.3)
    spec, origins, _ = await measure(arguments(**await pair(chunked_prefill_size=4096), max_batch=4, data_type=None))
    model = EngineModel.from_profile(DEFAULT_PROFILE)
    assert spec.data_type == "weights auto, KV cache auto"
    assert [point.tokens for point in spec.prefill.points] == [128, 256, 512]
    for point in spec.prefill.points:
        assert point.seconds == pytest.approx(model.prefill_seconds(point.tokens), rel=0.02)
    assert [point.batch for point in spec.decode.points] == [1, 4]
    for point in spec.decode.points:
        assert point.itl_seconds == pytest.approx(model.itl_seconds(point.batch, 700), rel=0.05)
    assert (spec.prefill.chunk_tokens, spec.gpus) == (4096, 1)
    assert spec.decode.kv_tokens == DEFAULT_PROFILE.decode.kv_tokens
    told = yaml.safe_load(origins)
    assert told["prefill.points"] == told["decode.points"] == "Measured"
    assert told["prefill.chunkTokens"] == told["decode.kvTokens"] == told["dataType"] == "Reported"
    assert told["startup"] == told["correction"] == "Default"


async def test_steps_that_are_seen_after_a_second_or_more_are_waited_for(pair, monkeypatch):
    step_seconds = 0.2
    monkeypatch.setattr(measure_pair, "LEAST_STEPS", 5)
    found = await pair(load_snapshot_publish_interval=6)
    async with httpx.AsyncClient() as http:
        await http.post(f"{found['decode_url']}slow_down", json={"forward_sleep_time": step_seconds})
    spec, _, _ = await measure(arguments(**found))
    (point,) = spec.decode.points
    assert point.itl_seconds == pytest.approx(step_seconds, rel=0.1)


async def test_finished_points_are_kept_and_gone_on_with(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(measure_pair, "LEAST_SECONDS", 0.1)
    points = tmp_path / "n.points.json"
    found = await pair()
    asked = arguments(**found, points=points, max_batch=4)
    step_seconds = measure_pair.Pair.step_seconds

    async def fails(self, batch, *rest):
        if batch == 4:
            raise MeasureError("out of order")
        return await step_seconds(self, batch, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(measure_pair.Pair, "step_seconds", fails)
        with pytest.raises(MeasureError, match="out of order"):
            await measure(asked)
    kept = json.loads(points.read_text())
    assert [tokens for tokens, _ in kept["prefill"]] == [128, 256, 512]
    assert [place[:2] for place in kept["decode"]] == [[512, 1]]
    kept["decode"][0][2] = 0.001
    points.write_text(json.dumps(kept))
    spec, _, held = await measure(asked)
    assert spec.decode.points[0].itl_seconds == 0.001
    assert len(spec.decode.points) == 2
    held.done()
    assert not points.exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "no file of measured points"),
        (
            '{"of": {"version": "0.5.1"}, "prefill": [], "transfer": [], "decode": []}',
            "version '0.5.1' is now '0.5.23'",
        ),
    ],
)
def test_points_of_other_engines_are_refused_and_left_alone(content, expected, tmp_path, monkeypatch, capsys):
    points = tmp_path / "points.json"
    points.write_text(content)
    real = httpx.AsyncClient

    def client(**options):
        return real(**{**options, "transport": httpx.MockTransport(FakePair())})

    monkeypatch.setattr("dopd.cli.profile_measure.httpx.AsyncClient", client)
    assert call(arguments(points=points)) == 1
    said = capsys.readouterr().err
    assert expected in said
    assert "remove it to begin anew, or name another with --points" in said
    assert points.read_text() == content


def test_the_manifest_says_where_each_number_comes_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "n.yaml"

    async def measured(args):
        assert args.points == Path("n.points.json")
        return DEFAULT_PROFILE, "prefill.points: Measured\nstartup: Default\n", measure_points_of(args)

    def measure_points_of(args):
        from dopd.cli.measure_points import Points

        points = Points(args.points, {})
        points.keep()
        return points

    monkeypatch.setattr("dopd.cli.profile_measure.measure", measured)
    assert call(arguments(output=output)) == 0
    manifest = yaml.safe_load(output.read_text())
    origins = yaml.safe_load(manifest["metadata"]["annotations"][ORIGINS_ANNOTATION])
    assert origins == {"prefill.points": "Measured", "startup": "Default"}
    assert not (tmp_path / "n.points.json").exists()
