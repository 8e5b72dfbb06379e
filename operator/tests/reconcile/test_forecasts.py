"""A forecaster that is estimated in a process that may be slow, or die."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

import numpy as np
import pytest

from dopd.reconcile import forecasts
from dopd.reconcile.forecasts import EstimatedElsewhere
from dopd_forecasting import Forecaster, ProcessExecutor, Series, WorkFailed
from dopd_forecasting.models.naive import LastValue, MovingAverage

PATIENCE_SECONDS = 30.0


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
def quick_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecasts, "Forecaster", partial(Forecaster, (LastValue, MovingAverage)))


def load(bins: int, first: int = 0) -> Series:
    return Series(10 + np.random.default_rng(1).normal(size=bins), first, 60.0, "busy workers")


def test_nobody_waits_for_a_fit_and_what_came_meanwhile_is_taken_in() -> None:
    held = Held()
    forecaster = EstimatedElsewhere(held)
    assert forecaster.problem == ""
    forecaster.fit(load(60))
    assert not forecaster.ready
    assert "being made" in forecaster.problem
    assert len(held.calls) == 1, "one fit is enough"
    with pytest.raises(RuntimeError, match="not fitted"):
        forecaster.trust(3600.0)
    held.let_go()
    assert forecaster.ready
    assert forecaster.problem == ""
    forecaster.update(load(2, first=60))
    assert forecaster.predict([60.0]).made_at == 62 * 60.0


def test_a_fit_that_fails_is_said_and_tried_again_after_a_pause() -> None:
    held, clock = Held(), Clock()
    forecaster = EstimatedElsewhere(held, clock)
    forecaster.fit(load(60))
    for pause in (5, 10):
        held.let_go(WorkFailed("the process of forecasts ended with -9"))
        assert not forecaster.ready
        assert "ended with -9" in forecaster.problem
        assert f"again after {pause} s" in forecaster.problem
        assert held.calls == [], "not before the pause is over"
        clock.seconds += pause
        assert not forecaster.ready
        assert len(held.calls) == 1
    held.let_go()
    assert forecaster.ready
    assert forecaster.problem == ""


def test_a_stop_and_another_history_drop_what_is_under_way() -> None:
    held = Held()
    forecaster = EstimatedElsewhere(held)
    forecaster.fit(load(60))
    forecaster.fit(load(90))
    assert [future.cancelled() for future, _ in held.calls] == [True, False]
    forecaster.stop()
    assert all(future.cancelled() for future, _ in held.calls)


@pytest.fixture
def process() -> Iterator[ProcessExecutor]:
    executor = ProcessExecutor()
    yield executor
    executor.shutdown()


def test_the_forecast_outlives_the_process_that_made_it(process: ProcessExecutor) -> None:
    forecaster = EstimatedElsewhere(process.of("ns"))
    forecaster.fit(load(60))
    end = time.monotonic() + PATIENCE_SECONDS
    while not forecaster.ready and time.monotonic() < end:
        time.sleep(0.05)
    assert forecaster.ready
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    for first, bins in ((60, 1), (61, 1), (62, 8)):
        forecaster.update(load(bins, first=first))
        assert forecaster.ready
        assert forecaster.predict([60.0]).made_at == (first + bins) * 60.0
