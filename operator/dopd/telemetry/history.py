"""The past load in pieces, each small enough for Prometheus to compute and to answer, and most of them kept. Pure.

What is long ago is read in wider bins: it is there to tell one hour of the week from another, which minutes do not
change. All is counted in bins, so that pieces begin and end at the same times whoever asks and whenever:

    | two days | two days | day | six hours | six hours | hour | hour | newest |
    start        wide bins      fine                                    settled  end

A query is over two days of wide bins or six hours of narrow ones. Of one resource an answer has 360 points a series at
most, so that what a resource's own Prometheus may answer (4 MiB, 50,000 points) holds some thirty resources.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dopd.telemetry.answers import LARGEST_RATE

HOUR_BINS, BLOCK_BINS, DAY_BINS, FAR_BINS = 60, 360, 1440, 2880
"""Narrow bins of a piece: of the newest ones, of those before, of hours, and of what is read in wide bins. Each a
multiple of the one before. For bins of a minute these are an hour, six, a day and two."""
FINE_BINS = 2880
"""Newest bins that are read one by one: two days of minutes, beyond what any estimation looks at closely."""
COARSE_BINS = 10
"""Before these, so many bins are read as one."""
SETTLING_BINS = 10
"""The newest bins may still change: samples that come late. What is older is asked for again as its pieces grow."""

Points = list[tuple[float, float]]
"""(end of a bin in seconds since the epoch, load)."""


@dataclass(frozen=True)
class Piece:
    """A part of the history.

    Attributes:
        first_seconds: end of its first bin, seconds since the epoch.
        last_seconds: end of its last bin.
        step_seconds: width of its bins.
        settled: no bin of it will change any more, or come.
    """

    first_seconds: float
    last_seconds: float
    step_seconds: float
    settled: bool = False

    @property
    def bins(self) -> int:
        """How many it has."""
        return round((self.last_seconds - self.first_seconds) / self.step_seconds) + 1


def pieces(end_seconds: float, history_seconds: float, bin_seconds: float) -> list[Piece]:
    """A history cut into pieces, oldest first. All but the newest begin and end where they did a bin ago.

    The oldest one may begin up to a day of bins before the history does.

    Args:
        end_seconds: end of the newest bin, a whole multiple of the bin width.
        history_seconds: how far back.
        bin_seconds: width of a bin.
    """
    end, start, settled = _marks(end_seconds, history_seconds, bin_seconds)
    fine = _floor(end - FINE_BINS, DAY_BINS)
    blocks = _floor(settled, BLOCK_BINS)
    cuts = (
        *_cut(_floor(start, DAY_BINS), fine, FAR_BINS, COARSE_BINS),
        *_cut(max(fine, _floor(start, BLOCK_BINS)), blocks, BLOCK_BINS, 1),
        *_cut(max(fine, blocks, _floor(start, HOUR_BINS)), settled, HOUR_BINS, 1),
    )
    older = [Piece((a + step) * bin_seconds, b * bin_seconds, step * bin_seconds, True) for a, b, step in cuts]
    newest = max(settled, start)
    return [*older, Piece((newest + 1) * bin_seconds, end * bin_seconds, bin_seconds)]


def hour_pieces(end_seconds: float, history_seconds: float, bin_seconds: float) -> list[Piece]:
    """The settled hours of a history as bins of an hour, a day a piece, oldest first; see `pieces`."""
    _, start, settled = _marks(end_seconds, history_seconds, bin_seconds)
    days = _cut(_floor(start, HOUR_BINS), settled, DAY_BINS, HOUR_BINS)
    return [Piece((a + step) * bin_seconds, b * bin_seconds, step * bin_seconds, True) for a, b, step in days]


def _marks(end_seconds: float, history_seconds: float, bin_seconds: float) -> tuple[int, int, int]:
    """End, start and where what may change begins, in bins since the epoch."""
    end = round(end_seconds / bin_seconds)
    return end, end - max(1, round(history_seconds / bin_seconds)), _floor(end - SETTLING_BINS, HOUR_BINS)


def _floor(bins: int, multiple: int) -> int:
    return math.floor(bins / multiple) * multiple


def _cut(after: int, until: int, width: int, step: int) -> Iterator[tuple[int, int, int]]:
    """After, until and step of pieces that are cut at whole multiples of their width."""
    while after < until:
        cut = min(_floor(after, width) + width, until)
        yield after, cut, step
        after = cut


def fine_points(piece: Piece, values: Iterable[tuple[float, float]], bin_seconds: float) -> Points:
    """The points of a piece in their order, a wide bin as that many narrow ones of the same load.

    What is no load is not known, and neither is what lies outside the piece. Of points in one bin the last one counts.
    """
    found: dict[int, float] = {}
    for at, load in ((float(at), float(load)) for at, load in values):
        number = (at - piece.first_seconds) / piece.step_seconds
        if -0.5 < number <= piece.bins - 0.5 and 0 <= load <= LARGEST_RATE:
            found[round(number)] = load
    narrow = round(piece.step_seconds / bin_seconds)
    return [
        (piece.first_seconds + number * piece.step_seconds - bin_seconds * back, load)
        for number, load in sorted(found.items())
        for back in range(narrow - 1, -1, -1)
    ]
