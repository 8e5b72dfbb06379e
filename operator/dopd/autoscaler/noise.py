"""Taking the noise of few requests out of a measured load.

A load is measured over less than a minute. With few requests in it most of what moves is chance, the greatest of many
such samples is chance at its worst, and the sizing counts on the randomness of arrivals already. So the mean is taken
over as long as the load may have stood still: over the longest time whose mean agrees with those of all shorter times
up to now, within three standard deviations of their difference (Lepski's method; Goldenshluger and Nemirovski, On
spatially adaptive estimation of nonparametric regression, Mathematical Methods of Statistics 6, 1997). A jump ends it
at once; where requests are many it is the newest sample.

Noise is told by one number, `noise`: the variance of a mean over s seconds at load x is noise * x / s, as for any sum
over requests that come by chance. Nested means over s < S seconds differ with variance noise * x * (1/s - 1/S).
"""

from collections import deque
from math import exp, isfinite, sqrt

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DEVIATIONS = 3.0
SHORTEST_SECONDS = 45.0
SPANS = SHORTEST_SECONDS * 2.0 ** np.arange(6)  # up to 24 minutes


def steady(means: Floats, seconds: Floats, noise: float) -> tuple[Floats, Floats]:
    """The mean over the longest time in which the load may have stood still.

    Args:
        means: over times of growing length that end now, shape (rows, lengths); NaN where one is not known.
        seconds: that each rests on, same shape; not falling.
        noise: variance of a mean over a second, as a share of the load, in busy workers times seconds.

    Returns:
        The mean, and over how many seconds it is one, shape (rows,) each.
    """
    found, span, agree = means[:, 0], seconds[:, 0], np.isfinite(means[:, 0])
    for longer in range(1, means.shape[1]):
        mean, over = means[:, longer], seconds[:, longer]
        variance = noise * mean[:, None] * (1 / seconds[:, :longer] - 1 / over[:, None])
        apart = (means[:, :longer] - mean[:, None]) ** 2
        agree = agree & (apart <= DEVIATIONS**2 * variance).all(axis=1)
        found, span = np.where(agree, mean, found), np.where(agree, over, span)
    return found, span


def steady_bins(ends: Floats, widths: Floats, loads: Floats, noise: float) -> Floats:
    """The loads of bins with their noise taken out, each from the bins up to it.

    Args:
        ends: of the bins, in seconds, rising; bins do not overlap.
        widths: of each, in seconds.
        loads: mean of each, finite.
        noise: as for `steady`.
    """
    if not noise > 0 or not len(loads):
        return loads
    # Integrals of the load and of what is known, at the starts and ends of all bins.
    at = np.stack([ends - widths, ends], axis=1).ravel()
    at = np.maximum.accumulate(at)
    known = np.concatenate([[0.0], np.cumsum(widths)])
    load = np.concatenate([[0.0], np.cumsum(widths * loads)])
    knots = np.repeat(np.arange(len(known)), 2)[1:-1]
    spans = np.maximum(SPANS[None, :], widths[:, None])
    starts = ends[:, None] - spans
    over = known[1:, None] - np.interp(starts, at, known[knots])
    amount = load[1:, None] - np.interp(starts, at, load[knots])
    found, _ = steady(amount / np.maximum(over, 1e-9), np.maximum(over, 1e-9), noise)
    return found


class SteadySamples:
    """Samples that overlap, one after the other, with their noise taken out.

    Attributes:
        deviation: standard deviation that is left in the newest of them, in busy workers.

    Args:
        forgetting: how much of what is known of the noise a sample replaces, as the exponent of a fading mean.
    """

    def __init__(self, forgetting: float) -> None:
        self._share = 1 - exp(-forgetting)
        self._samples: deque[tuple[float, float]] = deque()
        self._noise: float | None = None
        self.deviation = 0.0

    def add(self, at_seconds: float, load: float, noise_share: float, measured_seconds: float) -> float:
        """The load of now.

        Args:
            at_seconds: later than the last.
            load: as measured.
            noise_share: standard deviation of it as a share of the true load; not finite where no request came.
            measured_seconds: over which it was measured.
        """
        if load > 0 and isfinite(noise_share):
            noise = noise_share**2 * load * measured_seconds
            self._noise = noise if self._noise is None else self._noise + self._share * (noise - self._noise)
        self._samples.append((at_seconds, load))
        while self._samples[0][0] <= at_seconds - SPANS[-1]:
            self._samples.popleft()
        self.deviation = 0.0
        if not self._noise:
            return load
        times, loads = np.array(self._samples).T
        firsts = np.searchsorted(times, at_seconds - np.maximum(SPANS - SPANS[0], 1e-9), side="right")
        firsts = np.minimum(firsts, len(loads) - 1)
        means = np.cumsum(loads[::-1])[::-1][firsts] / (len(loads) - firsts)
        # The samples of some seconds tell of those and of what the oldest of them was measured over.
        seconds = times[-1] - times[firsts] + measured_seconds
        found, over = steady(means[None, :], seconds[None, :], self._noise)
        self.deviation = sqrt(self._noise * float(found[0]) / float(over[0]))
        return float(found[0])
