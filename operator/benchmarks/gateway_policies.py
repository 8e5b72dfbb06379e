"""Which policy of the gateway, SMG, serves prompts of very different lengths best?

The gateway is the real one; simulated engines stand behind it and take the time that the profile says, so a run lasts
as long as its load. Without --smg the same arrivals go through the replay, whose routing is to stand for the gateway's.

OMP_NUM_THREADS=1 PYTHONPATH=. python operator/benchmarks/gateway_policies.py [--smg PATH] [--gateways 2] [--seed 1] \
    [--seconds 240] [-- --prefill-policy power_of_two --decode-policy power_of_two, or other flags of `smg launch`]
"""

import argparse
import asyncio
import json
import math
import random
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import numpy as np
import numpy.typing as npt
import uvloop

from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.planning import Objectives
from dopd.replay.cluster import Cluster
from dopd.replay.profiles import load_profile
from dopd.replay.trace import Trace
from dopd.replay.workers import Routing, Settings
from dopd_simulator.options import Options
from dopd_simulator.server import Server
from dopd_simulator.surface.app import listen
from e2e.load.client import BYTES_PER_TOKEN, Outcome, Target, send
from e2e.load.schedule import Arrival

PREFILL_WORKERS, DECODE_WORKERS = 8, 3
UTILISATION = 0.75
MEAN_PROMPT_TOKENS, PROMPT_CV, LONGEST_PROMPT_TOKENS = 4000, 1.2, 49_152
SLOWER = 3.6
"""The engines are slower than their profile: 0.4 s of prefill in the mean, with which two cores keep up."""
AMPLE_KV_TOKENS = 4_000_000
BATCHES, T_QUANTILE = 18, 2.11
"""Parts of a run whose means tell its precision, and the 97.5 % quantile of Student's t for them."""
MODEL = "chat"

Floats = npt.NDArray[np.float64]
PROFILE = load_profile("llama-3.1-8b-h100")
PROFILE = PROFILE.model_copy(update={"correction": PROFILE.correction * SLOWER})
ENGINE = EngineModel.from_profile(PROFILE)


def lengths(generator: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
    """Lognormal prompt lengths, tokens."""
    variance = np.log1p(PROMPT_CV**2)
    drawn = generator.lognormal(np.log(MEAN_PROMPT_TOKENS) - variance / 2, np.sqrt(variance), count)
    return np.clip(drawn, 8, LONGEST_PROMPT_TOKENS).astype(np.int64)


def service(tokens: npt.NDArray[np.int64]) -> Floats:
    """Seconds from arrival at an idle worker to the first token: prefill and transfer."""
    return np.array([ENGINE.prefill_seconds(int(n)) + ENGINE.transfer_seconds(int(n)) for n in tokens])


def load(seed: int, seconds: float) -> tuple[Trace, float]:
    """Poisson arrivals, and the TTFT objective: what 99.5 % of prompts meet at an idle worker, and 15 % more."""
    prefill = np.array([ENGINE.prefill_seconds(int(n)) for n in lengths(np.random.default_rng(0), 20_000)])
    objective = 1.15 * float(np.quantile(service(lengths(np.random.default_rng(0), 20_000)), 0.995))
    generator = np.random.default_rng(seed)
    rate = UTILISATION * PREFILL_WORKERS / float(prefill.mean())
    count = int(generator.poisson(rate * seconds))
    arrivals = np.sort(generator.uniform(0, seconds, count))
    return Trace("poisson", arrivals, lengths(generator, count), generator.integers(4, 9, count), "requests"), objective


class Strangers(Target):
    """Sends prompts that share no prefix, which a policy might follow."""

    def body(self, arrival: Arrival) -> bytes:
        """As its base, begun by the time of the arrival."""
        mark = f"{arrival.at_seconds:012.6f}".encode()
        return super().body(arrival).replace(b"ask " * (len(mark) // BYTES_PER_TOKEN), mark, 1)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def engine(role: Role) -> AsyncIterator[list[str]]:
    """Run a simulated engine in this process; gives the gateway's flags for it."""
    options = Options(
        model_path=MODEL, served_model_name=MODEL, port=0, disaggregation_bootstrap_port=0, enable_metrics=True,
        disaggregation_mode=role.value, sim_startup_seconds=0.0, stream_interval=8,
        max_total_tokens=AMPLE_KV_TOKENS if role is Role.DECODE else None,
    )  # fmt: skip
    server = Server(options, PROFILE)
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
async def gateway(smg: Path, flags: list[str]) -> AsyncIterator[str]:
    """Run a gateway as the operator does, but for the discovery; gives its URL once it knows all workers."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    process = await asyncio.create_subprocess_exec(
        smg, "launch", "--host", "127.0.0.1", "--port", str(port),
        "--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port()),
        "--pd-disaggregation", "--log-level", "warn", "--disable-tokenizer-autoload",
        "--worker-startup-check-interval", "2", "--disable-worker-overload-protection", *flags,
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60), aiohttp.ClientSession() as http:
            while process.returncode is None:
                try:
                    async with http.get(f"{url}/workers") as answer:
                        if (await answer.json())["total"] == PREFILL_WORKERS + DECODE_WORKERS:
                            break
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.5)
            else:
                raise SystemExit(f"smg ended with status {process.returncode}")
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def play(urls: list[str], trace: Trace, seed: int) -> tuple[Floats, Floats]:
    """Send each request when it is due, to a gateway drawn at random, as a Service does.

    Returns TTFT of each request, NaN unless it was answered whole, and how late it was sent; seconds.
    """
    draw = random.Random(seed)
    ttft, late = np.full(len(trace), np.nan), np.zeros(len(trace))
    start = time.perf_counter()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

        async def one(index: int, url: str, arrival: Arrival) -> None:
            late[index] = time.perf_counter() - start - arrival.at_seconds
            result = await send(http, Strangers(url, MODEL), arrival, late[index])
            if result.outcome is Outcome.OK and result.ttft_seconds is not None:
                ttft[index] = result.ttft_seconds

        async with asyncio.TaskGroup() as group:
            columns = (trace.arrival_seconds, trace.input_tokens, trace.output_tokens)
            for index, (at, prompt, answer) in enumerate(zip(*columns, strict=True)):
                await asyncio.sleep(max(0.0, start + at - time.perf_counter()))
                group.create_task(one(index, draw.choice(urls), Arrival(float(at), int(prompt), int(answer))))
    return ttft, late


async def measure(smg: Path, flags: list[str], gateways: int, trace: Trace, seed: int) -> tuple[Floats, Floats]:
    """Start engines and gateways, play the trace, stop them."""
    async with AsyncExitStack() as stack:
        workers: list[str] = []
        for role, number in ((Role.PREFILL, PREFILL_WORKERS), (Role.DECODE, DECODE_WORKERS)):
            for _ in range(number):
                workers += await stack.enter_async_context(engine(role))
        urls = [await stack.enter_async_context(gateway(smg, [*workers, *flags])) for _ in range(gateways)]
        await asyncio.sleep(2)
        return await play(urls, trace, seed)


def replayed(trace: Trace, routing: Routing, seed: int) -> Floats:
    """TTFT of each request by the replay, seconds."""
    settings = Settings({role: 0.0 for role in Role}, routing=routing, seed=seed, objectives=Objectives())
    model = replace(ENGINE, kv_tokens=AMPLE_KV_TOKENS)
    cluster = Cluster(model, trace, PREFILL_WORKERS, DECODE_WORKERS, settings)
    cluster.run()
    return np.array(cluster.ttft_seconds)


def figures(trace: Trace, ttft: Floats, objective: float) -> dict[str, float]:
    """What clients met, seconds and per cent; a request that failed is late.

    `_pm` is half a 95 % interval, by batch means. `overhead_p05` is what the luckiest prompts took beyond their
    service: some 10 ms, unless the machine is too busy to measure or hardly any prompt meets an idle worker.
    """
    late = ~(ttft <= objective)
    parts = np.array_split(np.arange(len(ttft)), BATCHES)

    def half(values: Floats) -> float:
        means = np.array([np.nanmean(values[part]) for part in parts])
        return T_QUANTILE * float(means.std(ddof=1)) / math.sqrt(BATCHES)

    over = ttft - service(trace.input_tokens)
    return {
        "objective": objective,
        "requests": len(ttft),
        "failed": int(np.isnan(ttft).sum()),
        "ttft_mean": float(np.nanmean(ttft)),
        "ttft_mean_pm": half(ttft),
        "ttft_p90": float(np.nanquantile(ttft, 0.9)),
        "ttft_p99": float(np.nanquantile(ttft, 0.99)),
        "late_percent": 100 * float(late.mean()),
        "late_percent_pm": 100 * half(late.astype(float)),
        "overhead_p05": float(np.nanquantile(over, 0.05)),
    }


def main() -> None:
    """Print one line of JSON for the gateway, or for each routing of the replay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smg", type=Path, help="the gateway's executable; without it, the replay is measured")
    parser.add_argument("--gateways", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("flags", nargs="*", help="flags of smg")
    args = parser.parse_args()
    trace, objective = load(args.seed, args.seconds)

    def show(what: str, ttft: Floats, **more: float) -> None:
        found = figures(trace, ttft, objective) | more
        print(json.dumps({"by": what, "seed": args.seed} | {name: round(value, 4) for name, value in found.items()}))

    if args.smg is None:
        for routing in (Routing.LEAST_REQUESTS, Routing.POWER_OF_TWO, Routing.ROUND_ROBIN):
            show(f"replay, {routing}", replayed(trace, routing, args.seed))
        return
    ttft, late = uvloop.run(measure(args.smg, args.flags, args.gateways, trace, args.seed))
    name = f"{args.gateways} smg {' '.join(args.flags)}"
    show(name, ttft, sent_late_p99=float(np.quantile(late, 0.99)))


if __name__ == "__main__":
    main()
