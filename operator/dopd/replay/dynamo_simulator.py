"""The planner on foreign ground: one run in NVIDIA Dynamo's own simulator, with Dynamo's own planner or ours.

Runs in an environment of its own that holds the published packages (`make dynamo-replay` sets it up; their pins
exclude ours), and knows nothing else of the other runs: `dopd replay --simulator dynamo` calls it for each and merges
what it writes (`dopd.replay.foreign`).
"""

import argparse
import importlib
import json
import logging
import math
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from dopd.perf import EngineModel
from dopd.planning import Objectives
from dopd.planning.bounds import Pair
from dopd.replay.dynamo_policies import DopdPolicy, Recorded, dynamo_policy
from dopd.replay.profiles import load_profile
from dopd.replay.runner import Result, reversals
from dopd.replay.trace import Trace, Within, load

BLOCK_TOKENS = 64
MOST_INPUT_TOKENS, MOST_OUTPUT_TOKENS = 16_000, 4_000
KV_BYTES = 131_072  # a token; only its ratio to the bandwidth matters
MakePolicy = Callable[[Any, Any], Any] | None


def write_requests(trace: Trace, path: Path) -> None:
    """Write the trace as the simulator reads it, without any shared prefix."""
    block = 0
    with path.open("w", encoding="utf-8") as out:
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


def write_table(model: EngineModel, path: Path) -> None:
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


def simulate(
    trace: Trace, model: EngineModel, objectives: Objectives, start: Pair, startup_seconds: float, make: MakePolicy
) -> Result:
    """One run of the simulator.

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
    with tempfile.TemporaryDirectory(prefix="dopd-replay-") as folder:
        requests, table, answers = (Path(folder) / name for name in ("requests.jsonl", "profile.npz", "answers.jsonl"))
        write_requests(trace, requests)
        write_table(model, table)
        engine = {
            "engine_type": "vllm", "block_size": BLOCK_TOKENS, "num_gpu_blocks": model.kv_tokens // BLOCK_TOKENS,
            "max_num_seqs": model.max_running_requests, "max_num_batched_tokens": model.chunk_tokens,
            "enable_prefix_caching": False, "planner_profile_data": str(table), "startup_time": startup_seconds,
            "kv_bytes_per_token": KV_BYTES, "kv_transfer_bandwidth": KV_BYTES * model.transfer_tokens_per_second / 1e9,
        }  # fmt: skip
        prefill, decode = engine_args(worker_type="prefill", **engine), engine_args(worker_type="decode", **engine)
        policy = Recorded(make(prefill, decode), start) if make else None
        r = core.run_mocker_trace_replay(
            [str(requests)], extra_engine_args=None, prefill_engine_args=prefill,
            decode_engine_args=decode, router_config=None, aic_perf_config=None, num_workers=1,
            num_prefill_workers=start[0], num_decode_workers=start[1], replay_concurrency=None,
            replay_mode="offline", router_mode="round_robin", arrival_speedup_ratio=1.0, trace_block_size=None,
            trace_format="mooncake", trace_shared_prefix_ratio=0.0, trace_num_prefix_groups=0,
            report_jsonl_path=str(answers), max_sim_time_ms=None, model_name=None,
            sla_ttft_ms=objectives.ttft_seconds * 1e3, sla_itl_ms=objectives.itl_seconds * 1e3, sla_e2e_ms=None,
            scaling_policy=policy,
        )  # fmt: skip
        ttft, itl = _latencies(answers)
    timeline = tuple(policy.timeline) if policy else ((0.0, *start),)
    return Result(
        attainment=r["goodput_completed_requests"] / r["num_requests"],
        attainment_ttft=float((ttft <= objectives.ttft_seconds).sum()) / r["num_requests"],
        attainment_itl=float((itl <= objectives.itl_seconds).sum()) / r["num_requests"],
        gpu_hours=r["gpu_hours"],
        ttft_p90=r["p90_ttft_ms"] / 1e3,
        ttft_p99=r["p99_ttft_ms"] / 1e3,
        itl_p90=r["p90_tpot_ms"] / 1e3,
        goodput_rps=r["goodput_request_throughput_rps"],
        changes=len(timeline) - 1,
        reversals=reversals(timeline),
        lost=r["num_requests"] - r["completed_requests"],
        timeline=timeline,
    )


def _latencies(answers: Path) -> tuple[np.ndarray, np.ndarray]:
    """TTFT and mean ITL of every finished request, seconds; an answer of one token has no ITL, and thus none late."""
    with answers.open(encoding="utf-8") as lines:
        finished = [json.loads(line) for line in lines]
    ttft = np.array([answer["ttft_ms"] for answer in finished if answer["ttft_ms"] is not None]) / 1e3
    return ttft, np.array([answer["itl_ms"] or 0.0 for answer in finished]) / 1e3


def fixed(trace: Trace, profile: str, objectives: Objectives, prefill: int, decode: int) -> Result:
    """Fixed counts, with the profile uncorrected."""
    model = EngineModel.from_profile(load_profile(profile).model_copy(update={"correction": 1.0}))
    return simulate(trace, model, objectives, (prefill, decode), 60.0, None)


def run(args: argparse.Namespace) -> Result:
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
    trace = load(args.trace, args.rate_scale, args.seed, args.from_seconds, args.to_seconds, args.within)
    result = simulate(trace, model, objectives, (args.prefill, args.decode), args.start_up_seconds, make)
    return replace(result, gpu_hours=result.gpu_hours * profile.gpus)  # it counts one GPU a worker


def main() -> int:
    """Run one policy and write its figures as JSON."""
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
    parser.add_argument("--rate-scale", type=float, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--from-seconds", type=float, default=0.0)
    parser.add_argument("--to-seconds", type=float, default=math.inf)
    parser.add_argument("--within", type=Within, default=Within.LINEAR)
    parser.add_argument("--json", required=True, help="file for the figures")
    args = parser.parse_args()
    Path(args.json).write_text(json.dumps(asdict(run(args))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
