"""How good the forecast of the peak is, with and without the voices that know the time: coverage and pinball loss.

    python operator/benchmarks/peak_forecast.py [--traces FOLDER] [--only TEXT] [--leads 60,180] [--forecaster]

The past tells what each voice would have said every six minutes, from what was known then, and how it would have been
mixed: the way in which `PeakForecast` judges them (its own near past is finer, by samples of 15 s). Traces are CSV
files, one row a bin: `office` is generated and needs none. Loads are requests per second, so lengths do not matter.
Loss and held are shares of the mean load; the forecaster is heard from three hours before the history ends.
"""

import argparse
import csv
import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dopd.autoscaler import Tuning
from dopd.autoscaler.minutes import Minutes
from dopd.autoscaler.origins import ORIGIN_MINUTES, PERIODS, Origins, origins_of
from dopd.autoscaler.peak import FORECAST
from dopd.autoscaler.records import JUDGED_MISSES, NEAR, Records, say
from dopd_forecasting import Forecaster, Series

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """A load in minutes, and how many of them are history."""

    load: Floats
    history: int
    end: int


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
    return Case(load, round(history_days * 1440), round((history_days + days) * 1440))


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


def foreseen(case: Case, load: Floats, leads: Sequence[float]) -> dict[float, dict[int, float]]:
    """The busiest minute that a forecaster expects, by lead and origin: from three hours before the history ends."""
    forecaster, first = Forecaster(), case.history - 180
    forecaster.fit(Series(load[max(0, first - 14 * 1440) : first], max(0, first - 14 * 1440), 60.0, "busy workers"))
    said: dict[float, dict[int, float]] = {lead: {} for lead in leads}
    for minute in range(first, len(load)):
        forecaster.update(Series(load[minute : minute + 1], minute, 60.0, "busy workers"))
        origin, beside = divmod(minute + 1, ORIGIN_MINUTES)
        if beside == 0 and forecaster.trust((minute + 1) * 60.0).trusted:
            path = forecaster.predict([60.0 * (k + 1) for k in range(round(max(leads) / 60))], (0.5,)).mean
            for lead in leads:
                said[lead][origin] = float(path[: round(lead / 60)].max())
    return said


def measure(
    origins: Origins, case: Case, lead_seconds: float, records: Records, said: dict[str, Floats], names: Sequence[str]
) -> tuple[Floats, Floats, Floats]:
    """Share missed, loss and held at each of JUDGED_MISSES; the last two as shares of the mean load."""
    rows = np.arange(int(np.searchsorted(origins.seconds, case.history * 60.0)), origins.ended)
    mixed = []
    for row in rows:
        spoken = [name for name in names if np.isfinite(said[name][row]).all()]
        shares = records.shares(float(origins.seconds[row]), spoken)
        mixed.append(sum(shares[name] * said[name][row] for name in spoken))
    values, peaks = np.array(mixed), origins.peak[rows][:, None]
    loss = np.where(peaks > values, (1 - JUDGED_MISSES) * (peaks - values), JUDGED_MISSES * (values - peaks))
    mean = float(np.nanmean(origins.load[rows]))
    return (peaks > values).mean(axis=0), loss.mean(axis=0) / mean, values.mean(axis=0) / mean


def main() -> None:
    """Print a row for each case, lead and set of voices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--leads", default="60,180,600,1200")
    parser.add_argument("--forecaster", action="store_true", help="estimate and follow one: minutes for each day")
    parser.add_argument("--days", type=float, default=7.0, help="of the load after the history, at most")
    arguments = parser.parse_args()
    leads, tuning = [float(lead) for lead in arguments.leads.split(",")], Tuning()
    print("| load | lead | voices | missed at 40, 10, 2 % | loss at 40, 10, 2 % | held at 40, 10, 2 % | loss to near |")
    print("|---|---|---|---|---|---|---|")
    for name, make in cases(arguments.traces).items():
        if arguments.only not in name:
            continue
        case = make()
        load = case.load[: min(case.end, case.history + round(1440 * arguments.days))]
        minutes = Minutes()
        minutes.learn((np.arange(len(load)) + 1) * 60.0, np.full(len(load), 60.0), load)
        forecasts = foreseen(case, load, leads) if arguments.forecaster else {}
        sets = {"near": NEAR, "and season": (*NEAR, *PERIODS)}
        if forecasts:
            sets |= {"and forecaster": (*NEAR, FORECAST), "all": (*NEAR, *PERIODS, FORECAST)}
        for lead in leads:
            origins = origins_of(minutes, lead, tuning)
            if forecasts:
                numbers = range(origins.first, origins.first + len(origins))
                origins.seasons[FORECAST] = np.array([forecasts[lead].get(number, np.nan) for number in numbers])
            records = Records(tuning, lead, tuple(origins.seasons))
            records.extend(origins)
            said = say(origins, np.arange(len(origins)), JUDGED_MISSES, tuning, lead)
            first = None
            for voices, names in sets.items():
                missed, loss, held = measure(origins, case, lead, records, said, names)
                first = loss if first is None else first
                print(
                    f"| {name} | {lead:.0f} s | {voices} | {', '.join(f'{100 * one:.1f}' for one in missed)} | "
                    f"{', '.join(f'{100 * one:.2f}' for one in loss)} | {', '.join(f'{one:.3f}' for one in held)} | "
                    f"{', '.join(f'{one:.2f}' for one in loss / first)} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
