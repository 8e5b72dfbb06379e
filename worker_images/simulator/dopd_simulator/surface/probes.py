"""What looks at the engine: health, readiness, identity, load and metrics."""

import datetime
import time
from typing import Any

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from dopd_simulator import SGLANG_VERSION
from dopd_simulator.server import Server
from dopd_simulator.surface.bodies import longest_input


def routes(server: Server) -> list[web.RouteDef]:
    """The routes of this module."""

    async def root(http: web.Request) -> web.Response:
        return web.json_response("SGLang is running")

    async def ready(http: web.Request) -> web.Response:
        return web.Response(status=200 if server.ready else 503)

    async def ping(http: web.Request) -> web.Response:
        return web.Response(status=200 if server.healthy else 503)

    async def health(http: web.Request) -> web.Response:
        return web.Response(status=200 if await server.check_health() else 503)

    async def model_info(http: web.Request) -> web.Response:
        options = server.options
        return web.json_response({
            "model_path": options.model_path,
            "served_model_name": options.served_model_name,
            "tokenizer_path": options.model_path,
            "is_generation": True,
            "preferred_sampling_params": None,
            "weight_version": "default",
            "load_format": "auto",
            "reasoning_parser": None,
            "tool_call_parser": None,
            "disaggregation_mode": server.recorded_role,
            "has_image_understanding": False,
            "has_audio_understanding": False,
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
        })  # fmt: skip

    async def server_info(http: web.Request) -> web.Response:
        return web.json_response(_server_info(server))

    async def models(http: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [_card(server)]})

    async def one_model(http: web.Request) -> web.Response:
        name = http.match_info["model"]
        if name == server.options.served_model_name:
            return web.json_response(_card(server))
        error = {
            "message": f"The model '{name}' does not exist", "type": "invalid_request_error", "param": "model",
            "code": "model_not_found",
        }  # fmt: skip
        return web.json_response({"error": error}, status=404)

    async def loads(http: web.Request) -> web.Response:
        started = time.perf_counter()
        include = http.query.get("include")
        sections = {part.strip() for part in include.split(",")} if include else None
        try:
            entry = server.engine.report.loads(sections)
        except ValueError:  # SGLang does not catch it either
            return web.Response(text="Internal Server Error", status=500)
        entries = [entry] if http.query.get("dp_rank", "0") == "0" else []
        server.engine.metrics.requests.loads_seconds.observe(time.perf_counter() - started)
        if http.query.get("format") == "prometheus":
            return web.Response(text=_prometheus_loads(entries), content_type="text/plain", charset="utf-8")
        return web.json_response({
            "timestamp": datetime.datetime.now(datetime.UTC).isoformat(),
            "version": SGLANG_VERSION,
            "accelerator": server.gpu,
            "num_accelerators": server.options.tp_size,
            "loads": entries,
        })  # fmt: skip

    async def metrics(http: web.Request) -> web.Response:
        encode, content_type = choose_encoder(http.headers.get("Accept", ""))
        server.count_cpu()
        body = encode(server.engine.metrics.registry)
        return web.Response(body=body, headers={"Content-Type": content_type})

    table = [
        web.get("/", root),
        web.get("/ready", ready),
        web.get("/ping", ping),
        web.get("/health", health),
        web.get("/health_generate", health),
        web.get("/model_info", model_info),
        web.get("/get_model_info", model_info),
        web.get("/server_info", server_info),
        web.get("/get_server_info", server_info),
        web.get("/v1/models", models),
        web.get("/v1/models/{model:.+}", one_model),
        web.get("/v1/loads", loads),
    ]
    return (
        [*table, web.get("/metrics", metrics), web.get("/metrics/", metrics)]
        if server.options.enable_metrics
        else table
    )


def _card(server: Server) -> dict[str, Any]:
    name = server.options.served_model_name
    return {
        "id": name, "object": "model", "created": int(time.time()), "owned_by": "sglang", "root": name, "parent": None,
        "max_model_len": server.options.context_length,
    }  # fmt: skip


def _server_info(server: Server) -> dict[str, Any]:
    options, engine = server.options, server.engine
    limits = engine.scheduler.limits
    settings: dict[str, Any] = {
        "model_path": options.model_path,
        "tokenizer_path": options.model_path,
        "served_model_name": options.served_model_name,
        "host": options.host,
        "port": options.port,
        "tp_size": options.tp_size,
        "dp_size": 1,
        "pp_size": 1,
        "page_size": options.page_size,
        "context_length": options.context_length,
        "max_running_requests": options.max_running_requests,
        "max_total_tokens": options.max_total_tokens,
        "max_prefill_tokens": 16384,
        "dtype": "auto",
        "kv_cache_dtype": "auto",
        "quantization": None,
        "chunked_prefill_size": -1 if limits.chunk_tokens is None else limits.chunk_tokens,
        "stream_interval": options.stream_interval,
        "disaggregation_mode": options.disaggregation_mode,
        "disaggregation_bootstrap_port": options.disaggregation_bootstrap_port,
        "disaggregation_transfer_backend": options.disaggregation_transfer_backend.replace("mooncake_tcp", "mooncake"),
        "enable_pd_role_switch": options.enable_pd_role_switch,
        "num_reserved_decode_tokens": options.num_reserved_decode_tokens,
        "enable_metrics": options.enable_metrics,
        "decode_log_interval": options.decode_log_interval,
        "disable_cuda_graph": options.disable_cuda_graph,
    }
    state = {
        **settings,
        "disaggregation_mode": engine.role,
        "decode_cuda_graph_bs": list(engine.graph_batches),
        "decode_cuda_graph_memory_gb": engine.graph_memory_gb,
        "effective_max_running_requests_per_dp": limits.max_running_requests,
        "last_gen_throughput": engine.report.gen_throughput,
        "world_size": options.tp_size,
        "memory_usage": engine.report.memory_usage(),
    }
    return {
        **settings,
        "launch_command": "dopd-simulator",
        "status": "ready",
        "max_total_num_tokens": limits.kv_tokens,
        "max_req_input_len": longest_input(options.context_length, limits.kv_tokens),
        "startup_time": server.startup_time,
        "internal_states": [state],
        "version": SGLANG_VERSION,
        "frontend": "python",
    }


def _prometheus_loads(entries: list[dict[str, Any]]) -> str:
    lines: list[str] = []
    prefixes = {"disaggregation": "disagg", "speculative": "spec"}
    for entry in entries:
        for key, value in entry.items():
            part = value if isinstance(value, dict) else {key: value}
            prefix = f"{prefixes.get(key, key)}_" if isinstance(value, dict) else ""
            for name, number in part.items():
                if isinstance(number, int | float) and name != "dp_rank":
                    lines.append(f"# TYPE sglang_{prefix}{name} gauge")
                    lines.append(f'sglang_{prefix}{name}{{dp_rank="{entry["dp_rank"]}"}} {number}')
    return "\n".join(lines) + "\n"
