"""The greatest load within the lead, as a distribution.

A worker that is started now serves one lead later, and one that is given up now is missed until then. So what a role
must carry is the greatest load between now and then, and that is what is forecast, in busy workers.

Six voices say it. Each names a point, and has the distribution of its own past errors around it:

- *newest*: the load of now;
- *level*: a slow mean, whatever the load is now;
- *alike*: the level, after loads that stood as this one does;
- *day*, *week*: what came within the same lead a day and a week ago;
- *forecast*: the busiest minute that a forecaster expects, where it is trusted.

Their quantiles are mixed by how well each did (pinball loss), of late and at this time of earlier days. Before there
are errors, pretended ones stand in, which are forgotten as real ones are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dopd.autoscaler.foreseen import Forecasts, Foreseen
from dopd.autoscaler.minutes import MINUTE_SECONDS, Minutes
from dopd.autoscaler.noise import SHORTEST_SECONDS, SteadySamples, steady_bins
from dopd.autoscaler.origins import (
    ORIGIN_MINUTES,
    ORIGIN_SECONDS,
    PERIODS,
    WIDER_MINUTES,
    Origins,
    judged_lead,
    origins_of,
)
from dopd.autoscaler.records import NEAR, Records, season_errors
from dopd.autoscaler.samples import Samples
from dopd.autoscaler.tuning import Tuning
from dopd.autoscaler.voices import SMALL_LOAD, Near, ceiling, prior_deviation, say_season
from dopd_forecasting import Trust

Floats = npt.NDArray[np.float64]

FORECAST = "forecast"
NEWS_MINUTES = 30
"""So much that was not known makes the past be judged again; less is a gap that was closed."""


@dataclass(frozen=True)
class Voice:
    """What one voice contributes.

    Attributes:
        name: of the voice.
        point: that it names, in busy workers, before its errors are added.
        share: of the say, from 0 to 1.
    """

    name: str
    point: float
    share: float


class PeakForecast:
    """Of one role.

    Args:
        tuning: constants.
        lead_seconds: until a decision takes effect.
        forecaster: of the busy workers of this role in minutes, not fitted yet; None for none.
    """

    def __init__(self, tuning: Tuning, lead_seconds: float, forecaster: Forecasts | None = None) -> None:
        self._tuning, self._lead_seconds = tuning, lead_seconds
        self._minutes = Minutes()
        self._foreseen = Foreseen(forecaster, lead_seconds) if forecaster else None
        self._records = Records(tuning, judged_lead(lead_seconds), (*PERIODS, *([FORECAST] if forecaster else [])))
        self._origins: Origins | None = None
        self._learnt_seconds = float("-inf")
        self._samples = Samples(tuning, lead_seconds)
        self._steady = SteadySamples(tuning.spacing_seconds / tuning.level_seconds)
        # Of this sample, once it was asked for:
        self._near: Near | None = None
        self._errors: dict[str, tuple[Floats, Floats, Floats]] = {}
        self._shares: dict[str, float] | None = None
        self._said: tuple[float, dict[str, float]] | None = None

    def learn(
        self,
        end_seconds: Sequence[float],
        seconds: Sequence[float],
        loads: Sequence[float],
        noise_shares: Sequence[float] | None = None,
    ) -> None:
        """Take in a history; what ends no later than an earlier one is known already.

        Args:
            end_seconds: end of each bin, on the clock of `observe`.
            seconds: width of each.
            loads: mean of each, in busy workers.
            noise_shares: as for `observe`, of each; None for loads without noise.
        """
        ends = np.asarray(end_seconds, dtype=float)
        if not len(ends) or ends.max() <= self._learnt_seconds:
            return
        widths, means = np.asarray(seconds, dtype=float), np.asarray(loads, dtype=float)
        known = np.flatnonzero((ends > self._learnt_seconds) & np.isfinite(means))
        known = known[np.argsort(ends[known], kind="stable")]
        self._learnt_seconds = float(ends.max())
        ends, widths, means = ends[known], widths[known], means[known]
        if noise_shares is not None:
            with np.errstate(over="ignore", invalid="ignore"):  # what is no number is left out below
                of_bins = np.asarray(noise_shares, dtype=float)[known] ** 2 * means * widths
            of_bins = of_bins[np.isfinite(of_bins) & (means > 0)]
            means = steady_bins(ends, widths, means, float(of_bins.mean()) if len(of_bins) else 0.0)
        news = self._minutes.learn(ends, widths, means)
        if news >= NEWS_MINUTES or not self._samples.times:
            self._samples.begin_with(self._minutes)
            self._records.forget()
            if self._foreseen:
                self._foreseen.learn(self._minutes)
        if news:
            self._origins = None
            self._refresh()

    def observe(
        self, at_seconds: float, load: float, noise_share: float = 0.0, measured_seconds: float = SHORTEST_SECONDS
    ) -> None:
        """Take in a sample; one that follows the last too closely is left out.

        Args:
            at_seconds: on a clock that does not jump.
            load: in busy workers.
            noise_share: standard deviation of the measured load as a share of the true one: the root of
                (1 + c^2) / n, for n requests whose work has coefficient of variation c; 0 for a load without noise.
            measured_seconds: over which the load was measured.
        """
        times = self._samples.times
        if times and at_seconds - times[-1] < self._tuning.spacing_seconds - 1:
            return
        told = self._steady.add(float(at_seconds), float(load), noise_share, measured_seconds)
        self._minutes.add(at_seconds, told)
        self._samples.add(float(at_seconds), told)
        self._refresh()

    def set_lead(self, lead_seconds: float) -> None:
        """Another lead from now on. Cheap below a tenth; beyond, the past is judged again.

        Args:
            lead_seconds: until a decision takes effect.
        """
        if abs(lead_seconds - self._lead_seconds) < 0.1 * self._lead_seconds:
            return
        self._lead_seconds = lead_seconds
        if self._foreseen:
            self._foreseen.lead_seconds = lead_seconds
        self._records = Records(self._tuning, judged_lead(lead_seconds), self._records.names[3:])
        self._samples.set_lead(lead_seconds)
        self._origins = None
        self._refresh()

    def quantile(self, miss: float) -> float:
        """What the greatest load within the lead exceeds with chance `miss`, in busy workers.

        Raises:
            IndexError: nothing was observed.
        """
        said = self._say(miss)
        self._said = miss, said
        shares = self._shares_of(tuple(said))
        mixed = sum(shares[name] * value for name, value in said.items())
        return max(self._samples.loads[-1], min(mixed, self._ceiling(miss)))

    def foreseen(self, miss: float) -> float:
        """The part of that quantile that the voices say who know the time: a day, a week, a forecaster.

        What is near tells of a load that goes on, and nothing of one that has ended and comes back.

        Raises:
            IndexError: nothing was observed.
        """
        known = self._said
        said = known[1] if known and known[0] == miss else self._say(miss)
        shares = self._shares_of(tuple(said))
        return min(sum(shares[name] * value for name, value in said.items() if name not in NEAR), self._ceiling(miss))

    def leader(self, miss: float) -> str:
        """The voice that raises that quantile most above the load of now.

        Raises:
            IndexError: nothing was observed.
        """
        known, now = self._said, self._samples.loads[-1]
        said = known[1] if known and known[0] == miss else self._say(miss)
        shares = self._shares_of(tuple(said))
        return max(said, key=lambda name: shares[name] * (said[name] - now))

    @property
    def now(self) -> float:
        """The load of now, without the noise of few requests.

        Raises:
            IndexError: nothing was observed.
        """
        return self._samples.loads[-1]

    @property
    def deviation(self) -> float:
        """Standard deviation of `now` from the load of now, as few requests tell it, in busy workers."""
        return self._steady.deviation

    @property
    def lead_seconds(self) -> float:
        """Until a decision takes effect."""
        return self._lead_seconds

    def trust(self, now_seconds: float) -> Trust | None:
        """Verdict on the forecaster; None where there is none, or no minute of the past."""
        return self._foreseen.trust(now_seconds) if self._foreseen else None

    @property
    def voices(self) -> tuple[Voice, ...]:
        """Who says what now, and how much it counts.

        Raises:
            IndexError: nothing was observed.
        """
        points = {
            "newest": self._samples.loads[-1],
            "level": self._samples.levels[-1],
            "alike": self._samples.levels[-1],
            **self._told(),
        }
        shares = self._shares_of(tuple(points))
        return tuple(Voice(name, point, shares[name]) for name, point in points.items())

    @property
    def expected(self) -> float | None:
        """The busiest minute within the lead that the forecaster expects; None where it is not trusted."""
        told = self._foreseen.now if self._foreseen else float("nan")
        return None if np.isnan(told) else told

    def _say(self, miss: float) -> dict[str, float]:
        tuning, misses = self._tuning, np.array([miss])
        if self._near is None:
            self._near = self._samples.near()
        said = {name: float(value[0, 0]) for name, value in self._near.say(misses, tuning.likeness).items()}
        deviation = prior_deviation(tuning, self._lead_seconds)
        load = np.array([self._samples.loads[-1]])
        for name, told in self._told().items():
            assert self._origins is not None
            row = np.array([len(self._origins) - 1])
            if name not in self._errors:
                self._errors[name] = season_errors(self._origins, name, row, tuning, judged_lead(self._lead_seconds))
            errors, weights, prior = self._errors[name]
            said[name] = float(say_season(np.array([told]), load, errors, weights, prior, deviation, misses)[0, 0])
        return said

    def _told(self) -> dict[str, float]:
        """The points of the voices that know the time, of those that have one."""
        now, wide = self._samples.times[-1], WIDER_MINUTES * MINUTE_SECONDS
        told = {}
        for name, period in PERIODS.items():
            then = now - period * ORIGIN_SECONDS
            told[name] = self._minutes.greatest(then - wide, then + self._lead_seconds + wide)
        if self._foreseen:
            told[FORECAST] = self._foreseen.now
        return {name: point for name, point in told.items() if not np.isnan(point) and self._origins}

    def _ceiling(self, miss: float) -> float:
        if self._origins and len(self._origins):
            greatest, seen_seconds = self._origins.greatest, len(self._origins) * ORIGIN_SECONDS
        else:  # the first minutes
            greatest = np.maximum.accumulate(self._samples.loads)
            seen_seconds = self._samples.times[-1] - self._samples.times[0]
        half, leads = len(greatest) // 2, np.array([seen_seconds / self._lead_seconds])
        of_half = greatest[half : half + 1]
        most = ceiling(greatest[-1:], of_half, leads, self._tuning, self._lead_seconds, np.array([miss]))
        above = self._samples.loads[-1] / max(float(greatest[-1]), SMALL_LOAD)  # a sample is shorter than a minute
        return float(most[0, 0]) * max(1.0, above)

    def _shares_of(self, names: tuple[str, ...]) -> dict[str, float]:
        if self._shares is None:
            self._shares = self._records.shares(self._samples.times[-1], names)
        return self._shares

    def _refresh(self) -> None:
        """Take in the minutes and origins that are over since the last sample."""
        self._near, self._shares, self._said = None, None, None
        self._errors.clear()
        minutes = self._minutes
        began = bool(self._foreseen and len(minutes.values) and self._foreseen.follow(minutes))
        if began:
            self._records.forget()
        newest = minutes.next // ORIGIN_MINUTES
        known = self._origins and self._origins.first + len(self._origins) - 1 == newest
        if not len(minutes.values) or (known and not began):
            return
        self._origins = origins_of(minutes, judged_lead(self._lead_seconds), self._tuning)
        if self._foreseen:
            self._origins.seasons[FORECAST] = self._foreseen.at(self._origins.first, len(self._origins))
        self._records.extend(self._origins)
