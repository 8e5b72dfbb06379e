"""The greatest load within the lead, as a distribution.

A worker that is started now serves one lead later, and one that is given up now is missed until then. So what a role
must carry is the greatest load between now and then, and that is what is forecast, in busy workers.

Four voices say it. Each names a point, and has the distribution of its own past errors around it, the recent ones
first:

- *newest*: the load of now;
- *level*: a slow mean, whatever the load is now;
- *alike*: the level, after loads that stood as this one does;
- *season*: what a forecaster says, where there is one.

Their quantiles are mixed by how well each did (pinball loss). Before there are errors, pretended ones stand in,
which are forgotten as real ones are.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from dopd.autoscaler.tuning import Tuning
from dopd_forecasting import Trust

Floats = npt.NDArray[np.float64]

_PRIOR = np.array([NormalDist().inv_cdf((i + 0.5) / 20) for i in range(20)])
_OF_TWO_SIDES = 0.8
"""The greatest of a walk's values exceeds its last one: in the mean by that many of its deviations."""
LEAST_MISS_OF_LOSS = 0.005
"""A rarer quantile can not be told from the errors of a few hours: voices are compared at this one."""
SMALL_LOAD = 1e-6
_ROUNDING_SECONDS = 1e-6


@dataclass(frozen=True)
class _Said:
    at_seconds: float
    by: dict[str, float]
    level: float


@dataclass
class _Record:
    """Pinball loss of a voice, and over how many leads."""

    loss: float = 0.0
    leads: float = 0.0


class PeakForecast:
    """Of one role.

    Args:
        tuning: constants.
        lead_seconds: until a decision takes effect.
    """

    def __init__(self, tuning: Tuning, lead_seconds: float, forecaster: object = None) -> None:
        self._tuning, self._lead_seconds = tuning, lead_seconds
        self.lead_seconds = lead_seconds
        self.expected: float | None = None
        self._times: list[float] = []
        self._loads: list[float] = []
        self._levels: list[float] = []
        self._seasons: list[float] = []  # what the forecaster said at each sample, NaN where it said nothing
        self._peaks: list[float] = []  # the greatest load within the lead after each sample, as far as that is over
        self._said: deque[_Said] = deque()
        self._records: dict[str, _Record] = {}
        self._since_seconds = 0.0

    def observe(self, at_seconds: float, load: float, season: float | None = None) -> None:
        """Take in a sample; one that follows the last too closely is left out.

        Args:
            at_seconds: on a clock that does not jump.
            load: in busy workers.
            season: what a forecaster says the greatest load within the lead will be; None without one.
        """
        tuning = self._tuning
        if self._times and at_seconds - self._times[-1] < tuning.spacing_seconds - 1:
            return
        if not self._times:
            self._since_seconds = at_seconds
        share = 1 - exp(-tuning.spacing_seconds / tuning.level_seconds)
        level = load if not self._levels else self._levels[-1] + share * (load - self._levels[-1])
        self._times.append(at_seconds)
        self._loads.append(load)
        self._levels.append(level)
        self._seasons.append(float("nan") if season is None else season)
        self._end_leads()
        self._forget(at_seconds - 3 * tuning.memory_seconds)

    def learn(self, end_seconds: list[float], seconds: list[float], loads: list[float]) -> None:
        if self._times:
            return
        for end, width, load in zip(end_seconds, seconds, loads, strict=True):
            if end > end_seconds[-1] - 3 * self._tuning.memory_seconds:
                at = end - width
                while at < end - 1:
                    at += self._tuning.spacing_seconds
                    self.observe(min(at, end), load)

    def trust(self, now_seconds: float) -> Trust | None:
        return None

    def quantile(self, miss: float) -> float:
        """What the greatest load within the lead exceeds with chance `miss`, in busy workers.

        Raises:
            IndexError: nothing was observed.
        """
        says = self._voices(miss)
        self._learn(max(miss, LEAST_MISS_OF_LOSS))
        self._said.append(_Said(self._times[-1], says, max(self._levels[-1], SMALL_LOAD)))
        losses = self._mean_losses(says)
        best = min(losses.values())
        scale = max(best, self._tuning.least_loss)
        weights = {name: exp(-self._tuning.sharpness * (loss - best) / scale) for name, loss in losses.items()}
        return float(sum(weights[name] * says[name] for name in says) / sum(weights.values()))

    def _mean_losses(self, names: Iterable[str]) -> dict[str, float]:
        """Of each voice, for a lead, as a share of the level; a new one is taken to be as good as the others."""
        records = {name: self._records.get(name, _Record()) for name in names}
        leads = sum(record.leads for record in records.values())
        usual = sum(record.loss for record in records.values()) / leads if leads else 0.0
        prior = self._tuning.prior_leads
        return {name: (record.loss + prior * usual) / (record.leads + prior) for name, record in records.items()}

    def _voices(self, miss: float) -> dict[str, float]:
        tuning, lead = self._tuning, self._lead_seconds
        times, loads = np.array(self._times), np.array(self._loads)
        levels = np.maximum(np.array(self._levels), SMALL_LOAD)
        now, newest, level = times[-1], loads[-1], levels[-1]
        past, peaks = slice(len(self._peaks)), np.array(self._peaks)
        # Leads that overlap tell the same: together they count as one.
        weights = np.exp(-(now - times[past]) / tuning.memory_seconds) * tuning.spacing_seconds / lead
        deviation = tuning.prior_deviation * sqrt(max(1.0, lead / tuning.prior_lead_seconds))
        pretended = np.maximum(0.0, deviation * (_OF_TWO_SIDES + _PRIOR))
        aged = exp(-(now - self._since_seconds) / tuning.memory_seconds)  # they were before all others
        prior = np.full(len(pretended), aged * tuning.prior_leads / len(pretended))

        def upper(errors: Floats, of_errors: Floats, first: Floats, of_first: Floats) -> float:
            return _quantile(np.append(errors, first), np.append(of_errors, of_first), 1 - miss)

        here = newest / level
        over = peaks / levels[past]
        rises = (peaks - loads[past]) / np.maximum(levels[past], loads[past])
        alike = weights * self._likeness(loads[past] / levels[past], here)
        from_here = np.maximum(1.0, here) * (1 + pretended)
        says = {
            "newest": newest + max(0.0, upper(rises, weights, pretended, prior)) * max(level, newest),
            "level": max(newest, level * upper(over, weights, from_here, prior)),
            "alike": max(newest, level * upper(over, alike, here * (1 + pretended), prior / 2)),
        }
        season = self._seasons[-1]
        if not np.isnan(season):
            told = np.array(self._seasons)[past]
            known = ~np.isnan(told)
            errors = (peaks[known] - told[known]) / levels[past][known]
            says["season"] = max(newest, season + level * upper(errors, weights[known], pretended, prior))
        return says

    def _likeness(self, positions: Floats, here: float) -> Floats:
        if len(positions) <= 8:
            return np.ones(len(positions))
        ranked = np.sort(positions)
        ranks = np.searchsorted(ranked, positions) / len(positions)
        rank = np.searchsorted(ranked, here) / len(positions)
        return np.asarray(np.exp(-0.5 * ((ranks - rank) / self._tuning.likeness) ** 2))

    def _learn(self, miss: float) -> None:
        """Compare what was said one lead ago with what came."""
        lead, share = self._lead_seconds, self._tuning.spacing_seconds / self._lead_seconds
        fade = exp(-self._tuning.spacing_seconds / self._tuning.belief_seconds)
        while self._said and self._said[0].at_seconds + lead <= self._times[-1] + _ROUNDING_SECONDS:
            said = self._said.popleft()
            peak = self._peaks[bisect_left(self._times, said.at_seconds)]
            for name, value in said.by.items():
                error = (peak - value) / said.level
                pinball = (1 - miss) * error if error > 0 else -miss * error
                record = self._records.setdefault(name, _Record())
                record.loss = record.loss * fade + pinball * share
                record.leads = record.leads * fade + share

    def _end_leads(self) -> None:
        """Note the peaks of the leads that are over with the newest sample."""
        while self._times[len(self._peaks)] + self._lead_seconds <= self._times[-1] + _ROUNDING_SECONDS:
            first = len(self._peaks) + 1
            end = bisect_right(self._times, self._times[first - 1] + self._lead_seconds)
            self._peaks.append(max(self._loads[first:end], default=self._loads[first - 1]))

    def _forget(self, before_seconds: float) -> None:
        old = 0
        while self._times[old] < before_seconds:
            old += 1
        if old:
            for kept in (self._times, self._loads, self._levels, self._seasons, self._peaks):
                del kept[:old]


def _quantile(values: Floats, weights: Floats, share: float) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][min(len(values) - 1, int(np.searchsorted(reached, share)))])
