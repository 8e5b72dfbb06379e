"""Names, types, labels and buckets of /metrics, and when what is counted."""

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

SCHEDULER = {"model_name", "engine_type", "tp_rank", "pp_rank", "moe_ep_rank"}
REQUEST = {"model_name", "engine_type"}
STREAMING = REQUEST | {"is_streaming"}
GAUGES = [
    "num_running_reqs",
    "num_queue_reqs",
    "num_grammar_queue_reqs",
    "gen_throughput",
    "cache_hit_rate",
    "decode_sum_seq_lens",
    "token_usage",
    "full_token_usage",
    "swa_token_usage",
    "mamba_usage",
    "num_used_tokens",
    "kv_available_tokens",
    "kv_evictable_tokens",
    "kv_used_tokens",
    "spec_accept_length",
    "spec_accept_rate",
    "num_prefill_bootstrap_queue_reqs",
    "num_prefill_inflight_queue_reqs",
    "num_decode_prealloc_queue_reqs",
    "num_decode_transfer_queue_reqs",
    "num_decode_host_receive_queue_reqs",
    "num_decode_deferred_kv_release_reqs",
    "pending_prealloc_token_usage",
    "prealloc_full_token_usage",
    "utilization",
    "fwd_occupancy",
    "new_token_ratio",
    "is_cuda_graph",
    "max_total_num_tokens",
    "weight_memory_usage_gb",
    "kv_cache_memory_usage_gb",
    "page_size",
    "num_pages",
    "context_len",
    "startup_available_gpu_memory_gb",
]


async def scrape(engine):
    status, text = await engine.get("/metrics")
    assert status == 200
    return {family.name.removeprefix("sglang:"): family for family in text_string_to_metric_families(text)}


def labels(family):
    return {frozenset(sample.labels) - {"le"} for sample in family.samples}


def edges(family):
    return sorted({float(sample.labels["le"]) for sample in family.samples if "le" in sample.labels})[:-1]


def total(families, name, suffix="_total", **wanted):
    if name not in families:
        return 0.0
    return sum(
        sample.value
        for sample in families[name].samples
        if sample.name == f"sglang:{name}{suffix}" and wanted.items() <= sample.labels.items()
    )


async def test_gauges(each):
    """observability/metrics_collector.py: SchedulerMetricsCollector."""
    await each.get("/health")
    families = await scrape(each)
    for name in GAUGES:
        assert families[name].type == "gauge", name
        assert labels(families[name]) == {frozenset(SCHEDULER)}, name
    assert labels(families["num_retracted_reqs"]) == {frozenset(SCHEDULER | {"pid"})}
    assert labels(families["graph_memory_usage_gb"]) == {frozenset(SCHEDULER | {"phase"})}
    assert labels(families["startup_time_seconds"]) == {frozenset(REQUEST | {"phase"})}


async def test_engine_type_with_role_switching(each, role):
    """metrics_collector.py: init_new says dynamic, tokenizer_metric_labels the role of the start."""
    families = await scrape(each)
    assert {sample.labels["engine_type"] for sample in families["token_usage"].samples} == {"dynamic"}
    assert {sample.labels["engine_type"] for sample in families["startup_time_seconds"].samples} == {role}


async def test_engine_type_without_disaggregation(regular):
    """disaggregation/utils.py: to_engine_type."""
    families = await scrape(regular)
    assert {sample.labels["engine_type"] for sample in families["token_usage"].samples} == {"unified"}


async def test_request_families(regular):
    """metrics_collector.py: TokenizerMetricsCollector, with the default buckets."""
    body = {"input_ids": [5, 6, 7], "sampling_params": {"max_new_tokens": 8, "ignore_eos": True}}
    await regular.post("/generate", body)
    await regular.stream("/generate", body)
    families = await scrape(regular)
    expected = {
        "prompt_tokens": ("counter", STREAMING), "generation_tokens": ("counter", STREAMING),
        "num_requests": ("counter", STREAMING), "time_to_first_token_seconds": ("histogram", STREAMING),
        "inter_token_latency_seconds": ("histogram", REQUEST),
        "request_time_per_output_token_seconds": ("histogram", STREAMING),
        "e2e_request_latency_seconds": ("histogram", STREAMING), "prompt_tokens_histogram": ("histogram", REQUEST),
        "uncached_prompt_tokens_histogram": ("histogram", REQUEST),
        "generation_tokens_histogram": ("histogram", REQUEST), "queue_time_seconds": ("histogram", SCHEDULER),
        "per_stage_req_latency_seconds": ("histogram", SCHEDULER | {"stage"}),
        "realtime_tokens": ("counter", SCHEDULER | {"mode"}),
        "prefill_effective_tokens": ("counter", SCHEDULER | {"mode"}),
        "cuda_graph_passes": ("counter", SCHEDULER | {"mode"}), "scheduler_idle_seconds": ("counter", SCHEDULER),
        "http_requests": ("counter", {"endpoint", "method"}), "http_requests_active": ("gauge", {"endpoint", "method"}),
        "http_responses": ("counter", {"endpoint", "method", "status_code"}),
        "process_cpu_seconds": ("counter", {"component"}),
    }  # fmt: skip
    for name, (kind, names) in expected.items():
        assert families[name].type == kind, name
        assert labels(families[name]) == {frozenset(names)}, name
    assert edges(families["time_to_first_token_seconds"]) == [
        0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400,
    ]  # fmt: skip
    assert edges(families["inter_token_latency_seconds"]) == [
        0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.06, 0.08, 0.1, 0.2, 0.4, 0.6, 0.8,
        1, 2, 4, 6, 8,
    ]  # fmt: skip
    assert edges(families["queue_time_seconds"])[:4] == [0, 0.001, 0.005, 0.01]
    assert edges(families["per_stage_req_latency_seconds"])[0] == 0.001
    assert len(edges(families["per_stage_req_latency_seconds"])) == 30
    assert edges(families["prompt_tokens_histogram"])[:2] == [100, 300]


async def test_tokens_are_counted_on_both_sides(pair):
    """tokenizer_manager.py: collect_metrics at the finish, whatever the role."""
    before = [await scrape(pair.prefill), await scrape(pair.decode)]
    await pair.generate(tokens=6)
    after = [await scrape(pair.prefill), await scrape(pair.decode)]

    def grown(name):
        return [total(b, name) - total(a, name) for a, b in zip(before, after, strict=True)]

    assert grown("num_requests") == [1, 1]
    assert grown("prompt_tokens") == [3, 3]
    assert grown("generation_tokens") == [1, 6]


async def test_ttft_is_observed_on_decode_only(pair):
    """tokenizer_manager.py: collect_metrics leaves prefill out."""
    before = total(await scrape(pair.decode), "time_to_first_token_seconds", "_count")
    await pair.generate()
    after = await scrape(pair.decode)
    assert total(after, "time_to_first_token_seconds", "_count") == before + 1
    prefill = await scrape(pair.prefill)
    for name in ("time_to_first_token_seconds", "inter_token_latency_seconds", "request_time_per_output_token_seconds"):
        assert name not in prefill


async def test_ttft_without_streaming_is_the_whole_time(pair):
    """output_streamer.accept: nothing is reported before the 50th token or the end."""
    names = [("time_to_first_token_seconds", "_sum"), ("e2e_request_latency_seconds", "_sum")]
    before = await scrape(pair.decode)
    await pair.generate(tokens=8)
    after = await scrape(pair.decode)
    ttft, e2e = (
        total(after, name, suffix, is_streaming="false") - total(before, name, suffix, is_streaming="false")
        for name, suffix in names
    )
    assert ttft > 0.9 * e2e


async def test_decode_counts_one_token_more_for_each_answer(pair):
    """metrics_reporter.py: report_decode_stats; the step that is launched before the end is known counts too."""
    for tokens, counted in ((8, 8), (1, 0)):
        await pair.decode.until_idle()
        before = total(await scrape(pair.decode), "realtime_tokens", mode="decode")
        await asyncio.gather(*(pair.generate(tokens=tokens) for _ in range(3)))
        await pair.decode.until_idle()
        assert total(await scrape(pair.decode), "realtime_tokens", mode="decode") == before + 3 * counted


@pytest.mark.parametrize(("stream", "status"), [(True, "200"), (False, "400")])
async def test_a_client_that_leaves_is_counted(regular, stream, status):
    """observability/http_request_metrics.py: what the handler had answered by then, or would."""
    where = {"endpoint": "/generate", "status_code": status}
    before = total(await scrape(regular), "http_responses", **where)
    body = {"input_ids": [5], "sampling_params": {"max_new_tokens": 20000, "ignore_eos": True}, "stream": stream}
    leaving = asyncio.create_task(regular.post("/generate", body))
    await regular.until(lambda load: load["num_running_reqs"] == 1)
    leaving.cancel()
    await regular.until_idle()
    for _ in range(100):
        if (after := total(await scrape(regular), "http_responses", **where)) > before:
            break
        await asyncio.sleep(0.1)
    assert after == before + 1


async def test_transfers_are_observed_on_prefill(pair):
    """observability/req_time_stats.py: compute_and_observe_kv_transfer_metrics."""
    await pair.generate()
    prefill, decode = await scrape(pair.prefill), await scrape(pair.decode)
    for name in ("kv_transfer_latency_ms", "kv_transfer_speed_gb_s", "kv_transfer_total_mb"):
        assert labels(prefill[name]) == {frozenset(SCHEDULER)}
        assert name not in decode
    for name in ("kv_transfer_bootstrap_ms", "kv_transfer_alloc_ms"):
        assert labels(prefill[name]) == labels(decode[name]) == {frozenset(SCHEDULER)}
    assert edges(prefill["kv_transfer_latency_ms"]) == [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000]
    assert edges(prefill["kv_transfer_speed_gb_s"]) == [0.1, 0.5, 1, 5, 10, 25, 50, 100, 200, 400]


async def test_stages(pair):
    """observability/req_time_stats.py: RequestStage."""
    await pair.generate()

    async def stages(engine):
        return {sample.labels["stage"] for sample in (await scrape(engine))["per_stage_req_latency_seconds"].samples}

    assert {"prefill_bootstrap", "prefill_forward", "prefill_transfer_kv_cache"} <= await stages(pair.prefill)
    assert {"decode_prepare", "decode_bootstrap", "decode_transferred", "decode_waiting"} <= await stages(pair.decode)


async def test_open_metrics(each):
    """utils/common.py: add_prometheus_middleware uses prometheus_client's negotiation."""
    await each.get("/health")
    accept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"
    async with each.http.get(each.url + "/metrics", headers={"Accept": accept}) as answer:
        assert answer.content_type == "application/openmetrics-text"
        text = await answer.text()
    assert "\nsglang:num_running_reqs{" in text
    assert text.endswith("# EOF\n")


async def test_utilization_is_unusable(each, role):
    """metrics_reporter.py: _calculate_utilization."""
    await each.get("/health")
    families = await scrape(each)
    assert total(families, "utilization", "") == (-1 if role == "prefill" else 0)
