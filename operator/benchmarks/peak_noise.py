"""What the noise of few requests does to the forecast of the peak, and what is left of it once it is taken out.

    python operator/benchmarks/peak_noise.py [--hours 8] [--lead 180]

Requests come by chance at a rate that is constant, wanders (a tenth, within an hour) or jumps between two levels
(twofold, every half hour or so), with work of a coefficient of variation of one. Samples are means over 45 s each 15 s.
What is held is compared with the greatest true load within the lead; the last column is held over the true peak, in the
mean.
"""

import argparse

import numpy as np
import numpy.typing as npt

from dopd.autoscaler import PeakForecast, Tuning

Floats = npt.NDArray[np.float64]
STEP = 15
MISSES = (0.4, 0.1, 0.02)


def shape(kind: str, steps: int, rng: np.random.Generator) -> Floats:
    """True load, around one."""
    if kind == "constant":
        return np.ones(steps)
    if kind == "jumps":
        return np.where(np.cumsum(rng.random(steps) < STEP / 1800) % 2 == 0, 0.7, 1.4)
    value, values, keep = 0.0, [], np.exp(-STEP / 3600)
    for _ in range(steps):
        value = keep * value + 0.1 * np.sqrt(1 - keep**2) * rng.normal()
        values.append(max(0.1, 1 + value))
    return np.array(values)


def main() -> None:
    """Print a row for each shape, rate and way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--lead", type=float, default=180.0)
    arguments = parser.parse_args()
    steps, ahead = round(arguments.hours * 3600 / STEP), round(arguments.lead / STEP)
    print("| true load | requests/s | noise | missed at 40, 10, 2 % | held over the peak at 40, 10, 2 % |")
    print("|---|---|---|---|---|")
    for kind in ("constant", "wanders", "jumps"):
        for rate in (0.3, 1.0, 3.0, 10.0, 30.0):
            rng = np.random.default_rng(5)
            true = shape(kind, steps, rng)
            counts = rng.poisson(true * rate * STEP)
            work = np.array([rng.exponential(1.0, count).sum() for count in counts]) / (rate * STEP)
            for told in (False, True):
                peak, missed, held = PeakForecast(Tuning(), arguments.lead), [], []
                for step in range(3, steps - ahead):
                    requests = counts[step - 3 : step].sum()
                    share = np.sqrt(2 / requests) if requests else np.inf
                    peak.observe(STEP * step, work[step - 3 : step].mean(), share if told else 0.0)
                    if step > steps // 4 and step % 7 == 0:
                        said = np.array([peak.quantile(miss) for miss in MISSES])
                        came = true[step : step + ahead].max()
                        missed.append(said < came - 1e-9)
                        held.append(said / came)
                print(
                    f"| {kind} | {rate:g} | {'taken out' if told else 'left in'} | "
                    f"{', '.join(f'{100 * one:.1f}' for one in np.mean(missed, axis=0))} | "
                    f"{', '.join(f'{one:.2f}' for one in np.mean(held, axis=0))} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
