"""How good the forecast of the peak is, with and without the voices that know the time: coverage and pinball loss.

    python operator/benchmarks/peak_forecast.py [--traces FOLDER] [--only TEXT] [--leads 60,180] [--forecaster]

A history is read at once, as a fresh operator does; then the load comes minute by minute, and every seven minutes the
busiest minute within the lead is asked for (not every five: many loads have that rhythm). Traces are CSV files, one row
a bin: `office` is generated and needs none. Loads are requests per second, so lengths do not matter here. Loss and held
are shares of the mean load.
"""

import argparse
import csv
import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dopd.autoscaler import PeakForecast, Tuning
from dopd_forecasting import Forecaster

Floats = npt.NDArray[np.float64]
MISSES = (0.4, 0.1, 0.02)
SPACING = 60.0
SAID_EACH = 7


@dataclass(frozen=True)
class Case:
    """A load in minutes, and how many of them are history."""

    load: Floats
    history: int
    end: int
    bin_seconds: float = 60.0


def office(weeks: int = 3, seed: int = 1) -> Floats:
    """Tenfold within twenty minutes at about nine on weekdays, a batch at about noon, quiet weekends, noise of 5 %."""
    rng = np.random.default_rng(seed)
    minute = np.arange(weeks * 7 * 1440)
    load = np.ones(len(minute))
    for day in range(weeks * 7):
        start = day * 1440
        if day % 7 >= 5:
            continue
        morning, evening, noon = start + np.array(
            [530 + rng.normal(0, 4), 1040 + rng.normal(0, 15), 720 + rng.normal(0, 3)]
        )
        rise = np.clip((minute - morning) / 20, 0, 1) * np.clip((evening - minute) / 60, 0, 1)
        load = np.maximum(load, 1 + 9 * rise) + 4 * ((minute >= noon) & (minute < noon + 25))
    return np.asarray(np.maximum(0.0, load * (1 + 0.05 * rng.normal(size=len(load)))))


def read(path: Path, column: str) -> tuple[Floats, float]:
    """Values of one column, and the width of a bin."""
    with gzip.open(path, "rt") as lines:
        rows = list(csv.DictReader(lines))
    return np.array([float(row[column]) for row in rows]), float(rows[1]["t_s"]) - float(rows[0]["t_s"])


def fortnight(path: Path, history_days: float, days: float) -> Case:
    """A trace in bins of ten minutes, straight between their middles."""
    rates, width = read(path, "rate_rps")
    minutes = np.arange(round(len(rates) * width / 60))
    load = np.interp(minutes * 60.0 + 30, np.arange(len(rates)) * width + width / 2, rates)
    return Case(load, round(history_days * 1440), round((history_days + days) * 1440), width)


def cases(traces: Path | None) -> dict[str, Callable[[], Case]]:
    """By name."""
    found: dict[str, Callable[[], Case]] = {
        "office": lambda: Case(office(), 14 * 1440, 21 * 1440),
        "office, third day": lambda: Case(office(), 1440, 5 * 1440),
    }
    if traces:
        found["azure2024-conv, day 2"] = lambda: Case(
            read(traces / "azure2024-conv-days1to2-requests-60s.csv.gz", "requests")[0] / 60, 1440, 2880
        )
        for name in ("m-mid", "m-large"):
            path = traces / f"servegen-{name}-agg600s.csv.gz"
            found[f"servegen {name}, days 8 to 11"] = lambda path=path: fortnight(path, 7, 4)
            found[f"servegen {name}, days 12 to 14"] = lambda path=path: fortnight(path, 11, 3)
        found["servegen deepseek-r1, second half"] = lambda: fortnight(
            traces / "servegen-deepseek-r1-agg600s.csv.gz", 0.5, 0.5
        )
    return found


class Without(PeakForecast):
    """One in which some voices are silent."""

    silent: frozenset[str] = frozenset()

    def _told(self) -> dict[str, float]:
        return {name: point for name, point in super()._told().items() if name not in self.silent}


def measure(case: Case, lead_seconds: float, silent: frozenset[str], forecaster: bool, tuning: Tuning) -> Floats:
    """Share missed, loss and held at each of MISSES, shape (3, misses)."""
    peak = Without(tuning, lead_seconds, Forecaster() if forecaster else None)
    peak.silent = silent
    load, lead = case.load, round(lead_seconds / 60)
    wide = round(case.bin_seconds / 60)
    history = load[: case.history - case.history % wide].reshape(-1, wide).mean(axis=1)
    peak.learn((np.arange(len(history)) + 1) * case.bin_seconds, np.full(len(history), case.bin_seconds), history)
    said, came = [], []
    for minute in range(case.history, min(case.end, len(load) - lead)):
        peak.observe((minute + 1) * 60.0, float(load[minute]))
        if minute % SAID_EACH == 0 and minute + lead < case.end:
            said.append([peak.quantile(miss) for miss in MISSES])
            came.append(load[minute + 1 : minute + 1 + lead].max())
    values, peaks, misses = np.array(said), np.array(came)[:, None], np.array(MISSES)
    loss = np.where(peaks > values, (1 - misses) * (peaks - values), misses * (values - peaks))
    mean = load[case.history : case.end].mean()
    return np.array([(peaks > values).mean(axis=0), loss.mean(axis=0) / mean, values.mean(axis=0) / mean])


def main() -> None:
    """Print a row for each case, lead and set of voices."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--traces", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--leads", default="60,180,600,1200")
    parser.add_argument("--forecaster", action="store_true")
    parser.add_argument("--days", type=float, default=7.0, help="of the load after the history, at most")
    arguments = parser.parse_args()
    tuning = Tuning(spacing_seconds=SPACING)
    sets = {"near": (frozenset({"day", "week"}), False), "and season": (frozenset(), False)}
    if arguments.forecaster:
        sets["and forecaster"] = (frozenset({"day", "week"}), True)
        sets["all"] = (frozenset(), True)
    print("| load | lead | voices | missed at 40, 10, 2 % | loss at 40, 10, 2 % | held at 40, 10, 2 % | loss to near |")
    print("|---|---|---|---|---|---|---|")
    for name, make in cases(arguments.traces).items():
        if arguments.only not in name:
            continue
        case = make()
        case = replace(case, end=min(case.end, case.history + round(1440 * arguments.days)))
        for lead in map(float, arguments.leads.split(",")):
            first = None
            for voices, (silent, forecaster) in sets.items():
                missed, loss, held = measure(case, lead, silent, forecaster, tuning)
                first = loss if first is None else first
                ratio = ", ".join(f"{one:.2f}" for one in loss / first)
                print(
                    f"| {name} | {lead:.0f} s | {voices} | {', '.join(f'{100 * one:.1f}' for one in missed)} | "
                    f"{', '.join(f'{100 * one:.2f}' for one in loss)} | {', '.join(f'{one:.3f}' for one in held)} | "
                    f"{ratio} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
