"""The slow steps of many forecasters, elsewhere.

An update costs a millisecond or two and an estimation a few hundred, so an operator with thousands of series
keeps the updates and hands the estimations to an executor; a model goes on with the parameters that it has until
the new ones arrive. Which executor is the caller's
choice: a `ProcessPoolExecutor` in service, a thread in a test.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Executor, Future, wait
from typing import TypeVar

from dopd_forecasting.forecaster import Estimation, Forecaster
from dopd_forecasting.models.base import Model
from dopd_forecasting.series import Series

Key = TypeVar("Key")


class EstimationPool:
    """Runs the estimations that forecasters made with `defer_estimations=True` leave undone.

    Args:
        executor: where they run; set OMP_NUM_THREADS=1 for its processes.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._running: dict[Future[Model], tuple[Forecaster, Estimation]] = {}

    def fit(self, work: Mapping[Key, tuple[Forecaster, Series]]) -> dict[Key, Forecaster]:
        """Fit many forecasters from history, as at start; waits, and returns the fitted ones in their place."""
        futures = {
            key: self._executor.submit(_fitted, forecaster, series) for key, (forecaster, series) in work.items()
        }
        return {key: future.result() for key, future in futures.items()}

    def submit(self, forecasters: Iterable[Forecaster]) -> int:
        """Hand over what is due; returns how many estimations were handed over."""
        before = len(self._running)
        for forecaster in forecasters:
            for estimation in forecaster.due_estimations():
                self._running[self._executor.submit(estimation.run)] = (forecaster, estimation)
        return len(self._running) - before

    def collect(self, timeout_seconds: float | None = 0.0) -> int:
        """Install what is ready and return how many estimations ended.

        Args:
            timeout_seconds: how long to wait for the first of them; None: until all have ended.
        """
        done, _ = wait(self._running, timeout=timeout_seconds)
        for future in sorted(done, key=list(self._running).index):
            forecaster, estimation = self._running.pop(future)
            try:
                forecaster.install(estimation.index, future.result())
            except Exception as error:
                forecaster.reject(estimation.index, error)
        return len(done)


def _fitted(forecaster: Forecaster, series: Series) -> Forecaster:
    forecaster.fit(series)
    return forecaster
