"""The forecaster of one resource, estimated in a process that may be slow, or die."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

import numpy as np
import pytest

from dopd.reconcile import forecasts
from dopd.reconcile.forecasts import MOST_BINS_HERE, ResourceForecaster
from dopd_forecasting import Forecaster, ProcessExecutor, Series, WorkFailed
from dopd_forecasting.models.naive import LastValue, MovingAverage


class Held(Executor):
    """Calls wait until they are let go."""

    def __init__(self) -> None:
        self.calls: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, call: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.calls.append((future, lambda: call(*args, **named)))
        return future

    def let_go(self, error: Exception | None = None) -> None:
        calls, self.calls = self.calls, []
        for future, call in calls:
            if not future.set_running_or_notify_cancel():
                continue
            if error:
                future.set_exception(error)
            else:
                future.set_result(call())


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecasts, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(forecasts, "Forecaster", partial(Forecaster, (LastValue, MovingAverage)))  # these take no time


def load(bins: int, bin_seconds: float = 60.0) -> Series:
    return Series(10 + np.random.default_rng(1).normal(size=bins), 0, bin_seconds, "requests/s")


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def forecaster(held: Held) -> ResourceForecaster:
    return ResourceForecaster(held, Clock())


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_nobody_waits_for_a_fit(held: Held, forecaster: ResourceForecaster):
    assert await forecaster.follow(load(60), 0) is None
    assert "being made" in forecaster.problem
    assert await forecaster.follow(load(61), 0) is None
    assert len(held.calls) == 1, "one fit is enough"
    held.let_go()
    found = await forecaster.follow(load(62), 0)
    assert found
    assert forecaster.problem == ""
    assert found.predict([60.0]).made_at == 62 * 60.0, "what came meanwhile is taken in"
    assert await forecaster.follow(load(63), 0) is found


async def test_a_fit_that_fails_is_said_and_tried_again_after_a_pause(held: Held):
    clock = Clock()
    forecaster = ResourceForecaster(held, clock)
    for pause in (5, 10):
        assert await forecaster.follow(load(60), 0) is None
        held.let_go(WorkFailed("the process of forecasts ended with -9"))
        await settle()
        assert await forecaster.follow(load(60), 0) is None
        assert "ended with -9" in forecaster.problem
        assert f"again after {pause} s" in forecaster.problem
        assert await forecaster.follow(load(60), 0) is None
        assert held.calls == []
        assert "ended with -9" in forecaster.problem
        clock.seconds += pause
    assert await forecaster.follow(load(60), 0) is None
    held.let_go()
    assert await forecaster.follow(load(60), 0)


async def test_other_bins_need_another_forecaster(held: Held, forecaster: ResourceForecaster):
    await forecaster.follow(load(60), 0)
    held.let_go()
    assert await forecaster.follow(load(60), 0)
    assert await forecaster.follow(load(120, 30.0), 0) is None
    held.let_go()
    assert await forecaster.follow(load(120, 30.0), 0)


async def test_a_gap_that_can_be_read_again_is_learnt_from_while_the_old_one_goes_on(
    held: Held, forecaster: ResourceForecaster
):
    await forecaster.follow(load(60), 1)
    held.let_go()
    before = await forecaster.follow(load(60), 1)
    assert before
    assert await forecaster.follow(load(61), 0) is before
    held.let_go()
    after = await forecaster.follow(load(62), 0)
    assert after is not before


async def test_what_came_in_a_long_outage_is_learnt_elsewhere(held: Held, forecaster: ResourceForecaster):
    await forecaster.follow(load(60), 0)
    held.let_go()
    await forecaster.follow(load(60), 0)
    long = load(60 + MOST_BINS_HERE + 1)
    assert await forecaster.follow(long, 0) is None
    held.let_go()
    assert await forecaster.follow(long, 0)


async def test_a_stop_drops_what_is_under_way(held: Held, forecaster: ResourceForecaster):
    await forecaster.follow(load(60), 0)
    forecaster.stop()
    await settle()
    assert all(future.cancelled() for future, _ in held.calls)


@pytest.fixture
def process() -> Iterator[ProcessExecutor]:
    executor = ProcessExecutor()
    yield executor
    executor.shutdown()


async def test_the_forecast_outlives_the_process_that_made_it(
    process: ProcessExecutor, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(forecasts, "PATIENCE_SECONDS", 15.0)
    forecaster = ResourceForecaster(process.of("ns"))
    before = await forecaster.follow(load(60), 0)
    assert before
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    for bins in (61, 62, 70):
        found = await forecaster.follow(load(bins), 0)
        assert found is before
        assert found.predict([60.0]).made_at == bins * 60.0
