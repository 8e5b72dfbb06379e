"""Health, readiness, identity and load."""

import asyncio
import itertools
import json


async def test_ready_when_up(each):
    """entrypoints/http_server.py: ready."""
    assert await each.get("/ready") == (200, "")


async def test_health_generates_a_token_without_a_peer(each):
    """entrypoints/http_server.py: health_generate; the request carries FAKE_BOOTSTRAP_HOST."""
    assert (await each.get("/health"))[0] == 200
    assert (await each.get("/health_generate"))[0] == 200


async def test_health_is_not_counted(regular):
    """managers/tokenizer_manager.py: collect_metrics is skipped for log_metrics=False."""
    _, before = await regular.get("/metrics")
    await regular.get("/health")
    _, after = await regular.get("/metrics")

    def counts(text):
        return [line for line in text.splitlines() if line.startswith("sglang:num_requests_total")]

    assert counts(before) == counts(after)


async def test_root_and_unknown_path(regular):
    """entrypoints/http_server.py: sglang_root; FastAPI's 404."""
    assert await regular.get("/") == (200, '"SGLang is running"')
    status, text = await regular.get("/no/such/path")
    assert (status, json.loads(text)) == (404, {"detail": "Not Found"})


async def test_models(regular):
    """entrypoints/http_server.py: available_models, retrieve_model."""
    listed = await regular.json("/v1/models")
    assert listed["object"] == "list"
    card = listed["data"][0]
    assert set(card) == {"id", "object", "created", "owned_by", "root", "parent", "max_model_len"}
    assert card["owned_by"] == "sglang"
    assert (await regular.json(f"/v1/models/{card['id']}"))["id"] == card["id"]
    status, text = await regular.get("/v1/models/nobody")
    assert status == 404
    assert json.loads(text)["error"]["code"] == "model_not_found"


async def test_model_info(each, role):
    """entrypoints/http_server.py: model_info."""
    info = await each.json("/model_info")
    assert info["disaggregation_mode"] == role
    assert info["is_generation"] is True
    assert {"model_path", "served_model_name", "tokenizer_path", "weight_version", "architectures"} <= set(info)
    assert await each.json("/get_model_info") == info


async def test_server_info(each, role):
    """entrypoints/http_server.py: server_info; scheduler_components/internal_state.py."""
    info = await each.json("/server_info")
    assert info["version"] == "0.5.23"
    assert info["status"] == "ready"
    assert info["disaggregation_mode"] == role
    assert info["max_total_num_tokens"] > 0
    assert {"load_weight", "kv_cache_allocation", "scheduler_e2e", "cuda_graph", "tokenizer_e2e"} <= set(
        info["startup_time"]
    )
    state = info["internal_states"][0]
    assert state["disaggregation_mode"] == role
    assert state["effective_max_running_requests_per_dp"] > 0
    assert {"memory_usage", "decode_cuda_graph_bs", "decode_cuda_graph_memory_gb", "world_size"} <= set(state)


async def test_longest_input_follows_context_and_kv_cache(regular):
    """managers/tp_worker.py: max_req_input_len is the smaller of both, less six."""
    info = await regular.json("/server_info")
    context = (await regular.json("/v1/models"))["data"][0]["max_model_len"]
    assert info["max_req_input_len"] == min(context, info["max_total_num_tokens"]) - 6


async def test_loads_has_these_fields(each, role):
    """managers/load_snapshot.py: LoadSnapshot; entrypoints/v1_loads.py."""
    answer = await each.json("/v1/loads")
    assert set(answer) == {"timestamp", "version", "accelerator", "num_accelerators", "loads"}
    (load,) = answer["loads"]
    assert set(load) == {
        "timestamp", "dp_rank", "num_running_reqs", "num_waiting_reqs", "num_waiting_uncached_tokens",
        "num_used_tokens", "num_total_tokens", "num_active_tokens", "num_prealloc_ready_tokens",
        "max_total_num_tokens", "max_running_requests", "token_usage", "gen_throughput", "cache_hit_rate",
        "utilization", "total_prefill_uncached_tokens", "total_prefill_busy_us", "decode_moments", "memory",
        "disaggregation", "queues",
    }  # fmt: skip
    assert load["disaggregation"]["mode"] == role
    assert set(load["disaggregation"]) == {
        "mode", "prefill_bootstrap_queue_reqs", "prefill_inflight_queue_reqs", "decode_prealloc_queue_reqs",
        "decode_transfer_queue_reqs", "decode_retracted_queue_reqs", "kv_transfer_speed_gb_s", "kv_transfer_latency_ms",
    }  # fmt: skip
    assert set(load["queues"]) == {"waiting", "grammar", "paused", "retracted", "prealloc_ready"}
    assert set(load["memory"]) == {"weight_gb", "kv_cache_gb", "graph_gb", "token_capacity"}
    assert load["utilization"] == (-1 if role == "prefill" else 0)


async def test_loads_include(each):
    """managers/load_snapshot.py: to_dict; an unknown section is an uncaught error."""
    (load,) = (await each.json("/v1/loads", include="core"))["loads"]
    assert not {"memory", "disaggregation", "queues"} & set(load)
    (load,) = (await each.json("/v1/loads", include="disagg,queues"))["loads"]
    assert {"disaggregation", "queues"} <= set(load)
    assert "memory" not in load
    assert (await each.get("/v1/loads", include="nonsense"))[0] == 500


async def test_loads_in_prometheus_format(each):
    """entrypoints/v1_loads.py: _format_loads_prometheus."""
    status, text = await each.get("/v1/loads", format="prometheus")
    assert status == 200
    assert 'sglang_num_running_reqs{dp_rank="0"} 0' in text
    assert 'sglang_disagg_decode_prealloc_queue_reqs{dp_rank="0"} 0' in text


async def test_prefill_sums_grow(pair):
    """managers/scheduler.py: total_prefill_uncached_tokens, total_prefill_busy_us count on prefill only."""
    before, decode_before = await pair.prefill.load(), await pair.decode.load()
    await pair.generate()
    tokens = before["total_prefill_uncached_tokens"] + 3
    after = await pair.prefill.until(lambda load: load["total_prefill_uncached_tokens"] == tokens)
    assert after["total_prefill_busy_us"] > before["total_prefill_busy_us"]
    assert after["decode_moments"] == before["decode_moments"]
    decode_after = await pair.decode.load()
    assert decode_after["total_prefill_uncached_tokens"] == decode_before["total_prefill_uncached_tokens"]


async def test_the_last_transfer_shows_with_the_next_report(pair):
    """metrics_reporter.py: what /v1/loads tells of transfers is as old as the gauges."""
    await pair.generate()
    load = await pair.prefill.until(lambda load: load["disaggregation"]["kv_transfer_latency_ms"] > 0)
    assert load["disaggregation"]["kv_transfer_speed_gb_s"] > 0
    assert (await pair.decode.load())["disaggregation"]["kv_transfer_latency_ms"] == 0


async def test_decode_moments_grow(pair):
    """managers/scheduler.py: _accumulate_decode_moment: n, sum b, sum t, sum b^2, sum b*t, sum of tokens."""

    def moments(load):
        return load["decode_moments"] or [0.0] * 6

    before = moments(await pair.decode.load())
    await pair.generate(tokens=12)
    # Steps that follow a gap are left out, so not all eleven count.
    load = await pair.decode.until(lambda load: moments(load)[0] >= before[0] + 5)
    count, batch, time_us, batch_squared, batch_time, tokens = (
        b - a for a, b in zip(before, moments(load), strict=True)
    )
    assert batch == batch_squared == tokens == count  # one request at a time
    assert time_us == batch_time > 0


async def test_loads_do_not_show_a_first_prefill_pass(pair):
    """managers/scheduler.py: publish_load_snapshot; the snapshot is renewed when a pass ends, or when nothing runs."""
    await pair.prefill.until_idle()
    await pair.prefill.slow_down(2.0)
    seen = []
    try:
        body = pair.room(input_ids=[5] * 500, sampling_params={"max_new_tokens": 2, "ignore_eos": True})
        decode = asyncio.create_task(pair.decode.post("/generate", body))
        await pair.decode.until(lambda load: load["num_waiting_reqs"] == 1)
        prefill = asyncio.create_task(pair.prefill.post("/generate", body))
        await asyncio.sleep(0.5)
        while not prefill.done():
            seen.append(await pair.prefill.load())
            await asyncio.sleep(0.05)
        assert (await prefill)[0] == (await decode)[0] == 200
    finally:
        await pair.prefill.slow_down(None)
    assert seen
    assert {(load["num_running_reqs"], load["num_waiting_reqs"]) for load in seen} == {(0, 0)}


async def test_loads_are_renewed_each_fifteen_decode_steps(regular):
    """managers/load_snapshot.py: publish_interval (--load-snapshot-publish-interval 15)."""
    await regular.slow_down(0.02)
    steps = []
    try:
        body = {"input_ids": [5], "sampling_params": {"max_new_tokens": 100, "ignore_eos": True}}
        answer = asyncio.create_task(regular.stream("/generate", body))
        await regular.until(lambda load: load["num_running_reqs"] == 1)
        while not answer.done():
            load = await regular.load()
            if load["num_running_reqs"] == 1:
                steps.append(load["decode_moments"][0])
            await asyncio.sleep(0.01)
        assert (await answer)[0] == 200
    finally:
        await regular.slow_down(None)
    # The first are fewer: a step that follows a gap is not counted. A busy machine may miss one.
    first, *others = (later - earlier for earlier, later in itertools.pairwise(dict.fromkeys(steps)))
    assert 0 < first <= 15
    assert others
    assert all(more % 15 == 0 for more in others)
