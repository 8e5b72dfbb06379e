"""Simulated engines over HTTP: what the profile, the flags and the faults do."""

import asyncio
import json
import logging

import pytest

from dopd_simulator.options import Timeouts

IGNORE = {"ignore_eos": True}


def sampling(tokens):
    return {"max_new_tokens": tokens, "ignore_eos": True}


async def test_the_answer_takes_as_long_as_the_profile_says(simulate):
    engine = await simulate(sim_speedup=1.0)
    body = {"input_ids": [5] * 512, "sampling_params": sampling(20)}
    _, answer = await engine.post("/generate", body)
    model = engine.server.engine.model
    expected = model.prefill_seconds(512) + 19 * model.itl_seconds(1, 522)
    assert answer["meta_info"]["e2e_latency"] == pytest.approx(expected, abs=0.01)


async def test_speedup_divides_time_and_metrics_alike(simulate):
    engine = await simulate(sim_speedup=50.0)
    await engine.post("/generate", {"input_ids": [5] * 512, "sampling_params": sampling(100)})
    load = await engine.load()
    model = engine.server.engine.model
    assert load["total_prefill_uncached_tokens"] == 512 + 1  # and the warm-up
    count, _, time_us, *_ = load["decode_moments"]
    assert count == 99
    assert time_us / count == pytest.approx(1e6 * model.itl_seconds(1, 562) / 50, rel=0.01)


async def test_a_stream_event_carries_the_interval(simulate):
    engine = await simulate(stream_interval=8)
    _, events = await engine.stream("/generate", {"text": "hello", "sampling_params": sampling(30)})
    counts = [json.loads(event)["meta_info"]["completion_tokens"] for event in events[:-1]]
    assert counts[0] == 1
    assert counts[-1] == 30
    assert set(counts) <= {1, 9, 17, 25, 30}


async def test_incremental_streams_join_to_the_whole(simulate):
    engine = await simulate(incremental_streaming_output=True)
    _, events = await engine.stream("/generate", {"text": "hello", "sampling_params": sampling(30)})
    ids = [token for event in events[:-1] for token in json.loads(event)["output_ids"]]
    _, whole = await engine.post("/generate", {"text": "hello", "sampling_params": sampling(30)})
    assert ids == whole["output_ids"]


async def test_without_ignore_eos_the_model_ends_by_itself(simulate):
    engine = await simulate(sim_output_tokens=7)
    _, answer = await engine.post("/v1/completions", {"model": "any", "prompt": "hello", "max_tokens": 50})
    assert answer["usage"]["completion_tokens"] == 7
    assert (answer["choices"][0]["finish_reason"], answer["choices"][0]["matched_stop"]) == ("stop", 2)


async def test_strings_count_by_bytes(simulate):
    engine = await simulate()
    _, answer = await engine.post("/generate", {"text": "x" * 401, "sampling_params": sampling(1)})
    assert answer["meta_info"]["prompt_tokens"] == 101


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/generate", {"text": ["a", "b"]}, "a batch of prompts"),
        ("/generate", {"text": "a", "sampling_params": {"n": 2}}, "n=2"),
        ("/v1/completions", {"prompt": [[1], [2]]}, "a batch of prompts"),
        ("/v1/completions", {"prompt": "a", "n": 3}, "n=3"),
    ],
)
async def test_what_is_not_simulated_is_refused(simulate, path, body, named):
    engine = await simulate()
    status, answer = await engine.post(path, body)
    assert status == 400
    assert named in json.dumps(answer)


async def test_a_prompt_beyond_the_kv_cache_is_refused(simulate):
    engine = await simulate(max_total_tokens=100)
    status, answer = await engine.post("/generate", {"input_ids": [5] * 94, "sampling_params": sampling(1)})
    assert status == 400
    assert "exceeds the maximum allowed length (94 tokens)" in answer["error"]["message"]


async def test_a_full_kv_cache_retracts_and_everything_ends(simulate):
    engine = await simulate(max_total_tokens=1500, schedule_conservativeness=0.1)
    bodies = [{"input_ids": [5] * 100, "sampling_params": sampling(300)} for _ in range(8)]
    answers = await asyncio.gather(*(engine.post("/generate", body) for body in bodies))
    assert [len(answer["output_ids"]) for _, answer in answers] == [300] * 8
    assert sum(answer["meta_info"]["num_retractions"] for _, answer in answers) > 0
    _, text = await engine.get("/metrics")
    assert "sglang:num_retracted_requests_total" in text
    assert (await engine.load())["num_used_tokens"] == 0


async def test_decode_queues_what_its_cache_does_not_hold(simulate_pair):
    pair = await simulate_pair(max_total_tokens=2000, max_running_requests=8, timeouts=Timeouts())
    answers = await asyncio.gather(*(pair.generate(tokens=400) for _ in range(12)))
    assert [len(answer["output_ids"]) for _, (_, answer) in answers] == [400] * 12
    assert (await pair.decode.load())["num_used_tokens"] == 0
    assert (await pair.prefill.load())["num_used_tokens"] == 0


async def test_kv_bytes_really_cross(simulate_pair):
    pair = await simulate_pair(sim_kv_bytes_per_token=1_000_000)
    (status_p, _), (status_d, _) = await pair.generate()
    assert (status_p, status_d) == (200, 200)
    _, text = await pair.prefill.get("/metrics")
    (line,) = [line for line in text.splitlines() if line.startswith("sglang:kv_transfer_total_mb_sum")]
    assert float(line.split()[-1]) == pytest.approx(3_000_000 / 2**20)


async def test_a_dead_prefill_engine_is_noticed_by_its_heartbeat(simulate_pair, caplog):
    caplog.set_level(logging.CRITICAL)
    patient = Timeouts(bootstrap_seconds=3000, waiting_seconds=3000, heartbeat_seconds=1.0)
    pair = await simulate_pair(timeouts=patient)
    assert (await pair.generate())[1][0] == 200
    waiting = asyncio.create_task(pair.decode.post("/generate", pair.room(input_ids=[5], sampling_params=sampling(2))))
    await pair.decode.until(lambda load: load["disaggregation"]["decode_transfer_queue_reqs"] == 1)
    await pair.prefill.server.engine.stop()
    status, answer = await waiting
    assert status == 500
    assert "Lost connection with prefill instance (bootstrap_addr: 127.0.0.1:" in answer["message"]


async def test_a_decode_engine_that_leaves_fails_its_requests_on_prefill(simulate_pair, caplog):
    caplog.set_level(logging.CRITICAL)
    pair = await simulate_pair()
    await pair.prefill.post("/slow_down", {"forward_sleep_time": 4.0})
    body = pair.room(input_ids=[5, 6, 7], sampling_params=sampling(4))
    prefill = asyncio.create_task(pair.prefill.post("/generate", body))
    decode = asyncio.create_task(pair.decode.post("/generate", body))
    await pair.decode.until(lambda load: load["disaggregation"]["decode_transfer_queue_reqs"] == 1)
    await pair.prefill.until(lambda load: load["disaggregation"]["prefill_bootstrap_queue_reqs"] == 0)
    await pair.decode.server.engine.stop()
    assert (await decode)[0] == 500
    status, answer = await prefill
    assert status != 200 or answer["meta_info"]["finish_reason"]["type"] == "abort"


async def test_hand_overs_fail_as_often_as_told(simulate_pair, caplog):
    caplog.set_level(logging.CRITICAL)
    pair = await simulate_pair(sim_transfer_failure_probability=1.0)
    (status_p, prefill), (status_d, decode) = await pair.generate()
    assert (status_p, status_d) == (500, 500)
    assert "Prefill transfer failed" in prefill["message"]
    assert "Decode transfer failed" in decode["message"]
    await pair.decode.until_idle()
    assert (await pair.prefill.load())["num_used_tokens"] == 0


async def test_pause_by_retraction_loses_nothing(simulate):
    engine = await simulate(sim_speedup=5.0)
    bodies = [{"input_ids": [5] * 50, "sampling_params": sampling(2000)} for _ in range(4)]
    running = [asyncio.create_task(engine.post("/generate", body)) for body in bodies]
    await engine.until(lambda load: load["num_running_reqs"] == 4)
    await engine.post("/pause_generation", {"mode": "retract"})
    scheduler = engine.server.engine.scheduler
    assert (len(scheduler.running), len(scheduler.waiting), scheduler.kv_used) == (0, 4, 0)
    await engine.post("/continue_generation", {})
    answers = await asyncio.gather(*running)
    assert [len(answer["output_ids"]) for _, answer in answers] == [2000] * 4
    assert (await engine.load())["num_used_tokens"] == 0


async def test_a_cured_peer_finds_the_second_turn(simulate_pair):
    pair = await simulate_pair(enable_pd_role_switch=True, sim_stale_rank_cache=False)
    for _ in range(2):
        assert (await pair.generate())[1][0] == 200
        for body in ({"new_role": "decode", "decode_cuda_graph_memory_gb": 0}, {"new_role": "prefill"}):
            assert (await pair.prefill.post("/pd_role_switch", body))[0] == 200
    assert (await pair.generate())[1][0] == 200


async def test_a_peer_that_had_not_met_the_engine_is_not_fooled(simulate, simulate_pair):
    pair = await simulate_pair(enable_pd_role_switch=True)
    assert (await pair.generate())[1][0] == 200
    await pair.prefill.post("/pd_role_switch", {"new_role": "decode", "decode_cuda_graph_memory_gb": 0})
    await pair.prefill.post("/pd_role_switch", {"new_role": "prefill"})
    stranger = await simulate("decode")
    assert (await type(pair)(pair.prefill, stranger).generate())[1][0] == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"disaggregation_transfer_backend": "nixl"}, "transfer backend 'nixl' does not support runtime role switch"),
        ({"enable_pd_role_switch": False}, "--enable-pd-role-switch is not set on this server"),
    ],
)
async def test_switch_refusals_of_other_launches(simulate, options, message):
    engine = await simulate("decode", **({"enable_pd_role_switch": True} | options))
    status, answer = await engine.post("/pd_role_switch", {"new_role": "prefill"})
    assert (status, answer["message"], answer["safe_to_restore"]) == (400, message, True)


async def test_an_engine_launched_as_decode_has_its_graphs(simulate):
    engine = await simulate("decode", enable_pd_role_switch=True)
    assert (await engine.post("/pd_role_switch", {"new_role": "prefill"}))[0] == 200
    assert (await engine.post("/pd_role_switch", {"new_role": "decode"}))[0] == 200


async def test_requests_during_a_switch_wait(simulate_pair):
    pair = await simulate_pair(enable_pd_role_switch=True)
    switching = asyncio.create_task(pair.decode.post("/pd_role_switch", {"new_role": "prefill"}))
    await asyncio.sleep(0.01)
    status, answer = await pair.decode.post("/pd_role_switch", {"new_role": "prefill"})
    assert (status, answer["message"]) == (400, "another role switch is already in progress")
    assert (await pair.decode.get("/health"))[0] == 200
    assert (await switching)[0] == 200


async def test_bucket_edges_follow_the_flags(simulate):
    engine = await simulate(bucket_time_to_first_token=(0.5, 1.5), bucket_inter_token_latency=(0.05,))
    await engine.stream("/generate", {"text": "hello", "sampling_params": sampling(5)})
    _, text = await engine.get("/metrics")
    edges = [line for line in text.splitlines() if line.startswith("sglang:time_to_first_token_seconds_bucket")]
    assert [line.split('le="')[1].split('"')[0] for line in edges] == ["0.5", "1.5", "+Inf"]


async def test_no_metrics_without_the_flag(simulate):
    engine = await simulate(enable_metrics=False)
    assert (await engine.get("/metrics"))[0] == 404


async def test_idle_gauges_are_as_old_as_the_last_report(simulate_pair):
    pair = await simulate_pair(sim_speedup=5.0)
    await pair.generate()
    _, text = await pair.prefill.get("/metrics")
    (line,) = [line for line in text.splitlines() if line.startswith("sglang:num_prefill_inflight_queue_reqs")]
    assert line.endswith(" 1.0")  # set when the pass became idle, while the KV cache was still being sent
    assert (await pair.prefill.load())["disaggregation"]["prefill_inflight_queue_reqs"] == 0
