"""Looking at the engines between two passes: who is woken, and who is left alone."""

import asyncio
from typing import Any

import pytest

from dopd.autoscaler.idle import Counts
from dopd.planning import PerRole, Workers
from dopd.reconcile.backlog import BacklogWatch
from dopd.reconcile.queue import Key

from .test_conditions import ALL_WELL, look

KEY, OTHER = Key("ns", "m"), Key("ns", "other")


class Engines:
    """Engines that all have the same number of prompt tokens waiting, or fail."""

    def __init__(self, waiting: int = 0, counted: int = 0) -> None:
        self.waiting, self.counted = waiting, counted
        self.asked = self.gateways_asked = 0

    async def get_text(self, pod: dict[str, Any], port: int, path: str) -> str:
        self.gateways_asked += 1
        return f"smg_router_requests_total {self.counted}\n"

    async def get_json(self, pod: dict[str, Any], port: int, path: str, query: dict[str, str] | None = None) -> Any:
        self.asked += 1
        rank = {"num_running_reqs": 0, "num_waiting_reqs": 1, "num_waiting_uncached_tokens": self.waiting}
        return {"loads": [rank]}


class Loop:
    """A loop whose plan grows with any waiting prompt or counted request; or one that is broken."""

    def __init__(self, broken: bool = False, asleep: bool = False) -> None:
        self.broken, self.asleep = broken, asleep

    def would_grow(self, workers: PerRole[Workers], now_seconds: float, counted: Counts | None = None) -> bool:
        if self.broken:
            raise RuntimeError("broken")
        return bool(workers.prefill.waiting_tokens or any((counted or {}).values()))


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def poll(watch: BacklogWatch) -> list[Key]:
    """Let the watch run for one tick; returns who was woken."""
    woken: list[Key] = []
    task = asyncio.create_task(watch.run(woken.append))
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    return woken


def watching(engines: Engines, *loops: tuple[Key, Loop]) -> tuple[BacklogWatch, Clock]:
    clock = Clock()
    watch = BacklogWatch(engines, clock)
    for key, loop in loops:
        watch.watch(key, look(*ALL_WELL), loop, 2.0)  # type: ignore[arg-type]
    return watch, clock


async def test_a_queue_wakes_its_resource_once_its_period_is_over():
    watch, clock = watching(Engines(waiting=100), (KEY, Loop()))
    assert await poll(watch) == []
    clock.seconds = 2.0
    assert await poll(watch) == [KEY]
    assert await poll(watch) == [], "a period passes between two looks"


@pytest.mark.parametrize(("asleep", "counted", "woken"), [(True, 1, [KEY]), (True, 0, []), (False, 1, [])])
async def test_a_first_request_wakes_a_resource_that_sleeps_and_no_other_gateway_is_asked(asleep, counted, woken):
    engines = Engines(counted=counted)
    watch, clock = watching(engines, (KEY, Loop(asleep=asleep)))
    clock.seconds = 2.0
    assert await poll(watch) == woken
    assert engines.gateways_asked == int(asleep)


async def test_without_a_queue_nobody_is_woken():
    engines = Engines()
    watch, clock = watching(engines, (KEY, Loop()))
    clock.seconds = 2.0
    assert await poll(watch) == []
    assert engines.asked == 2, "each engine, and no gateway"


async def test_a_resource_in_trouble_does_not_blind_the_others():
    watch, clock = watching(Engines(waiting=100), (OTHER, Loop(broken=True)), (KEY, Loop()))
    clock.seconds = 2.0
    assert await poll(watch) == [KEY]


async def test_who_is_forgotten_is_asked_no_more():
    engines = Engines(waiting=100)
    watch, clock = watching(engines, (KEY, Loop()))
    watch.forget(KEY)
    clock.seconds = 2.0
    assert await poll(watch) == []
    assert engines.asked == 0
