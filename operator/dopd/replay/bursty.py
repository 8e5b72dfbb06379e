"""Arrivals as bursty as each client's are, where a file tells them: ServeGen's rates by client, with `iat_cv`.

`iat_cv` is the coefficient of variation of a client's times between requests in a window of ten minutes. Each client's
requests are drawn as a renewal process with gamma times of that variation, at the client's rate. A `--rate-scale` below
1 keeps that share of the requests, each by chance, so that bursts shrink as the service does; above 1 it scales rates.
Lengths are lognormal around the client's means. Clients whose lengths are not told are left out.
"""

import csv
import gzip
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

COLUMNS = ("t_s", "client", "rate_rps", "iat_cv", "mean_input_tokens", "mean_output_tokens")
WINDOW_SECONDS = 600.0
LEAST_CV = 0.1


def clients_file(trace: str | Path) -> Path:
    """The file of clients that belongs to a file of rates.

    Raises:
        ValueError: there is none.
    """
    path = Path(trace)
    found = path.with_name(path.name.replace("-agg600s", "-clients600s"))
    if found == path or not found.exists():
        raise ValueError(
            f"world bursty: {path} has no file of clients beside it; expected {path.name.split('-agg')[0]}-clients600s"
            f".csv.gz with the columns {','.join(COLUMNS)}: take a ServeGen trace, or leave bursty out"
        )
    return found


def draw(
    path: Path, rate_scale: float, start_seconds: float, end_seconds: float, generator: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Arrivals (from the first window on, as rates are read), mean prompt and mean answer tokens of each.

    Raises:
        ValueError: the file is not one of clients.
    """
    clients = _read(path, start_seconds, end_seconds)
    arrivals, inputs, outputs = [], [], []
    for windows in clients.values():
        for begin, rate, cv, input_tokens, output_tokens in windows:
            times = _renewals(rate * max(1.0, rate_scale), max(LEAST_CV, cv), generator)
            if rate_scale < 1:
                times = times[generator.uniform(size=len(times)) < rate_scale]
            arrivals.append(begin - start_seconds + times)
            inputs.append(np.full(len(times), input_tokens))
            outputs.append(np.full(len(times), output_tokens))
    if not arrivals:
        raise ValueError(f"{path}: no client between {start_seconds:g} s and {end_seconds:g} s")
    return np.concatenate(arrivals), np.concatenate(inputs), np.concatenate(outputs)


def _renewals(rate: float, cv: float, generator: np.random.Generator) -> Floats:
    """Arrivals of one window: a stationary renewal process with gamma times of mean 1 / rate.

    The first time is drawn as from the middle of a process that has run for long (a length-biased time, of which a
    uniform part remains), so that the mean number is the rate's.
    """
    shape = 1 / cv**2
    scale = 1 / (rate * shape)
    first = generator.gamma(shape + 1, scale) * generator.uniform()
    times: list[Floats] = [np.array([first])]
    last = first
    more = max(16, math.ceil(2 * rate * WINDOW_SECONDS))
    while last < WINDOW_SECONDS:
        block = last + np.cumsum(generator.gamma(shape, scale, more))
        times.append(block)
        last = float(block[-1])
    together = np.concatenate(times)
    within: Floats = together[together < WINDOW_SECONDS]
    return within


def _read(
    path: Path, start_seconds: float, end_seconds: float
) -> dict[str, list[tuple[float, float, float, float, float]]]:
    found: dict[str, list[tuple[float, float, float, float, float]]] = {}
    with gzip.open(path, "rt", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path}: no column {missing[0]}; expected {','.join(COLUMNS)}")
        for row in reader:
            begin = float(row["t_s"])
            if not start_seconds <= begin < end_seconds or not row["mean_input_tokens"] or not float(row["rate_rps"]):
                continue
            found.setdefault(row["client"], []).append(
                (
                    begin,
                    float(row["rate_rps"]),
                    float(row["iat_cv"] or 1.0),
                    float(row["mean_input_tokens"]),
                    float(row["mean_output_tokens"]),
                )
            )
    return found
