"""What the load of one role is now, where measuring it is noisier than it is itself.

The load of now is measured over a window short enough to follow a ramp, so it is a sample: the work of the requests of
that window. On a load that stands still the sample wavers all the same, and a plan that followed it would start a
worker for a wave and give it up after it, again and again. There the mean of the last minutes is the better answer.

Whether a load stands still is asked of what was measured: over the last quarter of an hour its variance has to be what
the noise of its samples explains, and the newest sample has to agree with the mean. A ramp breaks the first, a step the
second, and then the newest sample alone counts. A mean over as long a window as agrees with the newest sample, and a
filter (Kalman) whose gain follows how much the noise explains, were tried in its place: both see a ramp late after a
calm, as both follow noise a little and ramps a little late (docs/replay.md, "Noise").
"""

from bisect import bisect_right
from dataclasses import dataclass
from math import sqrt
from statistics import fmean

from dopd.api.names import Role
from dopd.planning.surprise import SMALL_LOAD, LoadSample

FLAT_SECONDS, LEVEL_SECONDS = 900.0, 600.0
"""A load stands still or moves by what it did over the first; where it stands still it is its mean over the second."""
FLAT_VARIANCE = 1.5
"""Variance of a load that stands still, in that of its noise: one of 20 windows that do not overlap is more than this
in one case of twenty."""
FLAT_NOISE = 3.5
"""The newest sample agrees with the mean up to so many standard deviations of its noise: on a flat load it does not
about once a day."""
FEWEST_SAMPLES = 12
"""Fewer say nothing of a variance: looks that are far apart, or an outage of telemetry."""


@dataclass(frozen=True)
class Level:
    """The load of one role, compared with that of the newest window.

    Attributes:
        share: the load over the measured one; 1 where it moves.
        work_share: the work of one request over the measured one.
        noise: relative standard deviation of the level from the load.
        flat: whether the load stands still.
    """

    share: float
    work_share: float
    noise: float
    flat: bool


def as_measured(noise: float) -> Level:
    """The newest sample, noise and all."""
    return Level(1.0, 1.0, noise, flat=False)


def level(history: tuple[LoadSample, ...], now: LoadSample, role: Role, noise: float, window_seconds: float) -> Level:
    """The load without the noise of measuring it, where it has stood still; as measured where it moves.

    Args:
        history: samples of the last hour, ascending, up to the newest look or shortly before.
        now: the newest sample.
        role: whose load.
        noise: relative standard deviation of a sample from the load.
        window_seconds: over which a sample is measured.
    """
    measured = now.of(role)
    times = [sample.at_seconds for sample in history]
    recent = history[bisect_right(times, now.at_seconds - FLAT_SECONDS) :]
    minutes = history[bisect_right(times, now.at_seconds - LEVEL_SECONDS) :]
    known_for = now.at_seconds - times[0]
    if measured < SMALL_LOAD or known_for < FLAT_SECONDS or len(recent) < FEWEST_SAMPLES:
        return as_measured(noise)
    mean = fmean(sample.of(role) for sample in minutes)
    spread = noise * mean
    moves = _variance([sample.of(role) for sample in recent]) > FLAT_VARIANCE * spread**2
    if moves or abs(measured - mean) > FLAT_NOISE * spread:
        return as_measured(noise)
    share, rate = mean / measured, fmean(sample.requests_per_second for sample in minutes)
    return Level(share, share * now.requests_per_second / rate, noise * sqrt(window_seconds / LEVEL_SECONDS), flat=True)


def _variance(values: list[float]) -> float:
    """As `statistics.pvariance`, which counts in fractions: for both roles a third of what a plan takes."""
    mean = fmean(values)
    return fmean((value - mean) ** 2 for value in values)
