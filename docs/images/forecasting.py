"""Draws the pictures of docs/forecasting.md.

Usage: python docs/images/forecasting.py BACKTEST.json, from the repository root, where BACKTEST.json was
written by the first backtest that the page shows.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from dopd_forecasting import Forecaster, Series
from dopd_forecasting.backtest.reading import read_series
from dopd_forecasting.backtest.report import BAND, LOAD, OURS, error_figure

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "forecasting" / "tests" / "data"
SEASONAL = ("seasonal_naive", "fourier", "day_shape")


def replay(series: Series, first: int, last: int, lead_bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and 90 % quantile of the bin `lead_bins` after each of bins first to last; share of the seasonal models."""
    forecaster = Forecaster(scored_horizons=(lead_bins,))
    forecaster.fit(series.before(series.first_bin + first))
    means, upper, seasonal = [], [], []
    for index in range(first, last):
        forecaster.update(series.before(series.first_bin + index + 1))
        forecast = forecaster.predict((lead_bins * series.bin_seconds,), (0.9,))
        means.append(forecast.mean[0])
        upper.append(forecast.quantiles[0, 0])
        seasonal.append(sum(forecast.weights[name][0] for name in SEASONAL))
    return np.array(means), np.array(upper), np.array(seasonal)


def draw(axes, series: Series, first: int, last: int, lead_bins: int, unit: str, scale: float = 1.0) -> np.ndarray:
    """Load and forecast over hours; returns the share of seasonal models."""
    means, upper, seasonal = replay(series, first, last, lead_bins)
    per_hour = 3600 / series.bin_seconds
    at = (np.arange(first, last) + lead_bins) / per_hour
    load = np.arange(first, min(last + lead_bins, len(series)))
    axes.fill_between(at, means * scale, upper * scale, color=BAND, label="up to the 90 % quantile")
    axes.plot(load / per_hour, series.values[load] * scale, color=LOAD, lw=0.8, label="load")
    minutes = lead_bins * series.bin_seconds / 60
    axes.plot(at, means * scale, color=OURS, lw=1.5, label=f"forecast made {minutes:g} minutes before")
    axes.set(ylabel=unit, ylim=(0, None))
    return seasonal


def main(summary_path: str) -> None:
    """Write all pictures."""
    azure = read_series(DATA / "azure2024-conv-requests-60s.csv.gz", "requests", 60)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.add_subplot()
    draw(axes, azure, 1800, 2160, 10, "requests/s", 1 / 60)
    axes.set_xlabel("hours")
    axes.legend(fontsize="small", loc="lower left")
    figure.savefig(HERE / "forecast-azure.png", dpi=110)

    client = read_series(DATA / "servegen-client142-600s.csv.gz", "rate_rps", 600)
    figure = Figure(figsize=(9, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    seasonal = draw(above, client, 250, 1100, 6, "requests/s")
    above.legend(fontsize="small", loc="upper left")
    below.fill_between((np.arange(250, 1100)) / 6, seasonal, color=OURS)
    below.set(ylabel="share of the\nseasonal models", ylim=(0, 1), xlabel="hours")
    figure.savefig(HERE / "forecast-season.png", dpi=110)

    mid = read_series(DATA / "servegen-m-mid-600s.csv.gz", "rate_rps", 600)
    lost = mid.values.copy()
    lost[lost == 0] = np.nan
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    draw(panels[0], mid, 1060, 1170, 1, "requests/s")
    panels[0].set_title("measured as zero: the service is off", fontsize="medium", loc="left")
    draw(panels[1], Series(lost, mid.first_bin, mid.bin_seconds, mid.unit), 1060, 1170, 1, "requests/s")
    panels[1].set_title("not measured: the telemetry is lost", fontsize="medium", loc="left")
    panels[1].set_xlabel("hours")
    panels[0].legend(fontsize="small", loc="lower left")
    figure.savefig(HERE / "forecast-outage.png", dpi=110)

    error_figure(json.loads(Path(summary_path).read_text())).savefig(HERE / "forecast-errors.png", dpi=110)


if __name__ == "__main__":
    main(sys.argv[1])
