"""The past load, bin by bin, asked for in pieces that Prometheus answers and that can be kept. Pure.

Prometheus refuses a range of more than 11,000 points, and whoever limits the size of answers refuses it sooner. What is
long ago is read in wider bins: it is there to tell one day from another, which minutes do not change.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from dopd.telemetry.answers import LARGEST_RATE

PIECE_POINTS = 1000
"""Of one resource; all that share a Prometheus are in one answer."""
FINE_BINS = 2880
"""Newest bins that are read one by one: two days of minutes, beyond what any estimation looks at closely."""
COARSE_BINS = 10
"""Before these, so many bins are read as one."""

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
    def steps(self) -> int:
        """From its first bin to its last."""
        return round((self.last_seconds - self.first_seconds) / self.step_seconds)


def pieces(end_seconds: float, history_seconds: float, bin_seconds: float) -> list[Piece]:
    """A history cut into pieces, oldest first. All but the newest begin and end where they did a bin ago.

    Args:
        end_seconds: end of the newest bin, a whole multiple of the bin width.
        history_seconds: how far back.
        bin_seconds: width of a bin.
    """
    start = end_seconds - history_seconds
    if history_seconds / bin_seconds <= PIECE_POINTS:
        return [Piece(start, end_seconds, bin_seconds)]
    whole = PIECE_POINTS * bin_seconds
    fine = math.floor((end_seconds - FINE_BINS * bin_seconds) / whole) * whole
    coarse = COARSE_BINS * bin_seconds
    far = _cut(math.floor(start / coarse) * coarse, fine, coarse) if fine > start else iter(())
    *settled, newest = [*far, *_cut(max(fine, start), end_seconds, bin_seconds)]
    return [*(replace(piece, settled=True) for piece in settled), newest]


def _cut(after_seconds: float, until_seconds: float, step_seconds: float) -> Iterator[Piece]:
    """Bins that end after the one time and until the other, cut at whole multiples of a piece."""
    whole = PIECE_POINTS * step_seconds
    while after_seconds < until_seconds - step_seconds / 2:
        last = min((math.floor(after_seconds / whole + 1e-9) + 1) * whole, until_seconds)
        yield Piece(after_seconds + step_seconds, last, step_seconds)
        after_seconds = last


def fine_points(piece: Piece, values: Iterable[tuple[float, float]], bin_seconds: float) -> Points:
    """The points of a piece in their order, a wide bin as that many narrow ones of the same load.

    What is no load is not known, and neither is what lies outside the piece. Of points in one bin the last one counts.
    """
    found: dict[int, float] = {}
    for at, load in ((float(at), float(load)) for at, load in values):
        number = (at - piece.first_seconds) / piece.step_seconds
        if -0.5 < number <= piece.steps + 0.5 and 0 <= load <= LARGEST_RATE:
            found[round(number)] = load
    narrow = round(piece.step_seconds / bin_seconds)
    return [
        (piece.first_seconds + number * piece.step_seconds - bin_seconds * back, load)
        for number, load in sorted(found.items())
        for back in range(narrow - 1, -1, -1)
    ]
