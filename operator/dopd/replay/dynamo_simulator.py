"""The planner on foreign ground: NVIDIA Dynamo's own simulator, with Dynamo's own planner beside ours.

Runs in an environment of its own that holds the published packages (`make dynamo-replay` sets it up; their pins
exclude ours) and writes JSON like `dopd replay`. Ours sees what the simulator's telemetry gives: request rate, mean
lengths, mean TTFT and ITL, waiting tokens per worker, counts of workers. It is not told the variance of lengths
(prompts are assumed to vary by their mean, as published traces do) nor which requests were late.
"""

import argparse
import importlib
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dopd.perf import EngineModel
from dopd.planning import Decision, Demand, Objectives, Observation, Policy, RoleBounds, Workers, plan
from dopd.planning.bounds import Pair
from dopd.replay.profiles import load_profile
from dopd.replay.trace import Trace, load

BLOCK_TOKENS = 64
MOST_INPUT_TOKENS, MOST_OUTPUT_TOKENS = 16_000, 4_000
KV_BYTES = 131_072  # a token; only its ratio to the bandwidth matters
MakePolicy = Callable[[Any, Any], Any] | None
PLANNER = {
    "mode": "disagg", "optimization_target": "sla", "backend": "vllm", "load_predictor": "arima",
    "enable_throughput_scaling": True, "enable_load_scaling": True, "throughput_adjustment_interval_seconds": 60,
    "load_adjustment_interval_seconds": 5, "max_gpu_budget": -1, "min_endpoint": 1, "prefill_engine_num_gpu": 1,
    "decode_engine_num_gpu": 1, "report_interval_hours": None,
}  # fmt: skip
"""Dynamo's planner with both layers; the objectives are filled in."""


class DopdPolicy:
    """plan() behind the simulator's seam."""

    def __init__(self, model: EngineModel, objectives: Objectives, interval_seconds: float) -> None:
        self._model = model
        self._policy = Policy(
            objectives=objectives,
            prefill=RoleBounds(1, 200),
            decode=RoleBounds(1, 200),
            interval_seconds=interval_seconds,
        )
        self._decision: Decision | None = None
        self._windows: list[tuple[float, float, float, float]] = []

    def initial_tick_ms(self) -> float:
        """First look, after one interval."""
        return self._policy.interval_seconds * 1e3

    def on_tick(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """One look: telemetry in, targets out."""
        traffic, now = metrics["traffic"], metrics["now_ms"] / 1e3
        demand = self._demand(traffic)
        ttft = traffic["avg_ttft_ms"] / 1e3 if traffic.get("ttft_count") else None
        observation = Observation(demand, _prefill(metrics), _decode(metrics), ttft_seconds=ttft)
        self._decision = plan(observation, None, self._model, self._policy, self._decision, now)
        return {
            "target_prefill": self._decision.prefill,
            "target_decode": self._decision.decode,
            "next_tick_ms": metrics["now_ms"] + self._decision.next_look_seconds * 1e3,
        }

    def _demand(self, traffic: dict[str, Any]) -> Demand:
        """Means over the last three looks, as a rate over 45 s in Prometheus would be."""
        count = float(traffic["num_req"])
        self._windows.append((traffic["duration_s"], count, count * traffic["avg_isl"], count * traffic["avg_osl"]))
        self._windows = self._windows[-3:]
        seconds, requests, inputs, outputs = (sum(column) for column in zip(*self._windows, strict=True))
        if not requests:
            return Demand.none()
        mean = inputs / requests
        return Demand(requests / seconds, mean, 2 * mean**2, outputs / requests)


def _prefill(metrics: dict[str, Any]) -> Workers:
    waiting = sum(snapshot["sum_queued_prefill_tokens"] for snapshot in metrics["prefill_fpm_snapshots"])
    return Workers(
        serving=metrics["active_prefill_count"],
        starting=metrics["starting_prefill_count"],
        draining=metrics["draining_prefill_count"],
        waiting_tokens=float(waiting),
    )


def _decode(metrics: dict[str, Any]) -> Workers:
    waiting = sum(snapshot["num_queued_decode"] for snapshot in metrics["decode_fpm_snapshots"])
    slots = metrics["active_decode_count"]
    return Workers(
        serving=slots,
        starting=metrics["starting_decode_count"],
        draining=metrics["draining_decode_count"],
        # One request on its way to each worker is the hand-over itself, not a queue.
        waiting_requests=float(max(0, waiting - 4 * slots)),
    )


def write_requests(trace: Trace) -> str:
    """Write the trace as the simulator reads it, without any shared prefix; returns the path."""
    block = 0
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", delete=False) as out:
        for at, inputs, outputs in zip(
            trace.arrival_seconds.tolist(),
            np.minimum(trace.input_tokens, MOST_INPUT_TOKENS).tolist(),
            np.minimum(trace.output_tokens, MOST_OUTPUT_TOKENS).tolist(),
            strict=True,
        ):
            blocks = -(-inputs // 512)
            line = {"timestamp": round(at * 1e3), "input_length": inputs, "output_length": outputs}
            out.write(json.dumps(line | {"hash_ids": list(range(block, block + blocks))}) + "\n")
            block += blocks
    return out.name


def write_table(model: EngineModel, path: str) -> None:
    """The profile as the table that the simulated engines read: prefill over length, ITL over KV held and context."""
    lengths = np.unique(np.r_[16, 64, 128, 256, np.arange(512, 33_000, 512)]).astype(float)
    kv = np.linspace(0, 450_000, 60)
    contexts = np.unique(np.r_[1, 64, 128, 256, 512, np.arange(1024, 17_000, 1024)]).astype(float)
    itl = [[model.itl_seconds(max(1.0, min(512.0, held / c)), c) * 1e3 for c in contexts] for held in kv]
    np.savez(
        path,
        prefill_isl=lengths,
        prefill_ttft_ms=[model.prefill_seconds(tokens) * 1e3 for tokens in lengths],
        decode_active_kv_tokens=kv,
        decode_context_length=contexts,
        decode_itl=np.array(itl),
    )


def dynamo_policy(model: EngineModel, config: dict[str, Any], prefill: Any, decode: Any) -> Any:
    """Dynamo's own planner, taught the same profile."""
    metrics = importlib.import_module("dynamo.common.forward_pass_metrics")
    adapter = importlib.import_module("dynamo.planner.offline.replay_adapter")
    types = importlib.import_module("dynamo.planner.core.types")
    planner = importlib.import_module("dynamo.planner.config.planner_config").PlannerConfig
    caps = importlib.import_module("dynamo.replay.main")._engine_caps
    settings = planner.from_config_arg(json.dumps(PLANNER | config))
    settings.advisory = True
    capabilities = types.WorkerCapabilities(prefill=caps(prefill), decode=caps(decode))
    policy = adapter.create_replay_planner_adapter(planner_config=settings, capabilities=capabilities)

    def sample(seconds: float, **scheduled: int) -> Any:
        requests = metrics.ScheduledRequestMetrics(**scheduled)
        return metrics.ForwardPassMetrics(wall_time=seconds, scheduled_requests=requests)

    policy.install_benchmark_fpms(
        prefill_fpms=[
            sample(model.prefill_seconds(tokens), num_prefill_requests=1, sum_prefill_tokens=tokens)
            for tokens in range(100, 8193, 1000)
        ],
        decode_fpms=[
            sample(model.itl_seconds(batch, c), num_decode_requests=batch, sum_decode_kv_tokens=batch * c)
            for c in (500, 2000, 4000, 8000)
            for batch in range(1, model.max_running_requests + 1, model.max_running_requests // 8)
            if batch * c <= model.kv_tokens
        ],
    )
    policy.start()
    return policy


def simulate(
    trace: Trace, model: EngineModel, objectives: Objectives, start: Pair, startup_seconds: float, make: MakePolicy
) -> dict[str, Any]:
    """One run of the simulator; returns the figures of `dopd replay`'s JSON for one policy.

    Args:
        trace: requests.
        model: profile of every engine.
        objectives: by which requests are judged.
        start: counts at the beginning.
        startup_seconds: from the decision to start a worker until it serves.
        make: makes the policy from the simulator's engine arguments of both roles; None for fixed counts.
    """
    core = importlib.import_module("dynamo._core")
    engine_args = importlib.import_module("dynamo.mocker").MockEngineArgs
    table = Path(tempfile.mkdtemp()) / "profile.npz"
    write_table(model, str(table))
    engine = {
        "engine_type": "vllm", "block_size": BLOCK_TOKENS, "num_gpu_blocks": model.kv_tokens // BLOCK_TOKENS,
        "max_num_seqs": model.max_running_requests, "max_num_batched_tokens": model.chunk_tokens,
        "enable_prefix_caching": False, "planner_profile_data": str(table), "startup_time": startup_seconds,
        "kv_bytes_per_token": KV_BYTES, "kv_transfer_bandwidth": KV_BYTES * model.transfer_tokens_per_second / 1e9,
    }  # fmt: skip
    prefill, decode = engine_args(worker_type="prefill", **engine), engine_args(worker_type="decode", **engine)
    began = time.monotonic()
    r = core.run_mocker_trace_replay(
        [write_requests(trace)], extra_engine_args=None, prefill_engine_args=prefill,
        decode_engine_args=decode, router_config=None, aic_perf_config=None, num_workers=1,
        num_prefill_workers=start[0], num_decode_workers=start[1], replay_concurrency=None,
        replay_mode="offline", router_mode="round_robin", arrival_speedup_ratio=1.0, trace_block_size=None,
        trace_format="mooncake", trace_shared_prefix_ratio=0.0, trace_num_prefix_groups=0, report_jsonl_path=None,
        max_sim_time_ms=None, model_name=None, sla_ttft_ms=objectives.ttft_seconds * 1e3,
        sla_itl_ms=objectives.itl_seconds * 1e3, sla_e2e_ms=None,
        scaling_policy=make(prefill, decode) if make else None,
    )  # fmt: skip
    return {
        "attainment": r["goodput_completed_requests"] / r["num_requests"],
        "gpu_hours": r["gpu_hours"],
        "ttft_p90": r["p90_ttft_ms"] / 1e3,
        "ttft_p99": r["p99_ttft_ms"] / 1e3,
        "itl_p90": r["p90_tpot_ms"] / 1e3,
        "goodput_rps": r["goodput_request_throughput_rps"],
        "requests": r["num_requests"],
        "lost": r["num_requests"] - r["completed_requests"],
        "wall_seconds": round(time.monotonic() - began, 1),
    }


def fixed(trace: Trace, profile: str, objectives: Objectives, prefill: int, decode: int) -> dict[str, Any]:
    """Fixed counts, with the profile uncorrected."""
    model = EngineModel.from_profile(load_profile(profile).model_copy(update={"correction": 1.0}))
    return simulate(trace, model, objectives, (prefill, decode), 60.0, None)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The run that the command line asks for."""
    profile = load_profile(args.profile)
    if args.profile_correction:
        profile = profile.model_copy(update={"correction": args.profile_correction})
    startup = {"prefill": args.start_up_seconds, "decode": args.start_up_seconds}
    model = replace(EngineModel.from_profile(profile), startup_seconds=startup)
    objectives = Objectives(args.slo_ttft, args.slo_itl, args.attainment)
    make: MakePolicy = None
    if args.policy == "dopd":
        make = lambda prefill, decode: DopdPolicy(model, objectives, args.interval_seconds)  # noqa: E731
    elif args.policy == "dynamo":
        config = {"ttft_ms": args.slo_ttft * 1e3, "itl_ms": args.slo_itl * 1e3} | json.loads(args.planner)
        make = lambda prefill, decode: dynamo_policy(model, config, prefill, decode)  # noqa: E731
    trace = load(args.trace, args.rate_scale)
    return simulate(trace, model, objectives, (args.prefill, args.decode), args.start_up_seconds, make)


def main() -> int:
    """Run one policy and print its figures as JSON."""
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(prog="dynamo_simulator", description=__doc__)
    parser.add_argument("trace")
    parser.add_argument("--policy", choices=("dopd", "dynamo", "fixed"), default="dopd")
    parser.add_argument("--planner", default="{}", help="JSON with changes to Dynamo's PlannerConfig")
    parser.add_argument("--prefill", type=int, default=5, help="prefill workers at the beginning")
    parser.add_argument("--decode", type=int, default=3, help="decode workers at the beginning")
    parser.add_argument("--profile", default="llama-3.1-8b-h100")
    parser.add_argument("--profile-correction", type=float)
    parser.add_argument("--slo-ttft", type=float, default=1.5)
    parser.add_argument("--slo-itl", type=float, default=0.05)
    parser.add_argument("--attainment", type=float, default=0.99)
    parser.add_argument("--start-up-seconds", type=float, default=60.0)
    parser.add_argument("--interval-seconds", type=float, default=15.0)
    parser.add_argument("--rate-scale", type=int, default=1)
    args = parser.parse_args()
    print(json.dumps(run(args)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
