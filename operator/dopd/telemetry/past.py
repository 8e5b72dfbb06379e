"""The past load bin by bin, put together from what Prometheus answered to the queries of its pieces. Pure.

Three things are read: arrivals of each bin; mean lengths and the uncached share of each bin; and, hour by hour, how
widely lengths spread, from the buckets of the engines' histograms: a spread changes slower than a mean, and buckets are
thirty times as much to compute and to send. The second moment of a bin is its mean squared times the spread of its
hour.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dopd.autoscaler.past import PastLoad
from dopd.planning import Demand
from dopd.telemetry import queries
from dopd.telemetry.answers import LARGEST_RATE, buckets
from dopd.telemetry.connection import Answer
from dopd.telemetry.histograms import second_moment
from dopd.telemetry.history import Piece
from dopd.telemetry.lengths import LONGEST_TOKENS, Lengths
from dopd.telemetry.prometheus import series_by_key
from dopd.telemetry.windows import InstanceKey

Floats = npt.NDArray[np.float64]

RATE = "rate"
PARTS = (RATE, queries.INPUT, queries.UNCACHED_SHARE, queries.OUTPUT)
SPREADS = (queries.INPUT, queries.OUTPUT)
UNKNOWN_SPREAD = 2.0
"""Second moment over squared mean of the exponential distribution: for prompts that no histogram tells of."""
_LARGEST = {RATE: LARGEST_RATE, queries.UNCACHED_SHARE: 1.0}

Grid = Mapping[InstanceKey, Mapping[str, Floats]]
"""Values of each bin of a piece by resource and part; NaN where there is no point, infinite where one tells nothing."""


def rates(piece: Piece, answer: Answer) -> Grid:
    """Arrival rates of a piece."""
    return _by_key(piece, answer, lambda _: RATE)


def means(piece: Piece, answer: Answer) -> Grid:
    """Mean lengths and uncached shares of a piece, of `queries.past_means`."""
    return _by_key(piece, answer, lambda one: str(one["metric"].get(queries.PART, "")))


def spreads(piece: Piece, answer: Answer) -> Grid:
    """Second moments over squared means of a piece, of `queries.past_buckets`.

    Raises:
        BadAnswer: a bound is no number.
    """
    found: dict[InstanceKey, dict[str, Floats]] = {}
    for (namespace, name, part), series in series_by_key(answer, ("namespace", queries.INSTANCE, queries.PART)).items():
        at: dict[int, list[dict[str, object]]] = {}
        for one in series:
            for seconds, value in one["values"]:
                at.setdefault(_index(piece, seconds), []).append({"metric": one["metric"], "value": (seconds, value)})
        values = _unknown(piece.bins)
        for index, samples in at.items():
            histogram = buckets(samples)
            if 0 <= index < piece.bins:
                told = histogram.get(math.inf, 0.0) > 0 and len(histogram) > 1
                values[index] = second_moment(histogram, 1.0) if told else math.inf
        found.setdefault((namespace, name), {})[part] = values
    return found


def merged(first: Grid, then: Grid) -> Grid:
    """One grid with what it does not know taken from another."""
    found = {key: dict(parts) for key, parts in first.items()}
    for key, parts in then.items():
        mine = found.setdefault(key, {})
        for part, values in parts.items():
            mine[part] = np.where(np.isnan(mine[part]), values, mine[part]) if part in mine else values
    return found


def complete(grid: Grid, parts: Sequence[str]) -> bool:
    """Whether some resource is in it, and each has all points."""
    known = [of.get(part) for of in grid.values() for part in parts]
    return bool(known) and all(values is not None and not np.isnan(values).any() for values in known)


def _by_key(piece: Piece, answer: Answer, part_of: Callable[[dict[str, Any]], str]) -> Grid:
    found: dict[InstanceKey, dict[str, Floats]] = {}
    for one in answer:
        key = (one["metric"].get("namespace", ""), one["metric"].get(queries.INSTANCE, ""))
        part = part_of(one)
        if part not in PARTS:
            continue
        values = found.setdefault(key, {}).setdefault(part, _unknown(piece.bins))
        points = np.array(one["values"], dtype=np.float64).reshape(-1, 2)
        number = np.rint((points[:, 0] - piece.first_seconds) / piece.step_seconds)
        inside = (number >= 0) & (number < piece.bins)  # before it is made an index: a time may be any number
        values[number[inside].astype(np.int64)] = _sane(part, points[inside, 1])
    return found


def _sane(part: str, values: Floats) -> Floats:
    """Without what no rate, length or share is; rounding may take a share a little beyond one."""
    largest = _LARGEST.get(part, LONGEST_TOKENS)
    values = np.minimum(values, 1.0) if part == queries.UNCACHED_SHARE else values
    return np.where((values <= largest) & (values >= 0), values, np.inf)


def _unknown(bins: int) -> Floats:
    return np.full(bins, np.nan)


def _index(piece: Piece, seconds: float) -> int:
    return round((seconds - piece.first_seconds) / piece.step_seconds)


@dataclass(frozen=True)
class Table:
    """What is known of one resource's past, bin by bin, oldest first.

    Attributes:
        ends: ends of the bins, seconds since the epoch.
        widths: their widths, seconds.
        parts: values by part; NaN where one is not known.
    """

    ends: Floats
    widths: Floats
    parts: Mapping[str, Floats]

    @classmethod
    def of(cls, key: InstanceKey, grids: Sequence[tuple[Piece, Sequence[Grid]]], parts: Sequence[str]) -> "Table":
        """The table of a resource.

        Args:
            key: of the resource.
            grids: what is known of each piece, pieces in order.
            parts: its columns.
        """
        columns: dict[str, list[Floats]] = {part: [] for part in parts}
        ends, widths = [], []
        for piece, known in grids:
            ends.append(piece.first_seconds + piece.step_seconds * np.arange(piece.bins))
            widths.append(np.full(piece.bins, piece.step_seconds))
            for part, column in columns.items():
                found = (grid[key][part] for grid in known if key in grid and part in grid[key])
                column.append(next(found, _unknown(piece.bins)))
        joined = {part: np.concatenate(column) if column else np.empty(0) for part, column in columns.items()}
        none = [np.empty(0)]
        return cls(np.concatenate(ends or none), np.concatenate(widths or none), joined)


def past_loads(
    table: Table, hours: Table, recent: Lengths | None, recent_seconds: float, since_seconds: float
) -> tuple[PastLoad, ...]:
    """The bins whose arrivals are known, each with lengths: where a bin tells none, those of the nearest that does.

    Args:
        table: of arrivals and mean lengths.
        hours: of spreads.
        recent: lengths of the newest requests, whose spread counts for the newest bins; None if there are none.
        recent_seconds: the middle of the time in which these came.
        since_seconds: bins whose middle is not after it are left out.
    """
    inputs, uncached, outputs = (table.parts[part] for part in PARTS[1:])
    told = np.isfinite(inputs) & np.isfinite(uncached) & np.isfinite(outputs) & (inputs > 0) & (outputs > 0)
    middles = table.ends - table.widths / 2
    nearest = _nearest(middles[told], middles)
    if nearest is None:
        lengths = np.zeros((len(table.ends), 3))
        if recent:
            lengths[:] = recent.input_tokens, recent.uncached_share, recent.output_tokens
    else:
        lengths = np.column_stack([inputs[told], uncached[told], outputs[told]])[nearest]
    of_input, of_output = (_spread(hours, part, middles, recent, recent_seconds) for part in SPREADS)
    input_second = lengths[:, 0] ** 2 * (UNKNOWN_SPREAD if of_input is None else of_input)
    output_second = None if of_output is None else lengths[:, 2] ** 2 * of_output
    arrivals = table.parts[RATE]
    return tuple(
        PastLoad(
            end_seconds=float(table.ends[i]),
            seconds=float(table.widths[i]),
            demand=Demand(
                requests_per_second=float(arrivals[i]),
                input_tokens=float(lengths[i, 0]),
                input_tokens_second_moment=float(input_second[i]),
                output_tokens=float(lengths[i, 2]),
                uncached_share=float(lengths[i, 1]),
                output_tokens_second_moment=None if output_second is None else float(output_second[i]),
            ),
        )
        for i in np.flatnonzero(np.isfinite(arrivals) & (middles > since_seconds))
    )


def _spread(hours: Table, part: str, middles: Floats, recent: Lengths | None, recent_seconds: float) -> Floats | None:
    """The spread nearest to each time; None where none is known."""
    known = np.isfinite(hours.parts[part])
    times, values = (hours.ends - hours.widths / 2)[known], hours.parts[part][known]
    if recent is not None:
        mean, second = (
            (recent.input_tokens, recent.input_tokens_second_moment)
            if part == queries.INPUT
            else (recent.output_tokens, recent.output_tokens_second_moment)
        )
        if mean >= 1:  # no request has less than a token: the square of less may be nothing
            times, values = np.append(times, recent_seconds), np.append(values, max(1.0, second / mean**2))
    nearest = _nearest(times, middles)
    return None if nearest is None else values[nearest]


def _nearest(times: Floats, wanted: Floats) -> npt.NDArray[np.int64] | None:
    """Index of the nearest of some ascending times to each that is wanted, of two as near the earlier; None of none."""
    if not len(times):
        return None
    after = np.clip(np.searchsorted(times, wanted), 0, len(times) - 1)
    before = np.maximum(after - 1, 0)
    return np.where(np.abs(times[after] - wanted) < np.abs(wanted - times[before]), after, before).astype(np.int64)
