"""What every model of a load series can do.

The protocol is small on purpose: `fit` on a history, `update` with newer bins, `predict` at some leads. A model
says the mean and the spread of the load; the combination and the bands need no more. The conformance suite in
`forecasting/tests/models` holds each model to the same rules.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from dopd_forecasting.series import FloatArray, Series

Horizons = tuple[int, ...]


class NotEnoughHistory(ValueError):
    """The series holds too few measured bins for this model."""


@dataclass(frozen=True)
class Prediction:
    """Load at some leads.

    Attributes:
        mean: expected load at each horizon, shape (horizons,).
        quantiles: load at each horizon and quantile, shape (horizons, quantiles).
    """

    mean: FloatArray
    quantiles: FloatArray


class Model(ABC):
    """A model of one series; horizons are counted in bins, 1 being the bin after the last one seen."""

    name: str
    min_bins: int = 1  # measured bins without which `fit` refuses
    refit_bins: int = 120  # how many bins an estimation serves
    heavy: bool = False  # whether `fit` takes long, and statsmodels' 100 MB of memory
    proof_bins: int = 0  # scored bins without which it gets no weight, where the usual few prove nothing

    def __init__(self) -> None:
        self.next_bin: int | None = None

    def fit(self, series: Series) -> None:
        """Estimate the parameters from a history and forget whatever was learnt before.

        Raises:
            NotEnoughHistory: see `check_history`.
        """
        self.check_history(series)
        self._fit(series)
        self.next_bin = series.next_bin

    def check_history(self, series: Series) -> None:
        """Whether `fit` can begin; costs nothing.

        Raises:
            NotEnoughHistory: fewer than `min_bins` bins of the series are measured, or it is too short otherwise.
        """
        measured = int(np.count_nonzero(np.isfinite(series.values)))
        if measured < self.min_bins:
            raise NotEnoughHistory(f"{self.name} needs {self.min_bins} measured bins and got {measured}")

    def update(self, series: Series) -> None:
        """Take in the bins of `series` that are newer than all seen so far; parameters stay as fitted.

        Bins that lie between those seen and the first of `series` count as missing.
        """
        if self.next_bin is None:
            raise RuntimeError(f"{self.name}: call fit before update")
        newer = series.since(self.next_bin)
        for _ in range(newer.first_bin - self.next_bin if len(newer) else 0):
            self._observe(math.nan)
            self.next_bin += 1
        for value in newer.values:
            self._observe(float(value))
            self.next_bin += 1

    def predict(self, horizons: Sequence[int], quantiles: Sequence[float] = (0.5, 0.9)) -> Prediction:
        """Mean and normal quantiles of the load `horizons` bins ahead; never negative."""
        mean, sd = self.mean(tuple(horizons)), self.sd(tuple(horizons))
        scores = np.array([NormalDist().inv_cdf(q) for q in quantiles])
        return Prediction(np.maximum(mean, 0.0), np.maximum(mean[:, None] + sd[:, None] * scores, 0.0))

    def mean(self, horizons: Horizons) -> FloatArray:
        """Expected load at each horizon, shape (horizons,); a linear model may say a negative one."""
        return self._mean(horizons)

    def sd(self, horizons: Horizons) -> FloatArray:
        """Standard deviation of the load about `mean`, shape (horizons,)."""
        return self._sd(horizons)

    @abstractmethod
    def _fit(self, series: Series) -> None: ...

    @abstractmethod
    def _mean(self, horizons: Horizons) -> FloatArray: ...

    @abstractmethod
    def _sd(self, horizons: Horizons) -> FloatArray: ...

    @abstractmethod
    def _observe(self, value: float) -> None:
        """Take in the bin `self.next_bin`; NaN when missing."""
