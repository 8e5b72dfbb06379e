"""Which policy of the gateway, SMG, serves prompts of very different lengths best?

All rows of a table have the same arrivals: those of the real gateway (--smg), which chooses the workers of a simulated
cluster (`gateway_loop.py`), and those of the replay, whose routing is to stand for the gateway's. The first row is the
one to compare with.

OMP_NUM_THREADS=1 PYTHONPATH=. python operator/benchmarks/gateway_policies.py [--smg PATH] [--gateways 2] \
    [--workers 8] [--mix lognormal] [--order fcfs] [--use 0.9] [--requests 6000] [--speed 1] [--at-once 4] \
    [-- "--prefill-policy power_of_two" "--prefill-policy bucket --bucket-adjust-interval-secs 1"]

Intervals of SMG are whole seconds. A shorter one is had by a slower load: with --speed 0.25 a second of SMG is a
quarter of a second of the load.
"""

import argparse
import multiprocessing
import shlex
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from gateway_load import HEADER, MIXES, Floats, Load, cells
from gateway_loop import Run
from gateway_rules import rules

from dopd.replay.cluster import Cluster
from dopd.replay.workers import Routing
from dopd_scheduling import ORDERS

COMMON = "--decode-policy round_robin --load-monitor-interval 1 --power-of-two-load-metric least_requests"
POLICIES = (
    "--prefill-policy power_of_two",
    "--prefill-policy power_of_two --power-of-two-load-metric requests",
    "--prefill-policy power_of_two --power-of-two-load-metric expected_wait",
    "--prefill-policy power_of_two --power-of-two-load-metric expected_wait --load-monitor-interval 10",
    "--prefill-policy least_load",
    "--prefill-policy least_load --load-monitor-interval 10",
    "--prefill-policy bucket --bucket-adjust-interval-secs 1",
    "--prefill-policy bucket",
    "--prefill-policy cache_aware",
    "--prefill-policy prefix_hash",
    "--prefill-policy consistent_hashing",
    "--prefill-policy manual",
    "--prefill-policy random",
    "--prefill-policy round_robin",
)
"""All of smg 1.13.0 but passthrough, which serves with one worker; each after `COMMON`."""


def replayed(load: Load, routing: Routing, order: str) -> Floats:
    """TTFT of each request by the replay, seconds."""
    cluster = Cluster(*load.cluster(order, routing))
    cluster.run()
    return np.array(cluster.ttft_seconds)


def main() -> None:
    """Print a table: a row for each set of flags of the gateway and for each routing of the replay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smg", type=Path, help="the gateway's executable; without it, the replay alone is measured")
    parser.add_argument("--gateways", type=int, default=1)
    parser.add_argument("--workers", type=int, default=8, help="prefill workers")
    parser.add_argument("--mix", choices=MIXES, default="lognormal")
    parser.add_argument("--order", choices=ORDERS, default="fcfs", help="of prompts at prefill")
    parser.add_argument("--use", type=float, default=0.9, help="share of prefill's time that prompts take")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--speed", type=float, default=1.0, help="most seconds of the load in a second of SMG")
    parser.add_argument("--at-once", type=int, default=1, help="runs at a time")
    parser.add_argument("flags", nargs="*", help="sets of flags of smg, each one argument; all policies if absent")
    args = parser.parse_args()
    load = Load(args.mix, args.seed, args.requests, args.workers, args.use)
    rows: dict[str, tuple[Floats, float | None]] = {}
    if args.smg:
        with ProcessPoolExecutor(args.at_once, multiprocessing.get_context("spawn")) as pool:
            running = {}
            for flags in args.flags or POLICIES:
                words = shlex.split(f"{COMMON} {flags}")
                run = Run(args.smg, words, args.gateways, load, args.order, args.speed)
                running[flags] = pool.submit(run)
            rows |= {f"`{flags}`": run.result() for flags, run in running.items()}
    for routing in Routing:
        rows[f"replay, {routing}"] = replayed(load, routing, args.order), None
    rows |= {f"replay, {name}": (ttft, None) for name, ttft in rules(load, args.order, args.gateways).items()}
    print(
        f"{args.mix}, {args.order}, {args.workers} prefill workers, use {args.use}, {args.gateways} gateway(s), "
        f"mean prefill {load.prefill_seconds:.3f} s, TTFT objective {load.ttft_seconds} s, {args.requests} requests, "
        f"seed {args.seed}\n\n| routing | {' | '.join(HEADER)} |\n{'|---' * (1 + len(HEADER))}|"
    )
    first = next(iter(rows.values()))[0]
    for name, (ttft, speed) in rows.items():
        print(f"| {name} | {' | '.join(cells(load, ttft, first, speed))} |", flush=True)


if __name__ == "__main__":
    main()
