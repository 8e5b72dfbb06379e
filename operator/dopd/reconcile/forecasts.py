"""A forecaster that is brought up to date here and estimated elsewhere.

Estimations are seconds of computing and 100 MB of libraries, so the operator leaves them to a process of their own
(`dopd_forecasting.process`). No reading waits for them: a forecaster goes on with the parameters that it has, and while
there is none yet, plans rest on the other voices. What is kept is kept here, so that the process may die at any time.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future

from dopd.cluster.backoff import Backoff
from dopd_forecasting import EstimationPool, Forecast, Forecaster, Series, Trust

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 300.0
"""After a fit that failed: a history that ends the process must not end it at each reading."""
_FIT = "fit"


class EstimatedElsewhere:
    """What `dopd.autoscaler` asks of a forecaster. Its methods take milliseconds; call them in a thread.

    Args:
        executor: does the estimations.
        now: monotonic clock, seconds.
    """

    def __init__(self, executor: Executor, now: Callable[[], float] = time.monotonic) -> None:
        self._failure = ""
        self._pool = EstimationPool(executor)
        self._pauses = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, now)
        self._forecaster: Forecaster | None = None
        self._fitting: Future[Forecaster] | None = None
        self._history: Series | None = None

    @property
    def ready(self) -> bool:
        """Whether it has been fitted."""
        if self._fitting is not None and self._fitting.done():
            self._take_fitted(self._fitting)
        if self._history is not None and self._fitting is None and not self._pauses.seconds_left(_FIT):
            self._fitting = self._pool.begin_fit(Forecaster(defer_estimations=True), self._history)
        return self._forecaster is not None

    @property
    def problem(self) -> str:
        """Why there is no forecast yet; "" where there is one, or no history to make it from."""
        if self._forecaster is not None or self._history is None:
            return ""
        return self._failure or "the forecast is being made from the history"

    def fit(self, series: Series) -> None:
        """Begin to learn from a history, forgetting whatever was learnt before."""
        self.stop()
        self._forecaster, self._history = None, series
        _ = self.ready

    def update(self, series: Series) -> None:
        """Take in newer bins, and parameters that are ready; hand over what is due."""
        forecaster = self._known()
        self._pool.collect()
        forecaster.update(series)
        self._pool.submit([forecaster])

    def predict(
        self, horizons_seconds: Sequence[float], quantiles: Sequence[float] = (0.5,), now_seconds: float | None = None
    ) -> Forecast:
        """See `Forecaster.predict`."""
        return self._known().predict(horizons_seconds, quantiles, now_seconds)

    def trust(self, now_seconds: float) -> Trust:
        """See `Forecaster.trust`."""
        return self._known().trust(now_seconds)

    def stop(self) -> None:
        """Drop what is under way."""
        self._pool.cancel()
        if self._fitting is not None:
            self._fitting.cancel()
            self._fitting = None

    def _known(self) -> Forecaster:
        if self._forecaster is None:
            raise RuntimeError("the forecaster is not fitted yet: look at `ready` first")
        return self._forecaster

    def _take_fitted(self, fitting: Future[Forecaster]) -> None:
        self._fitting = None
        try:
            self._forecaster = fitting.result()
        except Exception as error:
            pause_seconds = self._pauses.failed(_FIT)
            words = str(error) or type(error).__name__
            self._failure = f"the forecast can not be made: {words}; tried again after {pause_seconds:.0f} s"
            return
        self._history, self._failure = None, ""
        self._pauses.succeeded(_FIT)
