"""Three ways to forecast a token rate: from its own past, as rate times the lengths of now, and jointly.

Usage: python forecasting/benchmarks/token_rates.py FILE.csv[.gz] [--bin SECONDS] [--horizons BINS], from the repository
root. The file holds totals per bin in the columns requests, input_tokens and output_tokens.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from dopd_forecasting import Forecaster, JointForecaster, Load, Series
from dopd_forecasting.backtest.measures import pinball
from dopd_forecasting.backtest.reading import read_series
from dopd_forecasting.backtest.rolling import LEVEL, default_warmup

TOKENS = ("input_tokens", "output_tokens")


def rolling(load: Load, horizons: tuple[int, ...], warmup: int) -> dict[tuple[str, str], np.ndarray]:
    """Mean and 90 % quantile by way and column, shape (origins, horizons, 2)."""
    bin_seconds = load.requests.bin_seconds
    leads = [horizon * bin_seconds for horizon in horizons]
    joint = JointForecaster(Forecaster(scored_horizons=horizons), scored_horizons=horizons)
    direct = {column: Forecaster(scored_horizons=horizons) for column in TOKENS}
    said: dict[tuple[str, str], list[np.ndarray]] = {}
    for stop in range(warmup, len(load.requests)):
        known = Load(*(series.before(series.first_bin + stop) for series in vars(load).values()))
        joint.update(known)
        together = joint.predict(leads, (LEVEL,))
        for column in TOKENS:
            series: Series = getattr(known, column)
            direct[column].update(series)
            alone = direct[column].predict(leads, (LEVEL,))
            length = series.values[-1] / known.requests.values[-1]
            rate, derived = together.requests, getattr(together, column)
            ways = {"direct": (alone.mean, alone.quantiles), "joint": (derived.mean, derived.quantiles)}
            ways["lengths of now"] = (rate.mean * length, rate.quantiles * length)
            for way, (mean, upper) in ways.items():
                said.setdefault((way, column), []).append(np.column_stack([mean, upper]))
    return {key: np.array(values) for key, values in said.items()}


def main() -> None:
    """Print the measures of each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--bin", type=float, default=60.0)
    parser.add_argument(
        "--horizons", type=lambda text: tuple(int(part) for part in text.split(",")), default=(1, 3, 5, 10)
    )
    options = parser.parse_args()
    requests, inputs, outputs = (read_series(options.file, name, options.bin) for name in ("requests", *TOKENS))
    unknown = Series(np.full(len(requests), np.nan), requests.first_bin, options.bin, "tokens^2/s")
    load = Load(requests, inputs, unknown, outputs, unknown, inputs)
    warmup = default_warmup(requests)
    said = rolling(load, options.horizons, warmup)
    print(f"{'':15}{'column':15}{'lead':>5}{'MAE vs direct':>15}{'coverage':>10}{'pinball vs direct':>19}")
    for column in TOKENS:
        values = getattr(load, column).values
        for row, horizon in enumerate(options.horizons):
            targets = values[warmup - 1 + horizon :]
            measures = {}
            for way in ("direct", "lengths of now", "joint"):
                mean, upper = said[way, column][: len(targets), row].T
                covered = float((targets <= upper).mean())
                measures[way] = (np.abs(mean - targets).mean(), covered, pinball(targets, upper, LEVEL).mean())
            for way, (error, covered, loss) in measures.items():
                own = measures["direct"]
                print(f"{way:15}{column:15}{horizon:5}{error / own[0]:15.3f}{covered:10.3f}{loss / own[2]:19.3f}")


if __name__ == "__main__":
    main()
