"""What single parts of the operator cost for each resource, without a cluster: `python -m e2e.scale.parts`.

CPU milliseconds for each resource, for sizes of which each should cost the same.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from dopd.api.conditions import ConditionReason, ConditionStatus, ConditionType
from dopd.api.names import ROUTER_POOL, Role
from dopd.cluster.fairness import FairGate
from dopd.reconcile import metrics
from dopd.reconcile.conditions import Finding
from dopd.reconcile.observe import Observed
from dopd.reconcile.queue import Key, KeyQueue
from dopd.telemetry.gateway import GatewayView
from dopd.telemetry.loads import LoadReader, Source
from dopd.telemetry.prometheus import Servers
from e2e.scale.series import Played, times_between
from e2e.scale.sizes import exponent, names

PERIOD_SECONDS = 600.0
"""Long, so that a machine that has other work gives its answers in time."""
WORKERS = 4


class Client:
    """A Prometheus that answers at once; what it takes to make the answers is left out of the time."""

    def __init__(self, played: Played) -> None:
        self._played, self.making_seconds, self.now_seconds = played, 0.0, time.time()

    def custom_query(self, query: str, params: dict[str, Any] | None = None) -> Any:
        """An instant."""
        return self._made(query, [float((params or {}).get("time") or self.now_seconds)], ranged=False)

    def custom_query_range(self, query: str, start_time: Any, end_time: Any, step: str, **_: Any) -> Any:
        """A range."""
        ends = (str(start_time.timestamp()), str(end_time.timestamp()))
        return self._made(query, times_between(*ends, step), ranged=True)

    def close(self) -> None:
        """Nothing is held."""

    def _made(self, query: str, times: Sequence[float], *, ranged: bool) -> Any:
        began = time.thread_time()
        text = json.dumps(self._played.answer(query, times, ranged=ranged)["data"]["result"])
        self.making_seconds += time.thread_time() - began
        return json.loads(text)


async def readings(size: int) -> float:
    """The second reading of each resource, as all share the answers of one Prometheus."""
    client = Client(Played(names(size, max(1, size // 100)), WORKERS))
    loads = LoadReader(Servers(lambda _: client))
    source = Source("http://played", 60.0, 7200.0, PERIOD_SECONDS)

    async def one(key: tuple[str, str], now_seconds: float) -> None:
        await asyncio.gather(
            loads.history(source, key, now_seconds),
            loads.now(source, key, now_seconds, ttft_seconds=1.0, itl_seconds=0.05),
        )

    for key in names(size, max(1, size // 100)):
        await one(key, client.now_seconds)
    began, made = time.process_time(), client.making_seconds
    client.now_seconds += PERIOD_SECONDS
    await asyncio.gather(*(one(key, client.now_seconds) for key in names(size, max(1, size // 100))))
    return time.process_time() - began - (client.making_seconds - made)


async def queue(size: int) -> float:
    """A key is taken, made due in a period, and given back."""
    waiting = KeyQueue()
    for name in names(size, 10):
        waiting.add(Key(*name))
    began = time.process_time()
    for _ in range(size):
        key = await waiting.take()
        waiting.add(key, PERIOD_SECONDS)
        waiting.done(key)
    return time.process_time() - began


async def gauges(size: int) -> float:
    """The gauges of a resource are set as they were."""
    found = [Finding(kind, ConditionStatus.TRUE, ConditionReason.AS_EXPECTED, "") for kind in ConditionType]
    pools: dict[Any, list[Any]] = {pool: [] for pool in (*Role, ROUTER_POOL)}
    view = GatewayView(frozenset(), (), ())
    observed = Observed({}, None, "", {}, pools, pools, pools, view, {}, pools, "")
    targets = dict.fromkeys(Role, 1)

    def set_all() -> None:
        for name in names(size, 10):
            metrics.report(Key(*name), observed, targets, None, found)

    set_all()
    began = time.process_time()
    set_all()
    spent = time.process_time() - began
    for name in names(size, 10):
        metrics.forget(Key(*name))
    return spent


async def places(size: int) -> float:
    """All wait for one of eight places."""
    gate = FairGate(8, 1)

    async def one(name: tuple[str, str]) -> None:
        async with gate.of(name):
            await asyncio.sleep(0)

    began = time.process_time()
    await asyncio.gather(*map(one, names(size, max(1, size // 100))))
    return time.process_time() - began


PARTS: dict[str, Callable[[int], Awaitable[float]]] = {
    "a reading": readings,
    "a turn in the queue": queue,
    "the gauges": gauges,
    "a place, all at once": places,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m e2e.scale.parts", description=__doc__)
    parser.add_argument("--resources", type=int, nargs="+", default=[10, 100, 1000])
    sizes = parser.parse_args(arguments).resources
    print(f"| CPU for each resource, ms | {' | '.join(map(str, sizes))} | exponent |")
    print("|---|" + "---|" * (len(sizes) + 1))
    for words, part in PARTS.items():
        spent = [asyncio.run(_measured(part, size)) * 1000 / size for size in sizes]
        power = exponent(sizes, spent)
        print(f"| {words} | {' | '.join(f'{one:.3g}' for one in spent)} | {'' if power is None else f'{power:.2f}'} |")


async def _measured(part: Callable[[int], Awaitable[float]], size: int) -> float:
    return await part(size)


if __name__ == "__main__":
    main()
