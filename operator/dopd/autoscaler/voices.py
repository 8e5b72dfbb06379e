"""What each voice says, in many situations at once: now, or at many times of the past.

A voice names a point and has the errors that it made. Arrays have a row for each situation and a column for each error.
"""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from dopd.autoscaler.quantiles import upper
from dopd.autoscaler.tuning import Tuning

Floats = npt.NDArray[np.float64]

SMALL_LOAD = 1e-6
MOST_GROWTH = 2.0
"""One more lead is expected to raise the greatest load by no greater factor, whatever came before: where it began from
next to nothing, the factor by which it grew tells nothing of now."""
PRIOR = np.array([NormalDist().inv_cdf((i + 0.5) / 20) for i in range(20)])
_OF_TWO_SIDES = 0.8
"""The greatest of a walk's values exceeds its last one: in the mean by that many of its deviations."""


def prior_deviation(tuning: Tuning, lead_seconds: float) -> float:
    """Standard deviation of the pretended errors for a lead, as a share of the load."""
    return tuning.prior_deviation * sqrt(lead_seconds / 3600)


@dataclass(frozen=True)
class Near:
    """Situations as the near past tells of them.

    Attributes:
        load: shape (rows,), positive or zero.
        level: slow mean, shape (rows,).
        rank: of load / level among those of the past, from 0 to 1, shape (rows,).
        loads: of the past, shape (rows, n); so the next three.
        levels: slow means.
        ranks: as `rank`.
        peaks: what came within the lead.
        weights: of each, zero where it is not known.
        prior: weight of all pretended errors together, shape (rows,).
        deviation: of those.
    """

    load: Floats
    level: Floats
    rank: Floats
    loads: Floats
    levels: Floats
    ranks: Floats
    peaks: Floats
    weights: Floats
    prior: Floats
    deviation: float

    def say(self, misses: Floats, likeness: float) -> dict[str, Floats]:
        """What each voice says is exceeded with chances `misses`, shape (rows, chances) each."""
        load, level = self.load[:, None], np.maximum(self.level, SMALL_LOAD)[:, None]
        loads, levels, peaks = self.loads, np.maximum(self.levels, SMALL_LOAD), self.peaks
        pretended = np.maximum(0.0, self.deviation * (_OF_TWO_SIDES + PRIOR))[None, :]
        here = load / level
        rises = (peaks - loads) / np.maximum(levels, loads)
        over = peaks / levels
        alike = self.weights * np.exp(-0.5 * ((self.ranks - self.rank[:, None]) / likeness) ** 2)
        grown = 1 + pretended

        def error(errors: Floats, weights: Floats, first: Floats, of_first: Floats) -> Floats:
            return _with_prior(errors, weights, first, of_first, misses)

        newest = load + np.maximum(0.0, error(rises, self.weights, pretended, self.prior)) * np.maximum(level, load)
        return {
            "newest": newest,
            "level": np.maximum(load, level * error(over, self.weights, np.maximum(1.0, here) * grown, self.prior)),
            "alike": np.maximum(load, level * error(over, alike, here * grown, self.prior / 2)),
        }


def say_season(
    told: Floats, load: Floats, errors: Floats, weights: Floats, prior: Floats, deviation: float, misses: Floats
) -> Floats:
    """What a voice that knows the time says.

    Args:
        told: the point that it names, shape (rows,).
        load: of now; it says no less, shape (rows,).
        errors: of the past, as shares of what it named then, shape (rows, n).
        weights: of those, same shape.
        prior: weight of all pretended errors together, shape (rows,).
        deviation: of those.
        misses: chances.

    Returns:
        Shape (rows, chances); NaN where it names no point.
    """
    pretended = deviation * PRIOR[None, :]
    of_errors = _with_prior(errors, weights, pretended, prior, misses)
    return np.where(
        np.isfinite(told)[:, None],
        np.maximum(load[:, None], np.maximum(told, SMALL_LOAD)[:, None] * (1 + of_errors)),
        np.nan,
    )


def ceiling(
    greatest: Floats, of_older_half: Floats, leads: Floats, tuning: Tuning, lead_seconds: float, misses: Floats
) -> Floats:
    """The most that the past supports, shape (rows, chances).

    A multiple that is added to a load at its peak asks for what never came. Twice as long a look raised the greatest
    load by some factor; one more lead, which is far less, is not expected to raise it by more, nor by more than
    `MOST_GROWTH`. While few leads were seen, a walk from the greatest is allowed for as well.

    Args:
        greatest: load of all that was seen, shape (rows,).
        of_older_half: the same of the older half.
        leads: how many were seen, shape (rows,).
        tuning: constants.
        lead_seconds: until a decision takes effect.
        misses: chances, shape (chances,).
    """
    growth = np.clip(greatest / np.maximum(np.nan_to_num(of_older_half), SMALL_LOAD), 1.0, MOST_GROWTH)
    above = np.array([NormalDist().inv_cdf(1 - miss) for miss in misses])
    walk = np.maximum(0.0, prior_deviation(tuning, lead_seconds) * (_OF_TWO_SIDES + above))
    new = tuning.prior_leads / (tuning.prior_leads + leads)
    return np.asarray(greatest[:, None] * (growth[:, None] + new[:, None] * walk))


def _with_prior(errors: Floats, weights: Floats, first: Floats, of_first: Floats, misses: Floats) -> Floats:
    rows = len(weights)
    unknown = ~np.isfinite(errors)
    columns = first.shape[1]
    return upper(
        np.hstack([np.where(unknown, 0.0, errors), np.broadcast_to(first, (rows, columns))]),
        np.hstack([np.where(unknown, 0.0, weights), np.repeat(of_first[:, None] / columns, columns, axis=1)]),
        misses,
    )
