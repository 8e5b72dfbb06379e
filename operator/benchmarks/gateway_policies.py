"""Which policy of the gateway, SMG, serves prompts of very different lengths best?

The gateway is the real one; simulated engines stand behind it and take the time that the profile says, so a run lasts
as long as its load. The same arrivals go through the replay, whose routing is to stand for the gateway's; without
--smg, through the replay alone.

OMP_NUM_THREADS=1 PYTHONPATH=. python operator/benchmarks/gateway_policies.py [--smg PATH] [--gateways 2] [--workers 8] \
    [--mix lognormal] [--order fcfs] [--seeds 1 2] [--seconds 240] [--at-once 3] \
    [-- "--prefill-policy power_of_two" "--prefill-policy bucket --bucket-adjust-interval-secs 1"]
"""

import argparse
import asyncio
import multiprocessing
import random
import shlex
import socket
import time
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import numpy as np
import uvloop
from dopd_scheduling import ORDERS
from gateway_load import HEADER, MIXES, Floats, Load, cells

from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.planning import Objectives
from dopd.replay.cluster import Cluster
from dopd.replay.trace import Trace
from dopd.replay.workers import Routing, Settings
from dopd_simulator.options import Options
from dopd_simulator.server import Server
from dopd_simulator.surface.app import listen
from e2e.load.client import BYTES_PER_TOKEN, Outcome, Target, send
from e2e.load.schedule import Arrival

DECODE_WORKERS = 3
AMPLE_KV_TOKENS = 4_000_000
MODEL = "chat"
COMMON = ["--decode-policy", "power_of_two", "--power-of-two-load-metric", "least_requests"]
POLICIES = (
    "--prefill-policy power_of_two --load-monitor-interval 1",
    "--prefill-policy power_of_two --power-of-two-load-metric requests",
    "--prefill-policy power_of_two --power-of-two-load-metric expected_wait",
    "--prefill-policy power_of_two --power-of-two-load-metric expected_wait --load-monitor-interval 1",
    "--prefill-policy least_load",
    "--prefill-policy least_load --load-monitor-interval 1",
    "--prefill-policy bucket",
    "--prefill-policy bucket --bucket-adjust-interval-secs 1",
    "--prefill-policy cache_aware --load-monitor-interval 1",
    "--prefill-policy prefix_hash",
    "--prefill-policy consistent_hashing",
    "--prefill-policy manual",
    "--prefill-policy random",
    "--prefill-policy round_robin",
)
"""All of smg 1.13.0 but passthrough, which serves with one worker. Intervals are whole seconds, at least one."""


class Strangers(Target):
    """Sends prompts that share no prefix, which a policy might follow."""

    def body(self, arrival: Arrival) -> bytes:
        """As its base, begun by the time of the arrival."""
        mark = f"{arrival.at_seconds:012.6f}".encode()
        return super().body(arrival).replace(b"ask " * (len(mark) // BYTES_PER_TOKEN), mark, 1)


@dataclass(frozen=True)
class Run:
    """A load that is played against the real gateway."""

    smg: Path
    flags: list[str]
    gateways: int
    order: str
    load: Load

    def __call__(self) -> tuple[Floats, Floats]:
        """TTFT of each request, NaN unless it was answered whole, and how late it was sent; seconds."""
        return uvloop.run(self._measure())

    async def _measure(self) -> tuple[Floats, Floats]:
        async with AsyncExitStack() as stack:
            workers: list[str] = []
            for role, number in ((Role.PREFILL, self.load.workers), (Role.DECODE, DECODE_WORKERS)):
                for _ in range(number):
                    workers += await stack.enter_async_context(self._engine(role))
            urls = [await stack.enter_async_context(self._gateway(workers)) for _ in range(self.gateways)]
            await asyncio.sleep(2)
            return await play(urls, self.load.trace, self.load.seed)

    @asynccontextmanager
    async def _engine(self, role: Role) -> AsyncIterator[list[str]]:
        """Run a simulated engine in this process; gives the gateway's flags for it."""
        options = Options(
            model_path=MODEL, served_model_name=MODEL, port=0, disaggregation_bootstrap_port=0, enable_metrics=True,
            disaggregation_mode=role.value, sim_startup_seconds=0.0, stream_interval=8,
            max_total_tokens=AMPLE_KV_TOKENS if role is Role.DECODE else None,
        )  # fmt: skip
        server = Server(options, self.load.profile)
        await server.start()
        runner = await listen(server)
        await server.warm_up()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        bootstrap = server.engine.bootstrap
        try:
            yield [f"--{role.value}", url, *([str(bootstrap.port)] if role is Role.PREFILL and bootstrap else [])]
        finally:
            await server.engine.stop()
            await runner.cleanup()

    @asynccontextmanager
    async def _gateway(self, workers: list[str]) -> AsyncIterator[str]:
        """Run a gateway as the operator does, but for the discovery; gives its URL once it knows all workers."""
        url = f"http://127.0.0.1:{(port := free_port())}"
        process = await asyncio.create_subprocess_exec(
            self.smg, "launch", "--host", "127.0.0.1", "--port", str(port),
            "--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port()),
            "--pd-disaggregation", "--log-level", "warn", "--disable-tokenizer-autoload",
            "--worker-startup-check-interval", "2", "--disable-worker-overload-protection",
            *workers, *COMMON, *self.flags,
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with asyncio.timeout(60), aiohttp.ClientSession() as http:
                while process.returncode is None:
                    try:
                        async with http.get(f"{url}/workers") as answer:
                            if (await answer.json())["total"] == self.load.workers + DECODE_WORKERS:
                                break
                    except aiohttp.ClientError:
                        pass
                    await asyncio.sleep(0.5)
                else:
                    raise SystemExit(f"smg {' '.join(self.flags)} ended with status {process.returncode}")
            yield url
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def play(urls: list[str], trace: Trace, seed: int) -> tuple[Floats, Floats]:
    """Send each request when it is due, to a gateway drawn at random, as a Service does."""
    draw = random.Random(seed)
    ttft, late = np.full(len(trace), np.nan), np.zeros(len(trace))
    start = time.perf_counter()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

        async def one(index: int, url: str, arrival: Arrival) -> None:
            late[index] = time.perf_counter() - start - arrival.at_seconds
            result = await send(http, Strangers(url, MODEL, 600.0), arrival, late[index])
            if result.outcome is Outcome.OK and result.ttft_seconds is not None:
                ttft[index] = result.ttft_seconds

        async with asyncio.TaskGroup() as group:
            columns = (trace.arrival_seconds, trace.input_tokens, trace.output_tokens)
            for index, (at, prompt, answer) in enumerate(zip(*columns, strict=True)):
                await asyncio.sleep(max(0.0, start + at - time.perf_counter()))
                group.create_task(one(index, draw.choice(urls), Arrival(float(at), int(prompt), int(answer))))
    return ttft, late


def replayed(load: Load, routing: Routing, order: str) -> Floats:
    """TTFT of each request by the replay, seconds."""
    settings = Settings(
        {role: 0.0 for role in Role}, routing=routing, seed=load.seed, order=order,
        objectives=Objectives(load.ttft_seconds, 1.0, 0.99),
    )  # fmt: skip
    model = replace(EngineModel.from_profile(load.profile), kv_tokens=AMPLE_KV_TOKENS)
    cluster = Cluster(model, load.trace, load.workers, DECODE_WORKERS, settings)
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
    parser.add_argument("--use", type=float, default=0.85, help="share of prefill's time that prompts take")
    parser.add_argument("--prefill-seconds", type=float, default=0.4, help="mean prefill; engines are made so slow")
    parser.add_argument("--answer-tokens", type=int, default=6)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--at-once", type=int, default=1, help="runs at a time: as many as the cores keep up with")
    parser.add_argument("flags", nargs="*", help="sets of flags of smg, each one argument; all policies if absent")
    args = parser.parse_args()
    loads = [
        Load(args.mix, seed, args.seconds, args.workers, args.use, args.prefill_seconds, args.answer_tokens)
        for seed in args.seeds
    ]
    rows: dict[str, tuple[Floats, Floats | None]] = {}
    if args.smg:
        with ProcessPoolExecutor(args.at_once, multiprocessing.get_context("spawn")) as pool:
            running = {
                flags: [pool.submit(Run(args.smg, shlex.split(flags), args.gateways, args.order, load)) for load in loads]
                for flags in args.flags or POLICIES
            }
            for flags, runs in running.items():
                ttft, late = zip(*(run.result() for run in runs), strict=True)
                rows[f"`{flags}`"] = np.concatenate(ttft), np.concatenate(late)
    for routing in Routing:
        rows[f"replay, {routing}"] = np.concatenate([replayed(load, routing, args.order) for load in loads]), None
    print(f"{args.mix}, {args.order}, {args.workers} prefill workers, {args.gateways} gateways, use {args.use}, answers", end=" ")
    print(f"of {args.answer_tokens} tokens, pace 1/{loads[0].pace:.2f}, TTFT objective {loads[0].ttft_seconds:.2f} s,", end=" ")
    print(f"{sum(len(load.trace) for load in loads)} requests\n")
    print("| routing |", " | ".join(HEADER), "|")
    print("|---" * (1 + len(HEADER)) + "|")
    first = next(iter(rows.values()))[0]
    for name, (ttft, sent_late) in rows.items():
        print(f"| {name} |", " | ".join(cells(loads, ttft, first, sent_late)), "|", flush=True)


if __name__ == "__main__":
    main()
