"""Draws requests from published rates: `python -m e2e.load.traces.draw RATES OUT --start S --length S --share X`.

Some services publish only how much came in each window. From that a trace is drawn: rates run straight from the
middle of one window to the middle of the next, arrivals are Poisson at that rate (a share of a large service's
requests is close to Poisson, however the whole arrives), and lengths are lognormal around the windows' means. All
draws come from one seed: the same call always gives the same bytes.
"""

import argparse
import csv
import gzip
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dopd.replay.trace import INPUT_CV, OUTPUT_CV, RATE_COLUMNS
from e2e.load.schedule import Arrival, Schedule
from e2e.load.traces.cut import as_csv

Floats = npt.NDArray[np.float64]

STEP_SECONDS = 10.0
"""The rate is constant for so long."""


def main() -> None:
    """Read the rates, write the requests."""
    parser = argparse.ArgumentParser(description="Draw a trace of requests from rates.")
    parser.add_argument("rates", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--start", type=float, required=True, metavar="S")
    parser.add_argument("--length", type=float, required=True, metavar="S")
    parser.add_argument("--share", type=float, default=1.0, metavar="X", help="share of the requests that is drawn")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with gzip.open(options.rates, "rt") as file:
        rows = list(csv.DictReader(file))
    columns = [np.array([float(row[name]) for row in rows]) for name in RATE_COLUMNS]
    schedule = draw(columns, options.start, options.length, options.share, options.seed)
    options.out.write_bytes(gzip.compress(as_csv(schedule).encode(), mtime=0))
    print(f"{len(schedule)} requests, {options.out.stat().st_size} bytes")


def draw(columns: list[Floats], start_seconds: float, length_seconds: float, share: float, seed: int) -> Schedule:
    """Requests of a stretch of time.

    Args:
        columns: start of each window (seconds), requests per second, and prompt and answer tokens per second of those
            requests; windows of equal length.
        start_seconds: where the stretch begins.
        length_seconds: how long it is, a multiple of the step.
        share: of the requests.
        seed: of all draws.
    """
    starts, *rates = columns
    middles = starts + (starts[1] - starts[0]) / 2
    steps = start_seconds + STEP_SECONDS * np.arange(round(length_seconds / STEP_SECONDS))
    requests, prompt_tokens, answer_tokens = (np.interp(steps + STEP_SECONDS / 2, middles, rate) for rate in rates)
    chance = np.random.default_rng(seed)
    counts = chance.poisson(requests * share * STEP_SECONDS)
    total = int(counts.sum())
    seconds = np.repeat(steps - start_seconds, counts) + chance.uniform(0, STEP_SECONDS, total)
    prompts = np.repeat(prompt_tokens / requests, counts) * _lognormal(INPUT_CV, total, chance)
    answers = np.repeat(answer_tokens / requests, counts) * _lognormal(OUTPUT_CV, total, chance)
    drawn = zip(seconds.tolist(), _tokens(prompts), _tokens(answers), strict=True)
    return Schedule(tuple(sorted((Arrival(*request) for request in drawn), key=lambda a: a.at_seconds)))


def _lognormal(cv: float, count: int, chance: np.random.Generator) -> Floats:
    """Draws with mean 1 and the given coefficient of variation."""
    variance = np.log1p(cv * cv)
    return chance.lognormal(-variance / 2, np.sqrt(variance), count)


def _tokens(lengths: Floats) -> list[int]:
    return [max(1, round(length)) for length in lengths.tolist()]


if __name__ == "__main__":
    main()
