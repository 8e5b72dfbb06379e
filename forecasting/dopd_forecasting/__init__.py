"""Load forecasts at the lead time, with bands that hold and a verdict on whether to trust them."""

from dopd_forecasting.forecaster import Forecast, Forecaster
from dopd_forecasting.series import BinState, Series
from dopd_forecasting.trust import Trust, TrustPolicy, TrustReason

__all__ = ["BinState", "Forecast", "Forecaster", "Series", "Trust", "TrustPolicy", "TrustReason"]
