"""What online prompts lose by a batch in a real engine: none, behind them, and mixed in.

    python -m e2e.sglang batch [--repetitions 3]

One prefill and one decode engine on the CPU, with the operator's flags for a batch. Times are those of this machine:
compare the rows, and let nothing else run.
"""

import asyncio
import random
from pathlib import Path
from typing import Any

import httpx

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.workloads.batch import batch_engine_flags
from e2e.sglang.engines import SPEC, StartedPair
from e2e.sglang.order import first_token, ordered_pair
from e2e.sglang.settings_file import put

ONLINE, GAP_SECONDS = 40, 0.25
ONLINE_TOKENS = (100, 600)
BATCH, BATCH_TOKENS = 25, 3000
TTFT_SECONDS = 2.0
WAYS: dict[str, tuple[int, dict[str, Any], dict[str, int]]] = {
    "no batch": (0, {"policy": "on-time-first"}, {}),
    "behind": (BATCH, {"policy": "on-time-first", "batch": {}}, {"priority": -1}),
    "mixed in, on time first": (BATCH, {"policy": "on-time-first"}, {}),
    "mixed in, first come first served": (BATCH, {"policy": "engine-default"}, {}),
}
"""By name: requests of the batch, the plugin's settings, and what a request of the batch says."""


def main(repetitions: int) -> int:
    """Print the table."""
    raw = SPEC.model_dump(by_alias=True, exclude_unset=True)
    spec = DisaggregatedInferenceSpec.model_validate({**raw, "scheduling": {"batch": {}}})
    with ordered_pair(batch_engine_flags(spec, Role.DECODE)) as (pair, settings):
        asyncio.run(_table(pair, settings, repetitions))
    return 0


async def _table(pair: StartedPair, settings: Path, repetitions: int) -> None:
    print("| the batch | online: first token p50; p90; longest, s | batch: first tokens from, to, s |\n|---|---|---|")
    async with httpx.AsyncClient(timeout=300, limits=httpx.Limits(max_keepalive_connections=0)) as client:
        await first_token(client, pair, BATCH_TOKENS)  # the first pass of a size compiles
        for repetition in range(repetitions):
            for name, (requests, fields, says) in WAYS.items():
                await put(settings, ttftSeconds=TTFT_SECONDS, mostUnfinished=3, **fields)
                online, batch = await _together(client, pair, requests, says)
                p50, p90 = online[len(online) // 2], online[int(0.9 * len(online))]
                ended = f"{batch[0]:.1f}, {batch[-1]:.1f}" if batch else ""
                row = f"| {name} ({repetition + 1}) | {p50:.2f}; {p90:.2f}; {online[-1]:.2f} | {ended} |"
                print(row, flush=True)


async def _together(
    client: httpx.AsyncClient, pair: StartedPair, requests: int, says: dict[str, int]
) -> tuple[list[float], list[float]]:
    """A batch that comes at once, and online prompts one by one: seconds to the first token of each, ascending."""
    batch = [asyncio.create_task(first_token(client, pair, BATCH_TOKENS, **says)) for _ in range(requests)]
    chance = random.Random(5)
    online = []
    for _ in range(ONLINE):
        await asyncio.sleep(chance.expovariate(1 / GAP_SECONDS))
        online.append(asyncio.create_task(first_token(client, pair, chance.randint(*ONLINE_TOKENS))))
    return sorted(await asyncio.gather(*online)), sorted(await asyncio.gather(*batch))
