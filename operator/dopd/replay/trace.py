"""Traces: which requests arrive when, from a file of requests or of totals per interval.

A request file (`arrival_s,input_tokens,output_tokens`) is taken as it is; copies are superposed by moving each
request of the later copies by up to 30 s, so that the load grows without its second-to-second burstiness growing in
step.

Such a file may tell prefixes too (`hash_ids`: one number for each block of 512 prompt tokens, separated by spaces;
equal numbers are equal prefixes). A superposed copy stands for other users, and shares with the rest only the blocks
with which every prompt of the file begins.

A totals file (`t_s,requests,input_tokens,output_tokens`, or rates per second:
`t_s,rate_rps_with_tokens,input_tok_per_s, output_tok_per_s`) says how many requests and tokens an interval had.
Within an interval arrivals are Poisson given their number, at a rate that runs on linearly from one interval to the
next and keeps the number of each (`Within.LINEAR`): a service whose load is known every ten minutes does not jump every
ten minutes. With `Within.CONSTANT` it does, which is a harder test. Lengths are lognormal with the interval's mean,
which runs on alike, and a coefficient of variation of 1.0 for prompts and 0.8 for answers, as measured on published
request traces. All draws come from one seeded generator.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dopd.replay.prefix_cache import Prefixes
from dopd.replay.trace_file import TraceFile

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

COPY_SPREAD_SECONDS = 30.0
INPUT_CV, OUTPUT_CV = 1.0, 0.8
REQUEST_COLUMNS = ("arrival_s", "input_tokens", "output_tokens")
TOTAL_COLUMNS = ("t_s", "requests", "input_tokens", "output_tokens")
PREFIX_COLUMN = "hash_ids"
RATE_COLUMNS = ("t_s", "rate_rps_with_tokens", "input_tok_per_s", "output_tok_per_s")


class Within(StrEnum):
    """How the load runs within an interval of which only the totals are known."""

    LINEAR = "linear"
    CONSTANT = "constant"


@dataclass(frozen=True)
class Trace:
    """Requests in order of arrival.

    Attributes:
        name: where they come from.
        arrival_seconds: from the start of the trace, ascending.
        input_tokens: prompt length of each, at least 1.
        output_tokens: generation length of each, at least 1.
        kind: "requests" or "totals".
        prefixes: blocks of the prompts that may be in a prefix cache; None if the trace does not tell.
        uncached_tokens: prompt tokens of each that a first replay had to compute, for policies with hindsight; None
            stands for all.
    """

    name: str
    arrival_seconds: Floats
    input_tokens: Ints
    output_tokens: Ints
    kind: str
    prefixes: Prefixes | None = None
    uncached_tokens: Ints | None = None

    def __len__(self) -> int:
        return len(self.arrival_seconds)

    @property
    def duration_seconds(self) -> float:
        """Time of the last arrival."""
        return float(self.arrival_seconds[-1]) if len(self) else 0.0

    def between(self, start_seconds: float, end_seconds: float) -> "Trace":
        """The requests that arrive in [start, end), with time counted from start."""
        first, last = np.searchsorted(self.arrival_seconds, [start_seconds, end_seconds])
        return Trace(
            self.name,
            self.arrival_seconds[first:last] - start_seconds,
            self.input_tokens[first:last],
            self.output_tokens[first:last],
            self.kind,
            self.prefixes.between(first, last) if self.prefixes is not None else None,
            self.uncached_tokens[first:last] if self.uncached_tokens is not None else None,
        )


def load(
    path: str | Path,
    rate_scale: float = 1.0,
    seed: int = 1,
    start_seconds: float = 0.0,
    end_seconds: float = math.inf,
    within: Within = Within.LINEAR,
) -> Trace:
    """Read a trace, gzip or not, of either kind.

    Args:
        path: CSV file; its header tells the kind.
        rate_scale: for requests the whole number of copies superposed, for totals the factor on their number.
        seed: of the draws.
        start_seconds: begin of the part that is read; of totals, the intervals that begin in it.
        end_seconds: end of that part.
        within: how the load runs within an interval of totals.

    Raises:
        ValueError: the header is of neither kind, a cell is none that its column can mean, the scale does not fit the
            kind, or the part holds no request, or all of them at one moment.
    """
    trace = _read(Path(path), rate_scale, seed, start_seconds, end_seconds, within)
    if not len(trace):
        raise ValueError(f"{path}: no request between {start_seconds:g} s and {end_seconds:g} s")
    if not trace.duration_seconds:
        raise ValueError(f"{path}: all requests arrive at one moment; expected a trace that lasts")
    return trace


def _read(path: Path, rate_scale: float, seed: int, start_seconds: float, end_seconds: float, within: Within) -> Trace:
    file = TraceFile.read(path)
    name = path.name.removesuffix(".gz").removesuffix(".csv")
    generator = np.random.default_rng(seed)
    header = set(file.header)
    if set(REQUEST_COLUMNS) <= header:
        copies = int(rate_scale)
        if copies != rate_scale or copies < 1:
            raise ValueError(f"{path}: rate scale {rate_scale} of a request trace; expected a whole number of copies")
        columns = [file.numbers(column) for column in REQUEST_COLUMNS]
        prefixes = _prefixes(file, columns[1]) if PREFIX_COLUMN in header else None
        return _superposed(name, columns, copies, generator, prefixes).between(start_seconds, end_seconds)
    if set(TOTAL_COLUMNS) <= header:
        starts, *totals = _intervals(file, TOTAL_COLUMNS)
        width = _width(starts)
    elif set(RATE_COLUMNS) <= header:
        starts, *rates = _intervals(file, RATE_COLUMNS)
        width = _width(starts)
        totals = [rate * width for rate in rates]
    else:
        raise ValueError(
            f"{path}: columns {', '.join(file.header)}; expected {', '.join(REQUEST_COLUMNS)} (requests) or "
            f"{', '.join(TOTAL_COLUMNS)} (totals) or {', '.join(RATE_COLUMNS)} (rates)"
        )
    part = _part([starts, *totals], start_seconds, end_seconds)
    return _drawn(name, part, width, rate_scale, generator, within)


def _prefixes(file: TraceFile, input_tokens: Floats) -> Prefixes:
    try:
        return Prefixes.of_rows(file.cells(PREFIX_COLUMN), input_tokens.astype(np.int64))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{file.path}: {error}") from None


def _intervals(file: TraceFile, names: tuple[str, ...]) -> list[Floats]:
    """The columns of a file of totals or rates, in order of time: when intervals begin, and what they had."""
    columns = [file.numbers(name) for name in names]
    order = np.argsort(columns[0], kind="stable")
    twice = np.flatnonzero(np.diff(columns[0][order]) == 0)
    if len(twice):
        raise file.refusal(int(order[twice[0] + 1]), names[0], " stands twice; expected each interval once")
    return [column[order] for column in columns]


def _width(starts: Floats) -> float:
    """Length of the intervals, seconds: the shortest distance, since a file may leave empty ones out."""
    return float(np.diff(starts).min()) if len(starts) > 1 else 60.0


def _part(columns: list[Floats], start_seconds: float, end_seconds: float) -> list[Floats]:
    """The intervals that begin in [start, end), counted from the first of the file."""
    since = columns[0] - columns[0][0]
    inside = (since >= start_seconds) & (since < end_seconds)
    return [column[inside] for column in columns]


def _superposed(
    name: str, columns: list[Floats], copies: int, generator: np.random.Generator, prefixes: Prefixes | None
) -> Trace:
    arrivals, inputs, outputs = columns
    arrivals = arrivals - arrivals.min()
    end = float(arrivals.max())
    moved = [arrivals] + [
        (arrivals + generator.uniform(-COPY_SPREAD_SECONDS, COPY_SPREAD_SECONDS, len(arrivals))) % max(end, 1e-9)
        for _ in range(copies - 1)
    ]
    arrivals, inputs, outputs = np.concatenate(moved), np.tile(inputs, copies), np.tile(outputs, copies)
    return _trace(
        name, arrivals, inputs, outputs, "requests", prefixes.superposed(copies) if prefixes is not None else None
    )


def _drawn(
    name: str, columns: list[Floats], width: float, rate_scale: float, generator: np.random.Generator, within: Within
) -> Trace:
    starts, requests, inputs, outputs = columns
    starts = starts - starts[:1]
    counts = generator.poisson(requests * rate_scale) if rate_scale != 1 else np.round(requests).astype(np.int64)
    interval = np.repeat(np.arange(len(counts)), counts)
    share = generator.uniform(0, 1, len(interval))
    with np.errstate(invalid="ignore", divide="ignore"):
        lengths = [np.nan_to_num(tokens / requests) for tokens in (inputs, outputs)]
    if within is Within.LINEAR:
        joined = np.isclose(np.diff(starts), width) & (requests[1:] > 0) & (requests[:-1] > 0)
        share = _drawn_along(_line(requests, joined), interval, share)
        means = [_read_along(_line(mean, joined), interval, share) for mean in lengths]
    else:
        means = [mean[interval] for mean in lengths]
    prompts, answers = (
        mean * _lognormal(cv, len(interval), generator) for mean, cv in zip(means, (INPUT_CV, OUTPUT_CV), strict=True)
    )
    return _trace(name, starts[interval] + share * width, prompts, answers, "totals")


Line = tuple[Floats, Floats, Floats]
"""Heights at the left edge, the middle and the right edge of each interval, straight between."""


def _line(values: Floats, joined: npt.NDArray[np.bool_]) -> Line:
    """A line that keeps the mean of each interval and runs on from one to the next where they are joined.

    An edge lies halfway between its two intervals, and no higher than twice the lower, so that no middle is below 0.
    """
    edges = np.minimum((values[1:] + values[:-1]) / 2, 2 * np.minimum(values[1:], values[:-1]))
    left = np.concatenate((values[:1], np.where(joined, edges, values[1:])))
    right = np.concatenate((np.where(joined, edges, values[:-1]), values[-1:]))
    return left, 2 * values - (left + right) / 2, right


def _read_along(line: Line, interval: Ints, share: Floats) -> Floats:
    """Height of the line at a share of the way through an interval."""
    left, middle, right = (heights[interval] for heights in line)
    early = share < 0.5
    begin, end = np.where(early, left, middle), np.where(early, middle, right)
    heights: Floats = begin + (end - begin) * np.where(early, 2 * share, 2 * share - 1)
    return heights


def _drawn_along(line: Line, interval: Ints, uniform: Floats) -> Floats:
    """Uniform draws turned into shares of the way that are as dense as the line is high, by its integral's inverse."""
    left, middle, right = (heights[interval] for heights in line)
    first, second = (left + middle) / 4, (middle + right) / 4
    area = uniform * (first + second)
    early = area < first
    begin, end = np.where(early, left, middle), np.where(early, middle, right)
    area = np.where(early, area, area - first)
    # In a half, with x the share of the way since it began: area = begin x + (end - begin) x^2.
    root = np.sqrt(np.maximum(begin**2 + 4 * (end - begin) * area, 0.0))
    x = 2 * area / np.maximum(begin + root, 1e-300)
    shares: Floats = np.clip(x + np.where(early, 0.0, 0.5), 0.0, 1.0)
    return shares


def _lognormal(cv: float, count: int, generator: np.random.Generator) -> Floats:
    """Draws with mean 1 and the given coefficient of variation."""
    variance = np.log1p(cv * cv)
    return generator.lognormal(-variance / 2, np.sqrt(variance), count)


def _trace(
    name: str, arrivals: Floats, inputs: Floats, outputs: Floats, kind: str, prefixes: Prefixes | None = None
) -> Trace:
    order = np.argsort(arrivals, kind="stable")
    whole = [np.maximum(1, np.round(tokens[order])).astype(np.int64) for tokens in (inputs, outputs)]
    return Trace(
        name, arrivals[order], whole[0], whole[1], kind, prefixes.take(order) if prefixes is not None else None
    )
