"""One update and forecast of each of thousands of series in one process on one core, estimations included.

Usage: OMP_NUM_THREADS=1 python forecasting/benchmarks/many_series.py [--series 3000] [--defer]

The series are excerpts of a recorded trace that end at different minutes, so that estimations fall due as unevenly as
in service; each fitted forecaster is copied until there are enough. Fits, which happen once at start, are not counted.
"""

from __future__ import annotations

import argparse
import pickle
import time
from pathlib import Path

import numpy as np

from dopd_forecasting import Forecaster, Series
from dopd_forecasting.backtest.reading import read_series

TRACE = Path(__file__).parents[1] / "tests" / "data" / "azure2024-conv-requests-60s.csv.gz"
FIRST_END, PERIOD_BINS = 2200, 240  # one and a half days of minutes; the longest time between two estimations
LEADS_SECONDS = (60.0, 180.0, 300.0, 600.0)


def fitted(series: Series, distinct: int, *, defer: bool) -> list[tuple[bytes, int]]:
    """Forecasters, pickled, and the bin that each has not seen yet; ends are spread over PERIOD_BINS."""
    found = []
    for end in np.linspace(FIRST_END, FIRST_END + PERIOD_BINS, distinct, endpoint=False).astype(int).tolist():
        forecaster = Forecaster(defer_estimations=defer)
        forecaster.fit(series.before(end))
        found.append((pickle.dumps(forecaster), end))
    return found


def main() -> None:
    """Print how long the updates took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=3000)
    parser.add_argument("--distinct", type=int, default=60, help="how many of them are fitted; the others are copies")
    parser.add_argument("--defer", action="store_true", help="leave estimations to a pool, and time them apart")
    options = parser.parse_args()
    series = read_series(TRACE, "requests", 60.0)
    templates = fitted(series, options.distinct, defer=options.defer)
    forecasters = [
        (pickle.loads(template), series.before(end + 1).since(end))
        for number in range(options.series)
        for template, end in [templates[number % len(templates)]]
    ]
    took, began, began_cpu = [], time.perf_counter(), time.process_time()
    for forecaster, newest in forecasters:
        start = time.process_time()
        forecaster.update(newest)
        forecaster.predict(LEADS_SECONDS, (0.5, 0.9))
        took.append((time.process_time() - start) * 1e3)
    wall, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    print(f"{len(took)} series: {cpu:.1f} s of CPU, {wall:.1f} s on the clock")
    late, worst = np.quantile(took, 0.99), max(took)
    print(f"one update and forecast: mean {np.mean(took):.1f} ms, 99 % {late:.0f} ms, worst {worst:.0f} ms")
    if options.defer:
        start = time.process_time()
        due = [estimation for forecaster, _ in forecasters for estimation in forecaster.due_estimations()]
        for estimation in due:
            estimation.run()
        print(f"left to the pool: {len(due)} estimations, {time.process_time() - start:.1f} s of CPU")


if __name__ == "__main__":
    main()
