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

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DEVIATIONS = 3.0
SHORTEST_SECONDS = 45.0
SPANS = SHORTEST_SECONDS * 2.0 ** np.arange(6)  # up to 24 minutes


def steady(means: Floats, seconds: Floats, noise: float) -> Floats:
    """The mean over the longest time in which the load may have stood still.

    Args:
        means: over times of growing length that end now, shape (rows, lengths); NaN where one is not known.
        seconds: that each rests on, same shape; not falling.
        noise: variance of a mean over a second, as a share of the load, in busy workers times seconds.

    Returns:
        Shape (rows,).
    """
    found, agree = means[:, 0], np.isfinite(means[:, 0])
    for longer in range(1, means.shape[1]):
        mean, over = means[:, longer], seconds[:, longer]
        variance = noise * mean[:, None] * (1 / seconds[:, :longer] - 1 / over[:, None])
        apart = (means[:, :longer] - mean[:, None]) ** 2
        agree = agree & (apart <= DEVIATIONS**2 * variance).all(axis=1)
        found = np.where(agree, mean, found)
    return found


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
    return steady(amount / np.maximum(over, 1e-9), np.maximum(over, 1e-9), noise)
