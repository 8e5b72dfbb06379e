"""Traces: which requests arrive when, from a file of requests or of totals per interval (`dopd.replay.trace_formats`).

A file of requests is taken as it is; copies are superposed by moving each request of the later copies by up to 30 s, so
that the load grows without its second-to-second burstiness growing in step.

Such a file may tell prefixes too (`hash_ids`: one number for each block of prompt tokens; equal numbers are equal
prefixes). A superposed copy stands for other users, and shares with the rest only the blocks with which every prompt of
the file begins.

A file of totals or of rates says how many requests and tokens an interval had. The requests of a file are as many as
its intervals sum up to, however short they are: what is less than a request is carried on to the next interval. Within
an interval arrivals are Poisson given their number, at a rate that runs on linearly from one interval to the
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

from dopd.replay import bursty, generated
from dopd.replay.prefix_cache import Prefixes
from dopd.replay.trace_file import TraceFile
from dopd.replay.trace_formats import FORMATS, MOST_REQUESTS, MOST_TOKENS, Kind

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

COPY_SPREAD_SECONDS = 30.0
INPUT_CV, OUTPUT_CV = 1.0, 0.8
RATE_COLUMNS = FORMATS[2].names
_FEWER = "take a part of it (--from-seconds, --to-seconds) or a smaller --rate-scale"


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
        batch: whether each has no deadline, and takes what the others leave; None if none has that.
    """

    name: str
    arrival_seconds: Floats
    input_tokens: Ints
    output_tokens: Ints
    kind: str
    prefixes: Prefixes | None = None
    uncached_tokens: Ints | None = None
    batch: Bools | None = None

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
            self.batch[first:last] if self.batch is not None else None,
        )


def load(
    path: str | Path,
    rate_scale: float = 1.0,
    seed: int = 1,
    start_seconds: float = 0.0,
    end_seconds: float = math.inf,
    within: Within = Within.LINEAR,
    bursty_clients: bool = False,
) -> Trace:
    """Read a trace, gzip or not, of any format, or draw a generated load.

    Args:
        path: of the file, or `generated:NAME` (`dopd.replay.generated`).
        rate_scale: for requests the whole number of copies superposed, for totals the factor on their number.
        seed: of the draws.
        start_seconds: begin of the part that is read; of totals, the intervals that begin in it.
        end_seconds: end of that part.
        within: how the load runs within an interval of totals.
        bursty_clients: draw arrivals client by client, as bursty as each is (`dopd.replay.bursty`).

    Raises:
        ValueError: the file is of no known format or tells no clients, a cell is none that its column can mean, the
            scale does not fit the kind, or the part holds no request or more than can be replayed.
    """
    generator = np.random.default_rng(seed)
    if bursty_clients:
        trace = _of_clients(Path(path), rate_scale, start_seconds, end_seconds, generator)
    elif is_generated(path):
        part, width = _generated(str(path), start_seconds, end_seconds, seed)
        trace = _drawn(str(path), part, width, rate_scale, generator, within)
    else:
        trace = _of_file(Path(path), rate_scale, generator, start_seconds, end_seconds, within)
    if not len(trace):
        raise ValueError(f"{path}: no request between {start_seconds:g} s and {end_seconds:g} s")
    return trace


def _of_file(
    path: Path,
    rate_scale: float,
    generator: np.random.Generator,
    start_seconds: float,
    end_seconds: float,
    within: Within,
) -> Trace:
    file = TraceFile.read(path)
    if file.format.kind is Kind.REQUESTS:
        return _superposed(file, rate_scale, generator).between(start_seconds, end_seconds)
    part, width = _intervals(file, start_seconds, end_seconds, rate_scale)
    return _drawn(_name(file.path), part, width, rate_scale, generator, within)


def is_generated(path: str | Path) -> bool:
    """Whether a trace is a load of our own making and no file."""
    return str(path).startswith(generated.PREFIX)


def _generated(name: str, start_seconds: float, end_seconds: float, seed: int) -> tuple[list[Floats], float]:
    totals = generated.totals(name.removeprefix(generated.PREFIX), seed)
    inside = (totals.columns[0] >= start_seconds) & (totals.columns[0] < end_seconds)
    return [column[inside] for column in totals.columns], totals.width_seconds


def _of_clients(
    path: Path, rate_scale: float, start_seconds: float, end_seconds: float, generator: np.random.Generator
) -> Trace:
    arrivals, inputs, outputs = bursty.draw(
        bursty.clients_file(path), rate_scale, start_seconds, end_seconds, generator
    )
    prompts, answers = (
        mean * _lognormal(cv, len(mean), generator) for mean, cv in ((inputs, INPUT_CV), (outputs, OUTPUT_CV))
    )
    return _trace(_name(path), arrivals, prompts, answers, Kind.TOTALS)


def totals(
    path: str | Path, start_seconds: float, end_seconds: float, seed: int = 1, rate_scale: float = 1.0
) -> tuple[list[Floats], float] | None:
    """Begin, requests, prompt and answer tokens of each interval, and their width; None of a trace of requests.

    Args:
        path: of the file, or `generated:NAME`.
        start_seconds: begin of the part that is read.
        end_seconds: end of that part.
        seed: of a generated load.
        rate_scale: factor on the number of requests.
    """
    if is_generated(path):
        columns, width = _generated(str(path), start_seconds, end_seconds, seed)
    else:
        file = TraceFile.read(Path(path))
        if file.format.kind is Kind.REQUESTS:
            return None
        columns, width = _intervals(file, start_seconds, end_seconds, rate_scale)
    starts, *rest = columns
    return [starts, *(column * rate_scale for column in rest)], width


def _name(path: Path) -> str:
    name = path.name.removesuffix(".gz")
    return name.removesuffix(".csv").removesuffix(".jsonl")


def _intervals(
    file: TraceFile, start_seconds: float, end_seconds: float, rate_scale: float
) -> tuple[list[Floats], float]:
    """The intervals of a file that begin in [start, end), in order: when, and what they had; and their length."""
    order = np.argsort(file.columns[0], kind="stable")
    starts, *totals = (column[order] for column in file.columns)
    twice = np.flatnonzero(np.diff(starts) == 0)
    if len(twice):
        raise file.refusal(int(order[twice[0] + 1]), 0, " stands twice; expected each interval once")
    width = float(np.diff(starts).min()) if len(starts) > 1 else 60.0  # the shortest: a file may leave empty ones out
    if file.format.kind is Kind.RATES:
        totals = [rate * width for rate in totals]
    inside = (starts - starts[0] >= start_seconds) & (starts - starts[0] < end_seconds)
    requests, *tokens = totals
    for place, (column, most) in enumerate(zip(tokens, MOST_TOKENS, strict=True), start=2):
        long = np.flatnonzero(inside & (requests > 0) & (column > most * requests))
        if len(long):
            above = f" is more than {most:,.0f} for each request; correct the line or remove it"
            raise file.refusal(int(order[long[0]]), place, above)
    many = np.flatnonzero(inside & (np.cumsum(np.where(inside, requests, 0.0)) * rate_scale > MOST_REQUESTS))
    if len(many):
        above = f" brings the requests above {MOST_REQUESTS:,}: correct the line, or {_FEWER}"
        raise file.refusal(int(order[many[0]]), 1, above)
    return [column[inside] for column in (starts, *totals)], width


def _superposed(file: TraceFile, rate_scale: float, generator: np.random.Generator) -> Trace:
    copies = int(min(rate_scale, MOST_REQUESTS))
    if copies != rate_scale or copies < 1:
        raise ValueError(f"{file.path}: rate scale {rate_scale} of a request trace; expected a whole number of copies")
    if copies * len(file.lines) > MOST_REQUESTS:
        many = f"{copies} copies of {len(file.lines)} requests are more than {MOST_REQUESTS:,}"
        raise ValueError(f"{file.path}: {many}; take a smaller --rate-scale")
    arrivals, inputs, outputs = file.columns
    prefixes = None
    if file.blocks is not None and file.block_counts is not None:
        prefixes = Prefixes.of_blocks(file.blocks, file.block_counts, inputs.astype(np.int64), file.format.block_tokens)
    arrivals = arrivals - arrivals.min()
    end = float(arrivals.max())
    moved = [arrivals] + [
        (arrivals + generator.uniform(-COPY_SPREAD_SECONDS, COPY_SPREAD_SECONDS, len(arrivals))) % max(end, 1e-9)
        for _ in range(copies - 1)
    ]
    arrivals, inputs, outputs = np.concatenate(moved), np.tile(inputs, copies), np.tile(outputs, copies)
    superposed = prefixes.superposed(copies) if prefixes is not None else None
    return _trace(_name(file.path), arrivals, inputs, outputs, Kind.REQUESTS, superposed)


def of_bins(
    name: str,
    starts: Floats,
    widths: Floats,
    requests: Floats,
    lengths: tuple[Floats, Floats],
    spreads: tuple[Floats, Floats],
    seed: int = 1,
) -> Trace:
    """Requests drawn from bins of any width, as a Prometheus remembers a load.

    Args:
        name: where they come from.
        starts: begin of each bin, seconds from the start of the trace, ascending.
        widths: of each, seconds.
        requests: that arrived in each.
        lengths: mean tokens of prompts and of answers of each.
        spreads: their coefficients of variation.
        seed: of the draws.

    Raises:
        ValueError: there is no request, or are more than can be replayed.
    """
    total = float(requests.sum())
    if not 1 <= total <= MOST_REQUESTS:
        raise ValueError(f"{name}: {total:,.0f} requests; expected 1 to {MOST_REQUESTS:,}: take another part of it")
    generator = np.random.default_rng(seed)
    bins = np.repeat(np.arange(len(starts)), _whole(requests))
    arrivals = starts[bins] + generator.uniform(0, 1, len(bins)) * widths[bins]
    prompts, answers = (
        mean[bins] * _lognormal(cv[bins], len(bins), generator) for mean, cv in zip(lengths, spreads, strict=True)
    )
    return _trace(name, arrivals, prompts, answers, Kind.TOTALS)


def _drawn(
    name: str, columns: list[Floats], width: float, rate_scale: float, generator: np.random.Generator, within: Within
) -> Trace:
    starts, requests, inputs, outputs = columns
    starts = starts - starts[:1]
    counts = generator.poisson(requests * rate_scale) if rate_scale != 1 else _whole(requests)
    interval = np.repeat(np.arange(len(counts)), counts)
    share = generator.uniform(0, 1, len(interval))
    # Tokens of an interval without a request are of none.
    lengths = [
        np.divide(tokens, requests, out=np.zeros_like(tokens), where=requests > 0) for tokens in (inputs, outputs)
    ]
    if within is Within.LINEAR:
        joined = np.isclose(np.diff(starts), width) & (requests[1:] > 0) & (requests[:-1] > 0)
        share = _drawn_along(_line(requests, joined), interval, share)
        means = [_read_along(_line(mean, joined), interval, share) for mean in lengths]
    else:
        means = [mean[interval] for mean in lengths]
    prompts, answers = (
        mean * _lognormal(cv, len(interval), generator) for mean, cv in zip(means, (INPUT_CV, OUTPUT_CV), strict=True)
    )
    return _trace(name, starts[interval] + share * width, prompts, answers, Kind.TOTALS)


def _whole(requests: Floats) -> Ints:
    """Whole numbers with the sum of all, at each interval less than one from the sum so far."""
    until = np.floor(np.cumsum(requests) + 0.5).astype(np.int64)
    return np.diff(until, prepend=0)


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


def _lognormal(cv: float | Floats, count: int, generator: np.random.Generator) -> Floats:
    """Draws with mean 1 and the given coefficient of variation."""
    variance = np.log1p(cv * cv)
    return generator.lognormal(-variance / 2, np.sqrt(variance), count)


def _trace(
    name: str, arrivals: Floats, inputs: Floats, outputs: Floats, kind: str, prefixes: Prefixes | None = None
) -> Trace:
    order = np.argsort(arrivals, kind="stable")
    whole = [
        np.clip(np.round(tokens[order]), 1, most).astype(np.int64)
        for tokens, most in zip((inputs, outputs), MOST_TOKENS, strict=True)
    ]
    return Trace(
        name, arrivals[order], whole[0], whole[1], kind, prefixes.take(order) if prefixes is not None else None
    )
