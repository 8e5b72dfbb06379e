"""The forecaster of one resource: brought up to date here, estimated elsewhere.

Estimations are seconds of computing and 100 MB of libraries, so the operator leaves them to a process of their own
(`dopd_forecasting.process`). No reading waits for them for long: a forecaster goes on with the parameters that it has,
and while there is none yet the plan rests on the load as observed. What is kept is kept here, so that the process may
die at any time.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor

from dopd.cluster.backoff import Backoff
from dopd_forecasting import EstimationPool, Forecaster, Series

PATIENCE_SECONDS = 0.5
"""A reading waits so long for a forecaster to be fitted from its history; the next one finds it. Passes wait for a
reading, and a fit takes a second or two."""
MOST_BINS_HERE = 120
"""More new bins than that, after an outage, are not taken in here: that would hold the interpreter for a while."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 300.0
"""After a fit that failed: a history that ends the process must not end it at each reading."""


class ResourceForecaster:
    """Follows the load of one resource.

    Attributes:
        problem: why there is no forecaster; "" when there is one.

    Args:
        executor: does the estimations.
        now: monotonic clock, seconds.
    """

    def __init__(self, executor: Executor, now: Callable[[], float] = time.monotonic) -> None:
        self.problem = self._failure = ""
        self._pool = EstimationPool(executor)
        self._pauses = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, now)
        self._forecaster: Forecaster | None = None
        self._fitting: asyncio.Future[Forecaster] | None = None
        self._next_bin = self._gaps = 0
        self._bin_seconds = 0.0

    async def follow(self, series: Series, gaps: int) -> Forecaster | None:
        """The forecaster, with all of a history taken in; None while it is being fitted from it.

        Args:
            series: the history as it is known now.
            gaps: parts of it that could not be read.
        """
        if self._fitting is None and self._must_fit(series, gaps) and not self._pauses.seconds_left("fit"):
            self._begin_fit(series, gaps)
        if self._fitting is not None:
            await asyncio.wait({self._fitting}, timeout=PATIENCE_SECONDS)
            self._take_fitted()
        forecaster = self._forecaster
        if forecaster is None or series.bin_seconds != self._bin_seconds:
            self.problem = self._failure or "the forecast is being made from the history"
            return None
        self.problem = ""
        await asyncio.to_thread(self._bring_up, forecaster, series)
        self._next_bin = series.next_bin
        return forecaster

    def stop(self) -> None:
        """Drop what is under way."""
        self._pool.cancel()
        if self._fitting is not None:
            self._fitting.cancel()

    def _must_fit(self, series: Series, gaps: int) -> bool:
        if self._forecaster is None or series.bin_seconds != self._bin_seconds:
            return True
        # A gap that can be read now teaches nothing but at the start.
        return gaps < self._gaps or self._is_far_behind(series)

    def _is_far_behind(self, series: Series) -> bool:
        return series.next_bin - self._next_bin > MOST_BINS_HERE

    def _begin_fit(self, series: Series, gaps: int) -> None:
        if series.bin_seconds != self._bin_seconds or self._is_far_behind(series):
            self._forecaster = None
        self._pool.cancel()
        self._bin_seconds, self._gaps, self._next_bin = series.bin_seconds, gaps, series.next_bin
        self._fitting = asyncio.wrap_future(self._pool.begin_fit(Forecaster(defer_estimations=True), series))
        self._fitting.add_done_callback(_seen)

    def _take_fitted(self) -> None:
        if self._fitting is None or not self._fitting.done():
            return
        fitting, self._fitting = self._fitting, None
        try:
            self._forecaster = fitting.result()
            self._pauses.succeeded("fit")
            self._failure = ""
        except Exception as error:
            pause_seconds = self._pauses.failed("fit")
            words = str(error) or type(error).__name__
            self._failure = f"the forecast can not be made: {words}; tried again after {pause_seconds:.0f} s"

    def _bring_up(self, forecaster: Forecaster, series: Series) -> None:
        """In a thread: an update takes a millisecond or two for each bin."""
        self._pool.collect()
        forecaster.update(series)
        self._pool.submit([forecaster])


def _seen(fitting: "asyncio.Future[Forecaster]") -> None:
    """At a stop nobody asks any more what became of it, which asyncio would complain of."""
    if not fitting.cancelled():
        fitting.exception()
