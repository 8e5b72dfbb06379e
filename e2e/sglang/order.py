"""What the order of prompts is worth in a real engine: short prompts behind three long ones, by order.

    python -m e2e.sglang order [--repetitions 3]

One prefill and one decode engine on the CPU, as in the tests. Times are those of this machine: compare the rows, and
let nothing else run.
"""

import asyncio
import math
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from e2e.sglang.engines import StartedPair, plugin_folder, start_pair
from e2e.sglang.fleet import Fleet
from e2e.sglang.install import IMAGE_FOLDER
from e2e.sglang.settings_file import put

LONG, SHORT = 8000, 100
SHORT_ONES, GAP_SECONDS = 30, 0.05
TTFT_SECONDS = 60.0
"""Long enough that all can be on time: then the order is that of least waiting."""
ORDERS: dict[str, dict[str, Any]] = {
    "SGLang's fcfs": {"policy": "engine-default"},
    "shortest-first, 1 unfinished (SGLang's flag)": {"policy": "shortest-first", "mostUnfinished": 1},
    "on-time-first, 1 unfinished": {"policy": "on-time-first", "mostUnfinished": 1},
    "on-time-first, 3 unfinished": {"policy": "on-time-first", "mostUnfinished": 3},
}


def main(repetitions: int) -> int:
    """Print the table."""
    with ordered_pair() as (pair, settings):
        asyncio.run(_table(pair, settings, repetitions))
    return 0


@contextmanager
def ordered_pair(decode_flags: Sequence[str] = ()) -> Iterator[tuple[StartedPair, Path]]:
    """A pair that is ready, with the plugin in prefill, and the file of its settings; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="dopd-order-") as folder, Fleet() as fleet:
        settings = Path(folder) / "scheduling.json"
        pair = start_pair(
            fleet,
            prefill_flags=["--chunked-prefill-size", "1024"],
            decode_flags=decode_flags,
            environment={"DOPD_SCHEDULING_FILE": str(settings)},
            prefill_plugins=[plugin_folder(IMAGE_FOLDER, Path(folder) / "dopd")],
        )
        fleet.wait_until_ready()
        yield pair, settings


async def _table(pair: StartedPair, settings: Path, repetitions: int) -> None:
    print("| order | short prompts: first token p50; p90, s | long prompts, s |\n|---|---|---|", flush=True)
    async with httpx.AsyncClient(timeout=300, limits=httpx.Limits(max_keepalive_connections=0)) as client:
        await first_token(client, pair, 3000)  # the first pass of a size compiles
        for repetition in range(repetitions):
            for name, fields in ORDERS.items():
                await put(settings, ttftSeconds=TTFT_SECONDS, **fields)
                short, long = await _crowd(client, pair)
                p50, p90 = short[len(short) // 2], short[int(0.9 * len(short))]
                longs = ", ".join(f"{seconds:.1f}" for seconds in long)
                print(f"| {name} ({repetition + 1}) | {p50:.2f}; {p90:.2f} | {longs} |", flush=True)


async def _crowd(client: httpx.AsyncClient, pair: StartedPair) -> tuple[list[float], list[float]]:
    """Three long prompts, and short ones behind them: their times to first token, ascending."""
    long = [asyncio.create_task(first_token(client, pair, LONG)) for _ in range(3)]
    await asyncio.sleep(0.4)
    short = []
    for _ in range(SHORT_ONES):
        short.append(asyncio.create_task(first_token(client, pair, SHORT)))
        await asyncio.sleep(GAP_SECONDS)
    return sorted(await asyncio.gather(*short)), sorted(await asyncio.gather(*long))


async def first_token(client: httpx.AsyncClient, pair: StartedPair, tokens: int, **fields: Any) -> float:
    """Send a prompt of so many tokens to both engines; seconds until its first token. `fields` go into the request."""
    body = {
        **fields,
        "input_ids": [random.randrange(100, 19_000) for _ in range(tokens)],
        "sampling_params": {"max_new_tokens": 8, "ignore_eos": True, "temperature": 0},
        "stream": True,
        "bootstrap_host": "127.0.0.1",
        "bootstrap_port": pair.prefill.bootstrap_port,
        "bootstrap_room": random.randrange(2**40),
    }
    began = time.monotonic()

    async def decode() -> float:
        first = float("nan")
        async with client.stream("POST", f"{pair.decode.url}/generate", json=body) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {") and math.isnan(first):
                    first = time.monotonic() - began
        return first

    _, first = await asyncio.gather(client.post(f"{pair.prefill.url}/generate", json=body), decode())
    return first
