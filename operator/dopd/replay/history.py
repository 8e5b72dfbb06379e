"""The load before a trace, minute by minute, as a Prometheus would hold it: what a policy may know at the start.

Of a file of totals the numbers of each minute are drawn, and not the requests: a week of them is then had in a second.
"""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dopd.autoscaler.past import PastLoad
from dopd.planning import Demand
from dopd.replay.trace import INPUT_CV, OUTPUT_CV, load, totals

Floats = npt.NDArray[np.float64]

BIN_SECONDS = 60.0


def before(
    path: str | Path, start_seconds: float, end_seconds: float, rate_scale: float, seed: int
) -> tuple[PastLoad, ...]:
    """Bins of a minute of a part of a trace, whose end is time 0.

    Args:
        path: of the trace (`dopd.replay.trace.load`).
        start_seconds: begin of the part.
        end_seconds: its end; infinite for that of the trace.
        rate_scale: as of the trace that is replayed.
        seed: of the draws.

    Raises:
        ValueError: the trace can not be read, or the part is empty.
    """
    known = totals(path, start_seconds, end_seconds, seed, rate_scale)
    if known is None:
        trace = load(path, rate_scale, seed, start_seconds, end_seconds)
        length = trace.duration_seconds if math.isinf(end_seconds) else end_seconds - start_seconds
        return _of_requests(
            trace.arrival_seconds, trace.input_tokens.astype(float), trace.output_tokens.astype(float), length
        )
    columns, width = known
    if not len(columns[0]):
        raise ValueError(f"history {path}: nothing between {start_seconds:g} s and {end_seconds:g} s")
    return _of_totals(columns, width, np.random.default_rng([seed, 1]))


def _of_requests(arrivals: Floats, inputs: Floats, outputs: Floats, length_seconds: float) -> tuple[PastLoad, ...]:
    """Whole bins counted from the end; a rest at the begin is left out."""
    bins = int(length_seconds // BIN_SECONDS)
    place = ((arrivals - (length_seconds - bins * BIN_SECONDS)) // BIN_SECONDS).astype(np.int64)
    inside = (place >= 0) & (place < bins)
    place, inputs, outputs = place[inside], inputs[inside], outputs[inside]

    def summed(weights: Floats | None) -> Floats:
        return np.bincount(place, weights, bins).astype(np.float64)

    return _past(summed(None), summed(inputs), summed(inputs**2), summed(outputs), summed(outputs**2))


def _of_totals(columns: list[Floats], width_seconds: float, generator: np.random.Generator) -> tuple[PastLoad, ...]:
    """Counts drawn at the rate of each bin, which runs linearly from interval to interval; lengths as of so many."""
    starts, *rest = columns
    end = float(starts[-1]) + width_seconds
    bins = int((end - float(starts[0])) // BIN_SECONDS)
    middles = end - (np.arange(bins, 0, -1) - 0.5) * BIN_SECONDS
    rates, input_rates, output_rates = (
        np.interp(middles, starts + width_seconds / 2, column / width_seconds) for column in rest
    )
    counts = generator.poisson(rates * BIN_SECONDS).astype(np.float64)
    sums: list[Floats] = []
    for tokens, cv in ((input_rates, INPUT_CV), (output_rates, OUTPUT_CV)):
        mean = np.divide(tokens, rates, out=np.zeros_like(tokens), where=rates > 0)
        spread = cv * generator.standard_normal(bins) / np.sqrt(np.maximum(counts, 1.0))
        seen = mean * np.maximum(0.1, 1 + spread)
        sums += [counts * seen, counts * seen**2 * (1 + cv**2)]
    return _past(counts, *sums)


def _past(
    counts: Floats, inputs: Floats, input_squares: Floats, outputs: Floats, squares: Floats
) -> tuple[PastLoad, ...]:
    """Bins that end at 0; one without requests has the lengths of the nearest that has some."""
    bins = len(counts)
    known = np.flatnonzero(counts)
    found: list[PastLoad] = []
    for k in range(bins):
        demand = Demand.none()
        if len(known):
            right = int(np.searchsorted(known, k))
            near = min((known[i] for i in (right - 1, right) if 0 <= i < len(known)), key=lambda other: abs(other - k))
            n = counts[near]
            demand = Demand(
                requests_per_second=float(counts[k] / BIN_SECONDS),
                input_tokens=float(inputs[near] / n),
                input_tokens_second_moment=float(input_squares[near] / n),
                output_tokens=float(outputs[near] / n),
                output_tokens_second_moment=float(squares[near] / n),
            )
        found.append(PastLoad(end_seconds=-(bins - 1 - k) * BIN_SECONDS, seconds=BIN_SECONDS, demand=demand))
    return tuple(found)
