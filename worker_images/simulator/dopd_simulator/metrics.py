"""The metrics of SGLang 0.5.23 that a planner or a person could read, under their names, types, labels and buckets.

Two groups with different labels, as in SGLang (observability/metrics_collector.py): those of the scheduler
(`engine_type` is `dynamic` once role switching is on) and those of the HTTP side (`engine_type` is the role at start,
for good). Gauges show the moment of the last report, not of the scrape: see report.py.
"""

import os
from collections.abc import Mapping
from itertools import pairwise

from prometheus_client import CollectorRegistry

from dopd_simulator.metric_store import Counter, Families, Gauge, Histogram
from dopd_simulator.options import Options
from dopd_simulator.request import Request

TTFT_EDGES = (0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400)
ITL_EDGES = (
    0.002, 0.004, 0.006, 0.008, 0.010, 0.015, 0.020, 0.025, 0.030, 0.035, 0.040, 0.060, 0.080,
    0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8,
)  # fmt: skip
E2E_EDGES = (*TTFT_EDGES, 600, 1200, 1800, 2400)
TOKEN_EDGES = (
    100, 300, 500, 700, 1000, 1500, *range(2000, 10001, 1000), *range(12500, 30001, 2500), 35000, 40000, 60000, 80000,
    100000, 200000, 300000, 400000, 600000, 800000, 1000000, 1100000,
)  # fmt: skip
QUEUE_EDGES = (
    0, 0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.5, 1, 2, 3, 4, 5, 10, 15, 20, *range(30, 101, 10), *range(200, 1001, 100),
    1200, 1400, 1600, 1800, 2000, 2500, 3000,
)  # fmt: skip
STAGE_EDGES = tuple(0.001 * 1.62**step for step in range(30))
TRANSFER_MS_EDGES = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500)

GAUGES = {
    "num_running_reqs": "Requests in the batch.",
    "num_queue_reqs": "Requests waiting for a place in a batch.",
    "num_grammar_queue_reqs": "Requests waiting for a grammar (none here).",
    "gen_throughput": "Output tokens per second since the last report.",
    "cache_hit_rate": "Share of prompt tokens found in the prefix cache (none here).",
    "decode_sum_seq_lens": "Tokens of context of all running requests.",
    "token_usage": "Share of the KV cache in use.",
    "full_token_usage": "Share of the KV cache of full attention in use.",
    "swa_token_usage": "Share of the sliding-window cache in use (none here).",
    "mamba_usage": "Share of the state cache in use (none here).",
    "num_used_tokens": "Tokens in the KV cache.",
    "kv_available_tokens": "Free tokens of the KV cache.",
    "kv_evictable_tokens": "Tokens that only the prefix cache holds (none here).",
    "kv_used_tokens": "Tokens of the KV cache held by requests.",
    "swa_available_tokens": "Free tokens of the sliding-window cache (none here).",
    "swa_evictable_tokens": "Evictable tokens of the sliding-window cache (none here).",
    "swa_used_tokens": "Used tokens of the sliding-window cache (none here).",
    "mamba_available_tokens": "Free slots of the state cache (none here).",
    "mamba_evictable_tokens": "Evictable slots of the state cache (none here).",
    "mamba_used_tokens": "Used slots of the state cache (none here).",
    "spec_accept_length": "Accepted length of speculative decoding (off).",
    "spec_accept_rate": "Acceptance rate of speculative decoding (off).",
    "spec_block_accept_length": "Accepted length of a block of speculative decoding (off).",
    "spec_cap_length": "Capped length of speculative decoding (off).",
    "spec_num_draft_tokens": "Draft tokens of speculative decoding (off).",
    "spec_num_steps": "Steps of speculative decoding (off).",
    "num_unique_running_routing_keys": "Routing keys of the running requests (none here).",
    "num_prefill_bootstrap_queue_reqs": "Prefill: requests whose decode side is not known yet.",
    "num_prefill_inflight_queue_reqs": "Prefill: requests whose KV cache is being sent.",
    "num_decode_prealloc_queue_reqs": "Decode: requests without KV cache.",
    "num_decode_transfer_queue_reqs": "Decode: requests whose KV cache is on its way.",
    "num_decode_host_receive_queue_reqs": "Decode: requests received in host memory (none here).",
    "num_decode_deferred_kv_release_reqs": "Decode: failed requests whose KV cache prefill may still write.",
    "pending_prealloc_token_usage": "Share of the KV cache that waits to be reserved.",
    "prealloc_full_token_usage": "Share of the KV cache reserved for transfers.",
    "prealloc_swa_token_usage": "Share of the sliding-window cache reserved for transfers (none here).",
    "utilization": "Unusable in SGLang: -1 on prefill, 0 elsewhere.",
    "fwd_occupancy": "Share of time in forward passes; not a number without the device timer.",
    "new_token_ratio": "Share of the allowed output that admission reserves.",
    "is_cuda_graph": "Whether decode runs in a graph.",
}
"""Gauges set at every report."""

CONSTANTS = {
    "max_total_num_tokens": "Capacity of the KV cache, tokens.",
    "weight_memory_usage_gb": "Memory of the weights.",
    "kv_cache_memory_usage_gb": "Memory of the KV cache.",
    "page_size": "Tokens of one page of the KV cache.",
    "num_pages": "Pages of the KV cache.",
    "context_len": "Longest prompt plus output, tokens.",
    "startup_available_gpu_memory_gb": "Free GPU memory after the start.",
}
"""Gauges set once."""

ROUTING_KEY_EDGES = ("0", "1", "2", "3", "5", "7", "10", "20", "50", "100", "200", "+Inf")
SYNC_WAIT_EDGES = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
IMBALANCE_EDGES = (1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10, 15, 20, 30, 45, 60)
SCHEDULER_CATEGORIES = (
    "get_next_batch_to_run", "idle", "other", "process_batch_result", "process_input_requests", "process_queue",
    "recv_requests", "run_batch", "sanity_check_cache",
)  # fmt: skip
"""What SGLang's scheduler spends its time on; a simulated one computes or is idle."""

GRAPH_PHASES = ("prefill", "decode", "target_verify", "draft_prefill", "draft_decode", "draft_extend")
"""Phases for which SGLang captures graphs."""

ENGINE_TYPES = {"prefill": "prefill", "decode": "decode", "null": "unified"}


class SchedulerMetrics:
    """What SGLang's scheduler process reports."""

    def __init__(self, families: Families, options: Options) -> None:
        switchable = options.enable_pd_role_switch
        constant = {
            "model_name": options.served_model_name,
            "engine_type": "dynamic" if switchable else ENGINE_TYPES[options.disaggregation_mode],
            "tp_rank": "0",
            "pp_rank": "0",
            "moe_ep_rank": "0",
            **options.extra_metric_labels,
        }

        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return families.add(Counter(f"sglang:{name}", documentation, constant, labels))

        def histogram(name: str, documentation: str, edges: tuple[float, ...], *labels: str) -> Histogram:
            return families.add(Histogram(f"sglang:{name}", documentation, constant, edges, labels))

        self.gauges = {
            name: families.add(Gauge(f"sglang:{name}", text, constant)) for name, text in (GAUGES | CONSTANTS).items()
        }
        # These two keep the process id in SGLang, whose multi-process gauges do unless told otherwise.
        for name, text in {
            "num_retracted_reqs": "Requests retracted since the last report.",
            "num_paused_reqs": "Requests paused since the last report.",
        }.items():
            gauge = families.add(Gauge(f"sglang:{name}", text, {**constant, "pid": str(os.getpid())}))
            self.gauges[name] = gauge
        self.graph_memory_gb = families.add(
            Gauge("sglang:graph_memory_usage_gb", "Memory of captured graphs.", constant, ["phase"])
        )
        self.retracted_total = counter("num_retracted_requests", "Requests retracted.")
        self.retracted_input_total = counter("num_retracted_input_tokens", "Prompt tokens of retracted requests.")
        self.retracted_output_total = counter("num_retracted_output_tokens", "Output tokens of retracted requests.")
        self.bootstrap_failed = counter("num_bootstrap_failed_reqs", "Requests that failed before the transfer.")
        self.transfer_failed = counter("num_transfer_failed_reqs", "Requests that failed during the transfer.")
        self.realtime_tokens = counter("realtime_tokens", "Tokens processed, by kind, as they are.", "mode")
        self.effective_prefill_tokens = counter(
            "prefill_effective_tokens", "Prompt tokens by where they came from, without repeats.", "mode"
        )
        for mode in ("input", "device_hit", "host_hit", "storage_hit"):
            self.effective_prefill_tokens.inc(0, mode)
        self.graph_passes = counter("cuda_graph_passes", "Forward passes by use of a graph.", "mode")
        self.idle_seconds = counter("scheduler_idle_seconds", "Wall time without work.")
        self.idle_seconds.inc(0)
        self.queue_seconds = histogram("queue_time_seconds", "Wait before the first forward pass.", QUEUE_EDGES)
        self.stage_seconds = histogram("per_stage_req_latency_seconds", "Time in each stage.", STAGE_EDGES, "stage")
        self.transfer_speed = histogram(
            "kv_transfer_speed_gb_s", "Speed of KV transfers.", (0.1, 0.5, 1, 5, 10, 25, 50, 100, 200, 400)
        )
        self.transfer_ms = histogram("kv_transfer_latency_ms", "Time of KV transfers.", (*TRANSFER_MS_EDGES, 5000))
        self.transfer_bootstrap_ms = histogram("kv_transfer_bootstrap_ms", "Wait for decode.", TRANSFER_MS_EDGES)
        self.transfer_alloc_ms = histogram("kv_transfer_alloc_ms", "Wait for allocation.", TRANSFER_MS_EDGES)
        self.transfer_mb = histogram(
            "kv_transfer_total_mb", "Size of KV transfers.", (1, 5, 10, 50, 100, 500, 1000, 5000, 10000)
        )

        self.category_seconds = counter(
            "scheduler_stage_seconds", "Time of the scheduler, by what it does.", "category", "forward_overlap"
        )
        for category in SCHEDULER_CATEGORIES:
            self.category_seconds.inc(0, category, "none")
        self.cpu_seconds = counter("scheduler_process_cpu_seconds", "CPU time of the scheduler's process.")
        self.cpu_seconds.inc(0)  # one process here: see HttpMetrics.cpu_seconds
        self._absent(families, constant)

    def _absent(self, families: Families, constant: Mapping[str, str]) -> None:
        """Families of features that are off: they are shown, and stay at zero."""
        for name, text, label, values in (
            (
                "dp_attention_pairs",
                "Pairs of ranks of attention in parallel (off).",
                "kind",
                ("imbalance", "scheduled"),
            ),
            ("dp_attention_tokens", "Tokens of attention in parallel (off).", "kind", ("imbalance", "scheduled")),
            ("dp_attention_steps", "Steps of attention in parallel (off).", "rank_state", ("active", "idle")),
        ):
            off = families.add(Counter(f"sglang:{name}", text, constant, [label]))
            for value in values:
                off.inc(0, value)
        for name, text, edges in (
            ("dp_attention_sync_wait_seconds", "Waits of attention in parallel (off).", SYNC_WAIT_EDGES),
            ("dp_attention_token_imbalance_ratio", "Imbalance of attention in parallel (off).", IMBALANCE_EDGES),
        ):
            families.add(Histogram(f"sglang:{name}", text, constant, edges)).show()
        for name, text in (
            ("routing_key_running_req_count", "Routing keys by their running requests (none here)."),
            ("routing_key_all_req_count", "Routing keys by their requests (none here)."),
        ):
            keys = families.add(Gauge(f"sglang:{name}", text, constant, ["gt", "le"]))
            for above, upto in pairwise(ROUTING_KEY_EDGES):
                keys.set(0, above, upto)


class RequestMetrics:
    """What SGLang's HTTP side (tokenizer manager) reports about requests."""

    def __init__(self, families: Families, options: Options) -> None:
        constant = {
            "model_name": options.served_model_name,
            "engine_type": ENGINE_TYPES[options.disaggregation_mode],
            **options.extra_metric_labels,
        }
        self._by_priority = options.enable_priority_scheduling
        of_each = ["priority"] if self._by_priority else []
        streaming = ["is_streaming", *of_each]

        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return families.add(Counter(f"sglang:{name}", documentation, constant, labels))

        def histogram(name: str, documentation: str, edges: tuple[float, ...], *labels: str) -> Histogram:
            return families.add(Histogram(f"sglang:{name}", documentation, constant, edges, labels))

        itl_edges = options.bucket_inter_token_latency or ITL_EDGES
        self.startup_seconds = families.add(
            Gauge("sglang:startup_time_seconds", "Time of each phase of the start.", constant, ["phase"])
        )
        self.startup_graph_seconds = families.add(
            Gauge("sglang:startup_cuda_graph_time_seconds", "Time of graph capture.", constant, ["phase"])
        )
        self.prompt_tokens = counter("prompt_tokens", "Prompt tokens of finished requests.", *streaming)
        self.generation_tokens = counter("generation_tokens", "Output tokens of finished requests.", *streaming)
        self.requests = counter("num_requests", "Finished requests.", *streaming)
        self.aborted = counter("num_aborted_requests", "Requests that a client gave up.")
        self.ttft_seconds = histogram(
            "time_to_first_token_seconds", "Time to the first token.",
            options.bucket_time_to_first_token or TTFT_EDGES, *streaming,
        )  # fmt: skip
        self.itl_seconds = histogram("inter_token_latency_seconds", "Time between tokens.", itl_edges, *of_each)
        self.tpot_seconds = histogram(
            "request_time_per_output_token_seconds", "Mean time between the tokens of a request.", itl_edges, *streaming
        )
        self.e2e_seconds = histogram(
            "e2e_request_latency_seconds", "Time of whole requests.",
            options.bucket_e2e_request_latency or E2E_EDGES, *streaming,
        )  # fmt: skip
        self.prompt_histogram = histogram("prompt_tokens_histogram", "Prompt length.", TOKEN_EDGES, *of_each)
        self.uncached_histogram = histogram(
            "uncached_prompt_tokens_histogram", "Computed prompt length.", TOKEN_EDGES, *of_each
        )
        self.generation_histogram = histogram("generation_tokens_histogram", "Output length.", TOKEN_EDGES, *of_each)
        self.loads_seconds = histogram(
            "get_loads_duration_seconds", "Time to answer /v1/loads.",
            (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1),
        )  # fmt: skip

    def of(self, request: Request, *values: str) -> tuple[str, ...]:
        """Label values of a request, after those of a metric's own labels."""
        if not self._by_priority:
            return values
        return (*values, "" if request.priority is None else str(request.priority))


class HttpMetrics:
    """Requests and answers by endpoint (observability/http_request_metrics.py)."""

    def __init__(self, families: Families) -> None:
        none: Mapping[str, str] = {}
        self.requests = families.add(Counter("sglang:http_requests", "HTTP requests.", none, ["endpoint", "method"]))
        self.responses = families.add(
            Counter("sglang:http_responses", "HTTP answers.", none, ["endpoint", "status_code", "method"])
        )
        self.active = families.add(
            Gauge("sglang:http_requests_active", "HTTP requests being answered.", none, ["endpoint", "method"])
        )
        self.cpu_seconds = families.add(
            Counter("sglang:process_cpu_seconds", "CPU time of the process.", none, ["component"])
        )
        self.cpu_seconds.inc(0, "detokenizer")  # one process here, which counts as the tokenizer's
        families.add(Gauge("sglang:routing_keys_active", "Routing keys of requests (none here).", none)).set(0)
        families.add(Counter("sglang:failed_session_recoveries", "Transfer sessions mended (none).", none)).inc(0)


class Metrics:
    """All metrics of one engine, with the registry to show them from."""

    def __init__(self, options: Options) -> None:
        self.families = families = Families()
        self.scheduler = SchedulerMetrics(families, options)
        self.requests = RequestMetrics(families, options)
        self.http = HttpMetrics(families)
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(families)
