"""Command line: SGLang's own flags under their own names, and `--sim-*` for what only a simulator has.

The operator builds one argument list for both engines, so a flag of SGLang that is not simulated is accepted, and
named once in the log, rather than refused.
"""

import argparse
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dopd_scheduling import ORDERS, Settings

FIRST_COME = "fcfs"
MODES = ("null", "prefill", "decode")
BACKENDS = ("mooncake", "nixl", "ascend", "fake", "mori", "mooncake_tcp")
SIM_ENV_PREFIX = "DOPD_SIM_"


@dataclass(frozen=True)
class Timeouts:
    """SGLang's disaggregation time-outs, in engine seconds, from its own environment variables.

    Attributes:
        bootstrap_seconds: prefill waits that long for decode to announce where the KV cache goes.
        waiting_seconds: decode waits that long for the KV cache.
        heartbeat_seconds: interval at which decode asks each prefill bootstrap server for its health.
        heartbeat_failures: failed heartbeats after which a prefill engine counts as dead.
        health_seconds: /health gives up after that long without any output.
    """

    bootstrap_seconds: float = 300.0
    waiting_seconds: float = 300.0
    heartbeat_seconds: float = 5.0
    heartbeat_failures: int = 2
    health_seconds: float = 20.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Timeouts":
        """Read the variables that SGLang reads.

        Raises:
            ValueError: a variable is no positive number.
        """

        def read(name: str, default: float) -> float:
            text = environment.get(name, "")
            return _positive(name, text) if text else default

        prefix = "SGLANG_DISAGGREGATION_"
        return cls(
            bootstrap_seconds=read(f"{prefix}BOOTSTRAP_TIMEOUT", cls.bootstrap_seconds),
            waiting_seconds=read(f"{prefix}WAITING_TIMEOUT", cls.waiting_seconds),
            heartbeat_seconds=read(f"{prefix}HEARTBEAT_INTERVAL", cls.heartbeat_seconds),
            heartbeat_failures=int(read(f"{prefix}HEARTBEAT_MAX_FAILURE", cls.heartbeat_failures)),
            health_seconds=read("SGLANG_HEALTH_CHECK_TIMEOUT", cls.health_seconds),
        )


@dataclass(frozen=True)
class Options:
    """What one simulated engine was told. Field names are SGLang's; `sim_*` fields are ours.

    `advertised_host` is the address that decode engines are told to pull from; None: the one they asked us under.
    """

    model_path: str
    served_model_name: str
    host: str = "127.0.0.1"
    port: int = 30000
    disaggregation_mode: str = "null"
    disaggregation_bootstrap_port: int = 8998
    disaggregation_transfer_backend: str = "mooncake"
    enable_pd_role_switch: bool = False
    num_reserved_decode_tokens: int = 512
    disaggregation_decode_extra_slots: int | None = None
    tp_size: int = 1
    max_running_requests: int | None = None
    max_total_tokens: int | None = None
    chunked_prefill_size: int | None = None
    context_length: int = 131072
    page_size: int = 1
    stream_interval: int = 1
    incremental_streaming_output: bool = False
    schedule_conservativeness: float = 1.0
    enable_priority_scheduling: bool = False
    disable_priority_preemption: bool = False
    default_priority_value: int | None = None
    retraction_policy: str = "length"
    disable_cuda_graph: bool = False
    enable_metrics: bool = False
    extra_metric_labels: Mapping[str, str] = field(default_factory=dict)
    bucket_time_to_first_token: tuple[float, ...] = ()
    bucket_inter_token_latency: tuple[float, ...] = ()
    bucket_e2e_request_latency: tuple[float, ...] = ()
    decode_log_interval: int = 40
    load_snapshot_publish_interval: int = 15
    log_level: str = "info"
    sim_profile: Path | None = None
    sim_speedup: float = 1.0
    sim_startup_seconds: float | None = None
    sim_kv_bytes_per_token: int = 16
    sim_output_tokens: int = 256
    sim_free_memory_gb: float = 8.0
    sim_stale_rank_cache: bool = True
    sim_transfer_failure_probability: float = 0.0
    sim_sigterm_poll_seconds: float = 5.0
    sim_exit_seconds: float = 0.0
    sim_vocabulary: int = 128_256
    sim_tick_seconds: float = 0.002
    sim_order: str = FIRST_COME
    sim_order_ttft_seconds: float = 1.5
    sim_order_late_share: float = Settings.late_share
    sim_order_most_unfinished: int = 3
    timeouts: Timeouts = Timeouts()
    advertised_host: str | None = None
    force_shutdown: bool = False
    ignored: tuple[str, ...] = ()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dopd-simulator", allow_abbrev=False, argument_default=argparse.SUPPRESS,
        description="An engine stand-in with SGLang's HTTP surface. Flags of SGLang that are not listed are ignored.",
    )  # fmt: skip
    add = parser.add_argument
    add("--model-path", "--model", default="", metavar="NAME", help="model to stand in for; nothing is loaded")
    add("--served-model-name", metavar="NAME", help="name of the model in answers and metrics [--model-path]")
    add("--host", metavar="ADDRESS", help="address to listen on")
    add("--port", type=int, help="HTTP port")
    add("--disaggregation-mode", choices=MODES, help="role; null serves whole requests")
    add("--disaggregation-bootstrap-port", type=int, metavar="PORT", help="port of the bootstrap server")
    add("--disaggregation-transfer-backend", choices=BACKENDS, help="only mooncake and mori allow a role switch")
    add("--enable-pd-role-switch", action="store_true", help="allow /pd_role_switch")
    add("--num-reserved-decode-tokens", type=int, metavar="N", help="tokens reserved per request by decode")
    add("--disaggregation-decode-extra-slots", type=int, metavar="N", help="requests in transfer beyond those running")
    add("--tp-size", "--tensor-parallel-size", type=int, metavar="N", help="reported; the profile sets the speed")
    add("--max-running-requests", type=int, metavar="N", help="largest decode batch [profile]")
    add("--max-total-tokens", type=int, metavar="N", help="KV cache capacity, tokens [profile]")
    add("--chunked-prefill-size", type=int, metavar="N", help="tokens of one prefill pass; -1: no chunks [profile]")
    add("--context-length", type=int, metavar="N", help="longest prompt plus output, tokens")
    add("--page-size", type=int, metavar="N", help="reported")
    add("--stream-interval", type=int, metavar="N", help="tokens in one stream event")
    add("--incremental-streaming-output", action="store_true", help="/generate streams deltas, not the whole text")
    add("--schedule-conservativeness", type=float, metavar="X", help="scales the output that admission reserves")
    add("--enable-priority-scheduling", action="store_true", help="decode serves the higher priority first")
    add("--disable-priority-preemption", action="store_true", help="accepted; nothing is preempted")
    add("--default-priority-value", type=int, metavar="N", help="priority of requests that name none")
    add("--retraction-policy", choices=("length", "priority"), help="who loses its KV cache first")
    add("--disable-cuda-graph", action="store_true", help="no decode graphs are captured")
    add("--enable-metrics", action="store_true", help="serve /metrics")
    add("--extra-metric-labels", type=_labels, metavar="JSON", help="labels added to every engine metric")
    for bucket in ("time-to-first-token", "inter-token-latency", "e2e-request-latency"):
        add(f"--bucket-{bucket}", type=float, nargs="+", metavar="SECONDS", help="bucket edges of that histogram")
    add("--decode-log-interval", type=int, metavar="N", help="decode steps between two updates of the gauges")
    add(
        "--load-snapshot-publish-interval",
        type=int,
        metavar="N",
        help="decode steps between two updates of /v1/loads; each prefill pass and idleness update it too",
    )
    add("--log-level", choices=("debug", "info", "warning", "error"), help="what to log")
    sim = parser.add_argument_group("simulation", "each also as an environment variable, e.g. DOPD_SIM_SPEEDUP")
    add = sim.add_argument
    add("--sim-profile", type=Path, metavar="FILE", help="EngineProfile manifest, YAML or JSON [built-in]")
    add("--sim-speedup", type=float, metavar="X", help="divides every time [1]")
    add("--sim-startup-seconds", type=float, metavar="S", help="start to listening [profile, by role]")
    add("--sim-kv-bytes-per-token", type=int, metavar="N", help="bytes really sent per prompt token [16]")
    add("--sim-output-tokens", type=int, metavar="N", help="where the model ends by itself, without ignore_eos [256]")
    add("--sim-free-memory-gb", type=float, metavar="GB", help="head-room for decode graphs on a role switch [8]")
    add("--sim-transfer-failure-probability", type=float, metavar="P", help="share of hand-overs that fail [0]")
    add("--sim-stale-rank-cache", type=_boolean, metavar="BOOL", help="decode keeps an outdated prefill address [true]")
    add("--sim-sigterm-poll-seconds", type=float, metavar="S", help="how often a stopping engine looks for work [5]")
    add("--sim-exit-seconds", type=float, metavar="S", help="how long an engine that was told to stop stays idle [0]")
    add("--sim-vocabulary", type=int, metavar="N", help="token ids; a prompt with another one ends the engine [128256]")
    add(
        "--sim-tick-seconds",
        type=float,
        metavar="S",
        help="least wall time between two wake-ups of the scheduler [0.002]",
    )
    add(
        "--sim-order",
        choices=tuple(ORDERS),
        help=f"order of waiting prompts, as dopd's engine image has it [{FIRST_COME}]",
    )
    add("--sim-order-ttft-seconds", type=float, metavar="S", help="objective that the order goes by [1.5]")
    add("--sim-order-late-share", type=float, metavar="X", help="share of the time that late prompts may take [0.5]")
    add("--sim-order-most-unfinished", type=int, metavar="N", help="prompts that may be computed in part [3]")
    return parser


def parse_options(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Options:
    """Options from a command line and an environment; a flag wins over its variable.

    Raises:
        ValueError: a value is out of range or two of them contradict; the message names the flag and the fix.
        SystemExit: argparse found a malformed value, or printed the help.
    """
    environment = os.environ if environment is None else environment
    parser = _parser()
    from_environment: list[str] = []
    for action in parser._actions:
        for flag in action.option_strings:
            name = SIM_ENV_PREFIX + flag.removeprefix("--sim-").replace("-", "_").upper()
            if flag.startswith("--sim-") and environment.get(name):
                from_environment += [flag, environment[name]]
    known, rest = parser.parse_known_args([*from_environment, *arguments])
    values: dict[str, Any] = vars(known)
    for bucket in ("time_to_first_token", "inter_token_latency", "e2e_request_latency"):
        if f"bucket_{bucket}" in values:
            values[f"bucket_{bucket}"] = tuple(sorted(values[f"bucket_{bucket}"]))
    values.setdefault("served_model_name", values["model_path"])
    options = Options(
        **values,
        timeouts=Timeouts.from_environment(environment),
        advertised_host=environment.get("SGLANG_HOST_IP") or environment.get("HOST_IP") or None,
        force_shutdown=environment.get("SGL_FORCE_SHUTDOWN", "").lower() in ("1", "true"),
        ignored=tuple(rest),
    )
    _validate(options)
    return options


def _validate(options: Options) -> None:
    if not options.model_path:
        raise ValueError("--model-path is missing; give the name of the model that this engine stands in for")
    if options.disaggregation_mode == "prefill" and options.disaggregation_transfer_backend == "fake":
        raise ValueError(
            "--disaggregation-transfer-backend fake: a prefill engine cannot use it; choose mooncake, mori or nixl"
        )
    positive = {
        "--sim-speedup": options.sim_speedup,
        "--sim-output-tokens": options.sim_output_tokens,
        "--sim-vocabulary": options.sim_vocabulary,
        "--stream-interval": options.stream_interval,
        "--decode-log-interval": options.decode_log_interval,
        "--context-length": options.context_length,
        "--max-running-requests": options.max_running_requests,
        "--max-total-tokens": options.max_total_tokens,
        "--sim-order-ttft-seconds": options.sim_order_ttft_seconds,
        "--sim-order-most-unfinished": options.sim_order_most_unfinished,
    }
    for flag, value in positive.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"{flag} {value}: must be greater than zero")
    not_negative = {
        "--sim-startup-seconds": options.sim_startup_seconds,
        "--sim-kv-bytes-per-token": options.sim_kv_bytes_per_token,
        "--sim-tick-seconds": options.sim_tick_seconds,
        "--sim-sigterm-poll-seconds": options.sim_sigterm_poll_seconds,
        "--sim-exit-seconds": options.sim_exit_seconds,
        "--num-reserved-decode-tokens": options.num_reserved_decode_tokens,
    }
    for flag, value in not_negative.items():
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{flag} {value}: must not be negative")
    share = options.sim_order_late_share
    if not 0 <= share <= 1:
        raise ValueError(f"--sim-order-late-share {share}: must be between 0 and 1")
    probability = options.sim_transfer_failure_probability
    if not 0 <= probability <= 1:
        raise ValueError(f"--sim-transfer-failure-probability {probability}: must be between 0 and 1")
    size = options.chunked_prefill_size
    if size is not None and size <= 0 and size != -1:
        raise ValueError(f"--chunked-prefill-size {size}: must be greater than zero, or -1 for no chunks")


def _positive(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value > 0:
        raise ValueError(f"{name}={text!r}: expected a number of seconds greater than zero")
    return value


def _boolean(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def _labels(text: str) -> dict[str, str]:
    try:
        labels = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object: {error}") from error
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise argparse.ArgumentTypeError(f'{text!r}: expected a JSON object of strings, such as {{"team": "search"}}')
    return labels
