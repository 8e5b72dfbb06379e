"""The slow steps of many forecasters, elsewhere.

An update costs a millisecond or two and an estimation a few hundred, so an operator with thousands of series
keeps the updates and hands the estimations to an executor; a model goes on with the parameters that it has until
the new ones arrive. Which executor is the caller's choice: a `ProcessExecutor` in service, a thread in a test.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Executor, Future, wait
from typing import TypeVar

from dopd_forecasting.forecaster import Estimation, Forecaster
from dopd_forecasting.models.base import Model
from dopd_forecasting.process import WorkFailed
from dopd_forecasting.series import Series

Key = TypeVar("Key")


class EstimationPool:
    """Runs the estimations that forecasters made with `defer_estimations=True` leave undone.

    What takes no time is not handed over: models without parameters, and those that lack history.

    Args:
        executor: where they run; set OMP_NUM_THREADS=1 for its processes.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._running: dict[Future[Model], tuple[Forecaster, Estimation]] = {}

    def begin_fit(self, forecaster: Forecaster, series: Series) -> Future[Forecaster]:
        """Fit a forecaster from history; the result is to take its place."""
        return self._executor.submit(_fitted, forecaster, series)

    def fit(self, work: Mapping[Key, tuple[Forecaster, Series]]) -> dict[Key, Forecaster]:
        """Fit many forecasters from history, as at start; waits, and returns the fitted ones in their place."""
        futures = {key: self.begin_fit(forecaster, series) for key, (forecaster, series) in work.items()}
        return {key: future.result() for key, future in futures.items()}

    def submit(self, forecasters: Iterable[Forecaster]) -> int:
        """Hand over what is due; returns how many estimations were handed over.

        What is still under way for the same model is not handed over a second time.
        """
        before = len(self._running)
        under_way = {(id(forecaster), estimation.index) for forecaster, estimation in self._running.values()}
        for forecaster in forecasters:
            for estimation in forecaster.due_estimations():
                if (id(forecaster), estimation.index) in under_way or _done_here(forecaster, estimation):
                    continue
                self._running[self._executor.submit(estimation.run)] = (forecaster, estimation)
        return len(self._running) - before

    def collect(self, timeout_seconds: float | None = 0.0) -> int:
        """Install what is ready and return how many estimations ended.

        A model whose estimation was lost with its process goes on with the parameters that it has.

        Args:
            timeout_seconds: how long to wait for the first of them; None: until all have ended.
        """
        done, _ = wait(self._running, timeout=timeout_seconds)
        for future in sorted(done, key=list(self._running).index):
            forecaster, estimation = self._running.pop(future)
            try:
                forecaster.install(estimation.index, future.result())
            except WorkFailed:
                continue
            except Exception as error:
                forecaster.reject(estimation.index, error)
        return len(done)

    def cancel(self) -> None:
        """Drop what has not begun; nobody waits for the rest. From any thread."""
        for future in list(self._running):
            future.cancel()
        self._running.clear()


def _done_here(forecaster: Forecaster, estimation: Estimation) -> bool:
    model = estimation.factory()
    try:
        model.check_history(estimation.series)
        if model.heavy:
            return False
        forecaster.install(estimation.index, estimation.run())
    except Exception as error:
        forecaster.reject(estimation.index, error)
    return True


def _fitted(forecaster: Forecaster, series: Series) -> Forecaster:
    forecaster.fit(series)
    return forecaster
