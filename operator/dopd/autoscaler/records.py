"""Who is believed: what each voice would have lost at each origin of the past, and its share of the say now."""

from collections.abc import Sequence
from math import ceil

import numpy as np
import numpy.typing as npt

from dopd.autoscaler.origins import DAY_ORIGINS, ORIGIN_SECONDS, Origins
from dopd.autoscaler.quantiles import middle
from dopd.autoscaler.tuning import Tuning
from dopd.autoscaler.voices import SMALL_LOAD, Near, ceiling, prior_deviation, say_season

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

NEAR = ("newest", "level", "alike")
JUDGED_MISSES = np.array([0.4, 0.1, 0.02])
"""Chances at which voices are compared: of the range that the knob moves in. Rarer ones can not be told from the errors
of some days."""
_NEAR_MEMORIES = 2.0
"""Older errors of the near past have a seventh of the weight and less, and are left out."""
_PHASE_STEP = 2
_DAYS = 14
_CHUNK = 1024


class Records:
    """Losses of every voice at every origin whose lead is over.

    Args:
        tuning: constants.
        lead_seconds: until a decision takes effect.
        names: of the voices that know the time, in any order.
    """

    def __init__(self, tuning: Tuning, lead_seconds: float, names: Sequence[str]) -> None:
        self._tuning, self._lead_seconds = tuning, lead_seconds
        self.names = (*NEAR, *names)
        self._first = 0
        self._losses: Floats = np.empty((0, len(self.names), len(JUDGED_MISSES)))
        self._loads: Floats = np.empty(0)
        self._of_spoken: dict[tuple[str, ...], tuple[Floats, Bools]] = {}

    def forget(self) -> None:
        """The past has changed: judge all of it again at the next look."""
        self._losses, self._loads = self._losses[:0], self._loads[:0]
        self._of_spoken.clear()

    def extend(self, origins: Origins) -> None:
        """Judge the voices at the origins that are over and not judged yet; those not among `origins` are forgotten."""
        gone = origins.first - self._first
        if gone or origins.ended > len(self._losses):
            self._of_spoken.clear()
        if len(self._losses) and gone > 0:
            self._losses, self._loads = self._losses[gone:], self._loads[gone:]
        elif gone:
            self._losses, self._loads = self._losses[:0], self._loads[:0]
        self._first = origins.first
        # After a silence a share of a load is a share of next to nothing, and no voice can lose more than there was.
        most = max(SMALL_LOAD, float(np.nanmax(np.fmax(origins.load, origins.peak), initial=0.0)))
        for start in range(len(self._losses), origins.ended, _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, origins.ended))
            said = say(origins, rows, JUDGED_MISSES, self._tuning, self._lead_seconds)
            peaks = origins.peak[rows][:, None]
            losses = np.stack(
                [
                    np.where(
                        peaks > said[n], (1 - JUDGED_MISSES) * (peaks - said[n]), JUDGED_MISSES * (said[n] - peaks)
                    )
                    for n in self.names
                ],
                axis=1,
            )
            self._losses = np.concatenate([self._losses, np.minimum(losses, most)])
            self._loads = np.concatenate([self._loads, origins.load[rows]])

    def shares(self, at_seconds: float, spoken: Sequence[str]) -> dict[str, float]:
        """Say at a time of each voice that speaks then; they add up to one."""
        tuning = self._tuning
        losses, judged = self._losses_of(tuple(spoken))
        seconds = np.arange(self._first, self._first + len(self._losses), dtype=float) * ORIGIN_SECONDS
        weights = weights_of_time(at_seconds, seconds, tuning) * min(1.0, ORIGIN_SECONDS / self._lead_seconds)
        over = seconds + self._lead_seconds <= at_seconds + 1
        weights = np.where(over & judged, weights, 0.0)
        if not weights.sum() > 0:
            return {name: 1 / len(spoken) for name in spoken}
        total = weights.sum()
        sums = np.einsum("i,ijk->jk", weights, losses)
        prior = tuning.prior_leads
        means = (sums + prior * sums.mean(axis=0) / total) / (total + prior)
        best = means.min(axis=0)
        worse = ((means - best) / np.maximum(best, SMALL_LOAD**2)).mean(axis=1)
        say = np.exp(-tuning.sharpness * (worse - worse.min()))
        return dict(zip(spoken, (say / say.sum()).tolist(), strict=True))

    def _losses_of(self, spoken: tuple[str, ...]) -> tuple[Floats, Bools]:
        """Losses of some voices at every origin, and where any of them can be judged; the same until the next origin.

        A voice that said nothing is taken to be as good as the others were.
        """
        if spoken not in self._of_spoken:
            losses = self._losses[:, [self.names.index(name) for name in spoken]]
            known = np.isfinite(losses)
            some = np.flatnonzero(~known.all(axis=(1, 2)))
            usual = middle(np.where(known[some].any(axis=1, keepdims=True), losses[some], 0.0))
            losses[some] = np.where(known[some], losses[some], usual[:, None])
            self._of_spoken[spoken] = losses, known.any(axis=(1, 2)) & np.isfinite(self._loads)
        return self._of_spoken[spoken]


def weights_of_time(at_seconds: float, seconds: Floats, tuning: Tuning) -> Floats:
    """How much what happened at `seconds` tells for now: of late, at this time of the day, and of the week.

    A morning is rare: in the mean over all hours the quiet ones would settle who is believed. So the same time of the
    day before counts as much as the last hours do; and the same time a week before as much as that of the seven days
    together, since Mondays are unlike Sundays.
    """
    age = at_seconds - seconds
    late = np.exp(-age / tuning.memory_seconds)
    width, day = tuning.phase_seconds, 86_400.0
    of_day = np.exp(-0.5 * ((np.remainder(age + day / 2, day) - day / 2) / width) ** 2)
    of_week = np.exp(-0.5 * ((np.remainder(age + 3.5 * day, 7 * day) - 3.5 * day) / width) ** 2)
    faded = np.exp(-age / tuning.belief_seconds)
    before = age > day / 2
    told: Floats = late + np.where(before, of_day * faded + 7 * of_week * faded, 0.0)
    return told


def say(
    origins: Origins, rows: npt.NDArray[np.int64], misses: Floats, tuning: Tuning, lead_seconds: float
) -> dict[str, Floats]:
    """What every voice would have said at some origins, shape (rows, chances) each, from what was known then."""
    lead = origins_in(lead_seconds)
    spacing = min(1.0, ORIGIN_SECONDS / lead_seconds)
    deviation = prior_deviation(tuning, lead_seconds)
    memory = tuning.memory_seconds / ORIGIN_SECONDS
    near = rows[:, None] - lead - np.arange(int(_NEAR_MEMORIES * memory))
    load, level = origins.load[rows], origins.level[rows]
    position = origins.load / np.maximum(origins.level, SMALL_LOAD)
    ranked = np.sort(position[np.isfinite(position)])
    rank = np.searchsorted(ranked, position) / max(1, len(ranked))
    weights = np.exp(-(rows[:, None] - near) / memory) * spacing
    weights = np.where((near >= 0) & _known(origins.peak, near) & _known(origins.load, near), weights, 0.0)
    aged = tuning.prior_leads * np.exp(-rows / memory)

    def past(values: Floats) -> Floats:
        return np.asarray(np.nan_to_num(values[np.maximum(near, 0)]), dtype=float)

    said = Near(
        load,
        level,
        rank[rows],
        past(origins.load),
        past(origins.level),
        past(rank),
        past(origins.peak),
        weights,
        aged,
        deviation,
    ).say(misses, tuning.likeness)
    for name, told in origins.seasons.items():
        of_season, weights, prior = season_errors(origins, name, rows, tuning, lead_seconds)
        said[name] = say_season(told[rows], load, of_season, weights, prior, deviation, misses)
    half = origins.greatest[rows // 2]
    leads = rows.astype(float) * (ORIGIN_SECONDS / lead_seconds)
    most = ceiling(origins.greatest[rows], half, leads, tuning, lead_seconds, misses)
    return {name: np.asarray(np.maximum(load[:, None], np.minimum(one, most))) for name, one in said.items()}


def season_errors(
    origins: Origins, name: str, rows: npt.NDArray[np.int64], tuning: Tuning, lead_seconds: float
) -> tuple[Floats, Floats, Floats]:
    """Errors of a voice that knows the time, as they stand for the next one at some origins.

    Returns:
        Errors as shares of what it named, shape (rows, n); their weights; the weight of all pretended ones, (rows,).
    """
    lead = origins_in(lead_seconds)
    offsets, of_offsets = season_offsets(lead, tuning)
    season = rows[:, None] - offsets
    told = origins.seasons[name]
    errors = (origins.peak - told) / np.maximum(np.maximum(told, origins.load), SMALL_LOAD)
    weights = of_offsets * min(1.0, ORIGIN_SECONDS / lead_seconds)
    weights = np.where((season >= 0) & _known(errors, season), weights, 0.0)
    first = np.flatnonzero(np.isfinite(told))
    since = np.maximum(rows - first[0], 0) if len(first) else np.zeros(len(rows))
    prior = tuning.prior_leads * np.exp(-since * ORIGIN_SECONDS / tuning.memory_seconds)
    return np.nan_to_num(errors[np.maximum(season, 0)]), weights, prior


def origins_in(lead_seconds: float) -> int:
    """How many origins ago the lead began that is over now."""
    return max(1, ceil((lead_seconds - 1) / ORIGIN_SECONDS))


def season_offsets(lead: int, tuning: Tuning) -> tuple[npt.NDArray[np.int64], Floats]:
    """How many origins ago the errors are that stand for the next one, and their weights: as `weights_of_time`."""
    memory = tuning.memory_seconds / ORIGIN_SECONDS
    recent = lead + np.arange(int(memory))
    around = int(2 * tuning.phase_seconds / ORIGIN_SECONDS)
    phases = np.arange(-around, around + 1, _PHASE_STEP)
    days = np.arange(1, _DAYS + 1)
    same = (days[:, None] * DAY_ORIGINS + phases).ravel()
    offsets = np.concatenate([recent, same])
    factor = np.concatenate([np.ones(len(recent)), np.full(len(same), float(_PHASE_STEP))])
    at = float(offsets.max()) * ORIGIN_SECONDS
    return offsets, factor * weights_of_time(at, at - offsets * ORIGIN_SECONDS, tuning)


def _known(values: Floats, at: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    return np.isfinite(values[np.maximum(at, 0)])
