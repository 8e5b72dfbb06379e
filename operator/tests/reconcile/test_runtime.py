"""The loop over all resources: who works when, and what fails is tried again after one pause."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from dopd.cluster import ApiError
from dopd.reconcile import passes
from dopd.reconcile.passes import work
from dopd.reconcile.places import PLACES, Places, outside
from dopd.reconcile.queue import Key, KeyQueue

A = Key("ns", "a")
Pass = Callable[[Key], Awaitable[float | None]]


class Backlogs:
    async def run(self, _: Callable[[Key], None]) -> None:
        await asyncio.Event().wait()


class Stub:
    """A reconciler whose passes are given."""

    def __init__(self, one: Pass) -> None:
        self.backlogs, self.passes, self._one = Backlogs(), Counter[Key](), one

    async def reconcile(self, key: Key) -> float | None:
        self.passes[key] += 1
        return await self._one(key)


@asynccontextmanager
async def working(one: Pass) -> AsyncIterator[tuple[Stub, KeyQueue]]:
    stub, queue = Stub(one), KeyQueue()
    task = asyncio.create_task(work(stub, queue))  # type: ignore[arg-type]
    try:
        yield stub, queue
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError


@pytest.mark.parametrize(
    "error", [ApiError(500, "", "no"), ApiError(429, "", "slow"), KeyError("ours"), TimeoutError()]
)
async def test_what_fails_has_one_pause_that_grows(error: Exception, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(passes, "FIRST_RETRY_SECONDS", 0.02)
    monkeypatch.setattr(passes, "OVERLOAD_SECONDS", 0.03)
    waits: list[float] = []

    class Queue(KeyQueue):
        def add(self, key: Key, delay_seconds: float = 0.0) -> None:
            waits.append(delay_seconds)
            super().add(key, delay_seconds)

    async def fail(_: Key) -> None:
        raise error

    stub, queue = Stub(fail), Queue()
    task = asyncio.create_task(work(stub, queue))  # type: ignore[arg-type]
    queue.add(A)
    await until(lambda: len(waits) >= 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    first = 0.03 if isinstance(error, ApiError) and error.status == 429 else 0.02
    assert waits[:5] == [0.0, first, 0.04, 0.08, 0.16]


async def test_passes_that_wait_for_tenants_keep_nobody_waiting():
    may_answer = asyncio.Event()

    async def one(key: Key) -> float | None:
        if key.namespace == "bad":
            async with outside():
                await may_answer.wait()
        return None

    async with working(one) as (stub, queue):
        for number in range(10 * PLACES):
            queue.add(Key("bad", str(number)))
        queue.add(A)
        await until(lambda: stub.passes[A] > 0)
        assert sum(stub.passes.values()) == 10 * PLACES + 1


async def test_passes_that_work_have_so_many_places():
    at_work = most = 0

    async def one(_: Key) -> float | None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0.01)
        async with outside():
            at_work -= 1
            await asyncio.sleep(0.01)
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0.01)
        at_work -= 1
        return None

    async with working(one) as (stub, queue):
        for number in range(5 * PLACES):
            queue.add(Key("ns", str(number)))
        await until(lambda: sum(stub.passes.values()) == 5 * PLACES)
    assert most <= PLACES


async def test_a_pass_that_is_given_up_outside_gives_its_place_back():
    places = Places(1)

    async def one(seconds: float) -> None:
        async with places.of(A), asyncio.timeout(seconds), outside():
            await asyncio.Event().wait()

    for _ in range(3):
        with pytest.raises(TimeoutError):
            await one(0.01)
    async with asyncio.timeout(5), places.of(A):
        pass


async def test_outside_of_a_pass_it_means_nothing():
    async with outside():
        pass


@pytest.mark.timeout(60)  # it imports the whole operator anew
def test_the_operator_does_without_the_libraries_of_forecasts():
    """They are 100 MB, and a process of their own has them."""
    program = "import sys, dopd.cli.run; print(*{'statsmodels', 'pandas', 'scipy'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.split() == []
