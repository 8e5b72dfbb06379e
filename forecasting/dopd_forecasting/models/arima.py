"""ARIMA whose order is chosen by the data: differencing by KPSS, then p and q by AIC.

A full likelihood fit of every order costs seconds. Hannan and Rissanen's two regressions estimate an ARMA model
in about a millisecond, close enough to rank orders; only the first of the ranking are then estimated by maximum
likelihood.

Reference: Hannan and Rissanen, Recursive estimation of mixed autoregressive-moving average order, Biometrika 69
(1982).
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from dopd_forecasting.models.state_space import StateSpaceModel
from dopd_forecasting.series import FloatArray

MAX_P, MAX_Q = 5, 2
EVALUATIONS_PER_ORDER = 100
STATIONARY_P_VALUE = 0.05

Order = tuple[int, int, int]


class Arima(StateSpaceModel):
    """ARIMA(p, d, q), with a mean when it is not differenced.

    Args:
        order: (p, d, q); default: chosen by the data at every fit.
    """

    name = "arima"
    min_bins = 40
    refit_bins = 240

    def __init__(self, order: Order | None = None) -> None:
        super().__init__()
        self.order = order

    def _estimate(self, values: FloatArray) -> Any:
        from statsmodels.tsa.statespace.sarimax import SARIMAX

        orders = [self.order] if self.order else candidate_orders(values)
        results = [
            SARIMAX(values, order=order, trend="n" if order[1] else "c").fit(disp=False, maxfun=EVALUATIONS_PER_ORDER)
            for order in orders
        ]
        return min(results, key=lambda result: float(np.nan_to_num(result.aic, nan=np.inf)))


def candidate_orders(values: FloatArray) -> list[Order]:
    """The orders worth a likelihood fit: the best by a quick AIC, and the one that most load series end at.

    Args:
        values: load in any unit, shape (bins,); missing values are bridged by straight lines for the choice only.

    Returns:
        (p, d, q) with p <= 5, d <= 1, q <= 2, all with the same d, so that their AIC can be compared.
    """
    from statsmodels.tsa.arima.estimators.hannan_rissanen import hannan_rissanen

    known = np.flatnonzero(np.isfinite(values))
    bridged = np.interp(np.arange(len(values)), known, values[known])
    differences = 0 if _is_stationary(bridged) else 1
    working = np.diff(bridged, differences)
    scores: dict[Order, float] = {}
    for p in range(MAX_P + 1):
        for q in range(MAX_Q + 1):
            if p + q == 0:
                continue
            try:
                parameters, _ = hannan_rissanen(working, ar_order=p, ma_order=q, demean=True)
            except (ValueError, np.linalg.LinAlgError):
                continue
            if parameters.is_stationary and parameters.is_invertible and parameters.sigma2 > 0:
                scores[p, differences, q] = len(working) * math.log(parameters.sigma2) + 2 * (p + q + 1)
    best = sorted(scores, key=scores.__getitem__)[:1]
    usual = (1, differences, 2 if differences else 1)
    return best if usual in best else [*best, usual]


def _is_stationary(values: FloatArray) -> bool:
    from statsmodels.tools.sm_exceptions import InterpolationWarning
    from statsmodels.tsa.stattools import kpss

    if np.ptp(values) == 0:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InterpolationWarning)  # the p-value is off the table: only its side matters
        return bool(kpss(values, regression="c", nlags="auto", result_object=False)[1] >= STATIONARY_P_VALUE)
