"""Load forecasts at the lead time, with bands that hold and a verdict on whether to trust them."""

from dopd_forecasting.forecaster import Forecast, Forecaster
from dopd_forecasting.joint import DemandForecast, JointForecast, JointForecaster
from dopd_forecasting.load import Load
from dopd_forecasting.models.events import Event
from dopd_forecasting.pool import EstimationPool
from dopd_forecasting.process import ProcessExecutor, WorkFailed
from dopd_forecasting.series import BinState, Series
from dopd_forecasting.trust import Trust, TrustPolicy, TrustReason

__all__ = [
    "BinState",
    "DemandForecast",
    "EstimationPool",
    "Event",
    "Forecast",
    "Forecaster",
    "JointForecast",
    "JointForecaster",
    "Load",
    "ProcessExecutor",
    "Series",
    "Trust",
    "TrustPolicy",
    "TrustReason",
    "WorkFailed",
]
