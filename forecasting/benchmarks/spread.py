"""How far coverage and error spread over the many series of one file, such as the clients of a service.

Usage: python forecasting/benchmarks/spread.py FILE.csv[.gz] --by client --column rate_rps --bin 600 --horizons 1,2,3,6

The file holds one row per series and bin; a bin without a row is a zero, as the source of the traces says. Series with
load in fewer than a share of the bins are left out.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from functools import partial
from pathlib import Path

import numpy as np

from dopd_forecasting import Forecaster, Series
from dopd_forecasting.backtest.measures import AUTO, BASELINE, summarise
from dopd_forecasting.backtest.rolling import default_warmup, roll
from dopd_forecasting.models.naive import LastValue


def read(path: Path, by: str, column: str, bin_seconds: float) -> dict[str, Series]:
    """All series of the file, by the value of the column `by`."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        rows = [(row[by], int(float(row["t_s"]) // bin_seconds), float(row[column])) for row in csv.DictReader(file)]
    bins = 1 + max(number for _, number, _ in rows)
    loads: dict[str, np.ndarray] = {}
    for name, number, value in rows:
        loads.setdefault(name, np.zeros(bins))[number] = value
    return {name: Series(values, 0, bin_seconds, column) for name, values in loads.items()}


def main() -> None:
    """Print the measures of each series, and then their range."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--by", required=True)
    parser.add_argument("--column", required=True)
    parser.add_argument("--bin", type=float, default=60.0)
    parser.add_argument(
        "--horizons", type=lambda text: tuple(int(part) for part in text.split(",")), default=(1, 3, 5, 10)
    )
    parser.add_argument("--share", type=float, default=0.6, help="of the bins that must have load (default: 0.6)")
    parser.add_argument("--only", type=lambda text: text.split(","), help="names of the series (default: all)")
    options = parser.parse_args()
    makers = {
        BASELINE: partial(Forecaster, [LastValue], scored_horizons=options.horizons, believe_all=True),
        AUTO: partial(Forecaster, scored_horizons=options.horizons),
    }
    found = read(options.file, options.by, options.column, options.bin)
    covers, ratios = [], []
    for name in options.only or sorted(found, key=lambda name: -found[name].values.mean()):
        series = found[name]
        if not options.only and (series.values > 0).mean() < options.share:
            continue
        runs = roll(series, makers, options.horizons, stride=1, warmup=default_warmup(series))
        measures = [
            models[AUTO] for models in summarise(runs, options.horizons, name, options.bin)["horizons"].values()
        ]
        covers.append([measure["coverage_90"] for measure in measures])
        ratios.append([measure["mae_vs_last"] for measure in measures])
        print(f"{name}: coverage {np.round(covers[-1], 3)}, MAE vs last {np.round(ratios[-1], 3)}", flush=True)
    print(f"{len(covers)} series: coverage {np.min(covers):.3f} to {np.max(covers):.3f}", end=", ")
    print(f"by series {np.mean(covers, axis=1).min():.3f} to {np.mean(covers, axis=1).max():.3f}", end=", ")
    print(f"MAE vs last {np.min(ratios):.3f} to {np.max(ratios):.3f}")


if __name__ == "__main__":
    main()
