"""The forecaster of one series: fit from history, update by newer bins, predict at leads, say whether to trust it.

Prometheus is the memory. `fit` replays the newest part of a history as if it were arriving now, so that the
weights, bands and trust of a process that has just started are those of one that ran all along. Estimations fall
on bins whose number is a multiple of a constant, not on a time since the process began, for the same reason.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from dopd_forecasting.bands import LoadBands
from dopd_forecasting.combination import LONG_MEMORY, Skill, floored, weights
from dopd_forecasting.history import History
from dopd_forecasting.models.arima import Arima
from dopd_forecasting.models.base import Horizons, Model
from dopd_forecasting.models.events import Event, ScheduledEvents
from dopd_forecasting.models.naive import DAY_SECONDS, LastValue, MovingAverage, SeasonalNaive
from dopd_forecasting.models.seasonal import DayShape, FourierProfile
from dopd_forecasting.models.state_space import Components, DampedTrend, ExponentialLevel
from dopd_forecasting.screen import Screen, Screened
from dopd_forecasting.series import MAX_BINS, FloatArray, Series
from dopd_forecasting.trust import Trust, TrustPolicy

DEFAULT_MODELS: tuple[Callable[[], Model], ...] = (
    LastValue,
    MovingAverage,
    ExponentialLevel,
    DampedTrend,
    Components,
    Arima,
    SeasonalNaive,
    FourierProfile,
    DayShape,
)
SCORED_HORIZONS = (1, 2, 3, 5, 10, 15, 30, 60)  # bins; another lead takes the skill of the next longer of these
REPLAYED_BINS = 180  # that a fresh fit scores at the longest lead
YOUNG_BINS, YOUNG_REFIT_BINS = 240, 60  # a short history teaches so much with each bin that estimations age sooner
RETRY_BINS = 5  # a model that could not be estimated is tried again after so many bins
CAP = 1.5  # no model may forecast more than so many times the most of the last day
DOUBT_SHOWN_BINS = 60  # for so long a withheld bin is told of
PAUSE_LEVELS = 10  # measured loads before a zero that tell whether it is a pause
PAUSE_DIP = 0.25  # a load that never fell below this share of its median does not wander to zero by itself


@dataclass(frozen=True)
class Forecast:
    """Load at some leads.

    Attributes:
        horizons_seconds: leads, counted from the time that the forecast was asked for.
        quantile_levels: levels of the columns of `quantiles`.
        mean: expected load, shape (horizons,), in `unit`.
        quantiles: load at each lead and level, shape (horizons, levels), in `unit`.
        unit: unit of the series.
        made_at: end of the newest bin that the forecast rests on, in seconds.
        age_seconds: how long before `made_at` the newest measured bin ended.
        weights: share of each model in the mean, by name, shape (horizons,) each.
    """

    horizons_seconds: tuple[float, ...]
    quantile_levels: tuple[float, ...]
    mean: FloatArray
    quantiles: FloatArray
    unit: str
    made_at: float
    age_seconds: float
    weights: dict[str, FloatArray]

    def quantile(self, level: float) -> FloatArray:
        """The column of `quantiles` for one of the levels asked for, shape (horizons,)."""
        return self.quantiles[:, self.quantile_levels.index(level)]


@dataclass(frozen=True)
class Estimation:
    """The slow step for one model: its parameters from a history. It can run in any process."""

    index: int
    factory: Callable[[], Model]
    series: Series

    def run(self) -> Model:
        """Fit a new model."""
        model = self.factory()
        model.fit(self.series)
        return model


class Forecaster:
    """Mixes models of one series by measured skill. Deterministic; reads no clock; does no I/O.

    Args:
        models: what to mix; the first is the floor on which all else falls back.
        scored_horizons: leads, in bins, at which skill is measured.
        events: wall-clock events that the load is known to follow.
        history_days: how much history estimations may look at; 160 KB of memory for 14 days of minutes.
        defer_estimations: leave the slow steps to whoever calls `due_estimations` and `install` (see pool.py).
        trust: when the result may be acted upon.
        believe_all: withhold no bin, however far it is from all around it; for references to compare with.
    """

    def __init__(
        self,
        models: Sequence[Callable[[], Model]] = DEFAULT_MODELS,
        *,
        scored_horizons: Sequence[int] = SCORED_HORIZONS,
        events: Sequence[Event] = (),
        history_days: float = 14.0,
        defer_estimations: bool = False,
        trust: TrustPolicy | None = None,
        believe_all: bool = False,
    ) -> None:
        self._factories: tuple[Callable[[], Model], ...] = tuple(models)
        if events:
            self._factories += (partial(ScheduledEvents, tuple(events)),)
        self._names = tuple(factory().name for factory in self._factories)
        self._horizons: Horizons = tuple(sorted(set(scored_horizons)))
        if not self._factories or not self._horizons or self._horizons[0] < 1:
            raise ValueError("a forecaster needs at least one model and one scored horizon of one bin or more")
        self._history_days = history_days
        self._defer = defer_estimations
        self._policy = trust or TrustPolicy()
        self._believe_all = believe_all
        self._history: History | None = None

    @property
    def ready(self) -> bool:
        """Whether it has been fitted."""
        return self._history is not None

    def fit(self, series: Series) -> None:
        """Learn from a history, forgetting whatever was learnt before."""
        replayed = REPLAYED_BINS + self._horizons[-1]
        first = series.next_bin - replayed if len(series) > replayed + YOUNG_BINS else series.first_bin
        self._bin_seconds, self._unit = series.bin_seconds, series.unit
        day = max(1, round(DAY_SECONDS / series.bin_seconds))
        self._day_bins = day
        kept = min(max(2 * YOUNG_BINS, round(day * self._history_days)), MAX_BINS)
        self._loads: deque[float] = deque(maxlen=PAUSE_LEVELS)
        # Until the first load a series is paused too: what was said while nobody was there is no measure of the bands.
        self._last, self._paused = math.nan, True
        self._screen = Screen(day)
        self._doubted: deque[int] = deque(maxlen=DOUBT_SHOWN_BINS)
        before = self._as_seen(series.before(first))
        self._history = History(before, kept)
        self._models: list[Model | None] = [None] * len(self._factories)
        self._due: set[int] = set()
        self.failures: dict[str, str] = {}
        self._skill = Skill(self._horizons, len(self._factories) + 1)  # the mix is scored beside the models
        self._mixed_skill = Skill(self._horizons, 2, LONG_MEMORY)  # of the floor and of the mix, before `floored`
        self._bands = LoadBands(self._horizons)
        self._newest_measured: int | None = None
        for index, factory in enumerate(self._factories):
            self._guarded(index, partial(self._run, Estimation(index, factory, before)))
        self._advance(series.since(first).values, replaying=True)

    def update(self, series: Series) -> None:
        """Take in the bins of `series` that are newer than those seen so far; bins left out count as missing.

        Raises:
            ValueError: the series has other bins or another unit than the one fitted on.
        """
        if self._history is None:
            self.fit(series)
            return
        if (series.bin_seconds, series.unit) != (self._bin_seconds, self._unit):
            raise ValueError(
                f"the series has bins of {series.bin_seconds} s in {series.unit}, the forecaster was fitted on bins of "
                f"{self._bin_seconds} s in {self._unit}: make a new forecaster for it"
            )
        newer = series.since(self._history.next_bin)
        if len(newer):
            left_out = newer.first_bin - self._history.next_bin
            self._advance(np.concatenate([np.full(left_out, math.nan), newer.values]))

    def predict(
        self,
        horizons_seconds: Sequence[float],
        quantiles: Sequence[float] = (0.5, 0.9),
        now_seconds: float | None = None,
    ) -> Forecast:
        """Forecast the load.

        Args:
            horizons_seconds: leads; the forecast is for the bin that ends at, or holds, `now_seconds` plus the
                lead.
            quantiles: levels wanted, each in (0, 1).
            now_seconds: from when the leads count; default: the end of the newest bin.

        Returns:
            The forecast; all zero when no bin was ever measured.
        """
        made_at = self._seen().next_bin * self._bin_seconds
        waited = 0.0 if now_seconds is None else max(0.0, now_seconds - made_at)
        leads = [max(1, math.ceil((lead + waited) / self._bin_seconds - 1e-9)) for lead in horizons_seconds]
        rows = np.minimum(np.searchsorted(self._horizons, leads), len(self._horizons) - 1).tolist()
        with np.errstate(all="ignore"):
            forecasts = self._forecasts(tuple(leads))
            shares = floored(self._shares(forecasts, rows), self._mixed_skill.errors[rows])
            mean = self._mix(forecasts, shares)
            bands = self._bands.quantiles(mean, rows, quantiles, off=self._paused)
        return Forecast(
            horizons_seconds=tuple(horizons_seconds),
            quantile_levels=tuple(quantiles),
            mean=mean,
            quantiles=bands,
            unit=self._unit,
            made_at=made_at,
            age_seconds=self._age_seconds(made_at),
            weights=dict(zip(self._names, shares.T, strict=True)),
        )

    def trust(self, now_seconds: float) -> Trust:
        """Judge the forecaster as of `now_seconds`, over all scored horizons that have been scored at all."""
        self._seen()
        errors, coverage = self._skill.errors, self._bands.coverage_90
        known = np.isfinite(errors[:, 0]) & np.isfinite(errors[:, -1])
        naive, ours = float(errors[known, 0].sum()), float(errors[known, -1].sum())
        covered = coverage[np.isfinite(coverage)]
        return self._policy.judge(
            age_seconds=self._age_seconds(now_seconds),
            bin_seconds=self._bin_seconds,
            scored_bins=int(self._skill.scored_bins[0, -1]),
            error_vs_last_value=ours / naive if naive > 0 else (1.0 if known.any() else math.nan),
            coverage_90=float(covered.mean()) if len(covered) else math.nan,
            doubted_bins=sum(bin_number >= self._seen().next_bin - DOUBT_SHOWN_BINS for bin_number in self._doubted),
        )

    @property
    def paused(self) -> bool:
        """Whether the service was off in the newest measured bin, or has not begun yet."""
        self._seen()
        return self._paused

    @property
    def doubts_newest(self) -> bool:
        """Whether the newest bin is withheld until the next one tells whether to believe it."""
        return bool(self._doubted) and self._doubted[-1] == self._seen().next_bin - 1

    def due_estimations(self) -> list[Estimation]:
        """The slow steps that wait to be run; each is handed out once."""
        due, self._due = sorted(self._due), set()
        if not due:
            return []
        series = self._seen().series()
        return [Estimation(index, self._factories[index], series) for index in due]

    def install(self, index: int, model: Model) -> None:
        """Put a newly estimated model in the place of the one before; it first sees the bins that came meanwhile."""
        model.update(self._seen().series())
        self._models[index] = model
        self.failures.pop(self._names[index], None)

    def reject(self, index: int, error: Exception) -> None:
        """Take out a model that failed; `failures` says why until it has been estimated again."""
        self._models[index] = None
        self.failures[self._names[index]] = f"{type(error).__name__}: {error}"

    def _seen(self) -> History:
        if self._history is None:
            raise RuntimeError("the forecaster has seen no series yet: call fit first")
        return self._history

    def _age_seconds(self, now_seconds: float) -> float:
        if self._newest_measured is None:
            return math.inf
        return max(0.0, now_seconds - (self._newest_measured + 1) * self._bin_seconds)

    def _advance(self, values: FloatArray, *, replaying: bool = False) -> None:
        with np.errstate(all="ignore"):
            for left, value in zip(range(len(values) - 1, -1, -1), values.tolist(), strict=True):
                self._step(value)
                self._note_due(bins_to_come=left if replaying else 0)
                if replaying or not self._defer:
                    for estimation in self.due_estimations():
                        self._guarded(estimation.index, partial(self._run, estimation))
                self._say()

    def _run(self, estimation: Estimation) -> None:
        self.install(estimation.index, estimation.run())

    def _step(self, value: float) -> None:
        history = self._seen()
        bin_number = history.next_bin
        screened = self._look(value, bin_number)
        if not math.isnan(value):
            self._newest_measured = bin_number
            if not screened.doubted:
                self._last = value
        history.append(screened.seen)
        self._skill.observe(screened.bounded)
        self._mixed_skill.observe(screened.bounded)
        self._bands.observe(value if self._paused else screened.bounded)
        newest = Series(np.array([screened.seen]), bin_number, self._bin_seconds, self._unit)
        for index, model in enumerate(self._models):
            if model is not None:
                self._guarded(index, partial(model.update, newest))

    def _note_due(self, bins_to_come: int) -> None:
        """Note which models are due for an estimation, unless a later one within `bins_to_come` would replace it."""
        newest = self._seen().next_bin - 1
        for index in range(len(self._models)):
            period = self._refit_bins(index)
            superseded = period not in (RETRY_BINS, YOUNG_REFIT_BINS) and bins_to_come >= period
            if (newest + index * period // len(self._models)) % period == 0 and not superseded:
                self._due.add(index)

    def _say(self) -> None:
        forecasts = self._forecasts(self._horizons)
        shares = self._shares(forecasts, list(range(len(forecasts))))
        mixed = self._mix(forecasts, shares)
        self._mixed_skill.say(np.column_stack([forecasts[:, 0], mixed]))
        mean = self._mix(forecasts, floored(shares, self._mixed_skill.errors))
        self._skill.say(np.column_stack([forecasts, mean]))
        self._bands.say(mean, off=self._paused)

    def _as_seen(self, series: Series) -> Series:
        values = [self._look(value, series.first_bin + i).seen for i, value in enumerate(series.values.tolist())]
        return replace(series, values=np.array(values))

    def _look(self, value: float, bin_number: int) -> Screened:
        """What models see of the next bin and are scored on: a pause teaches nothing about the load after it."""
        self._note_pause(value)
        running = math.nan if self._paused else value
        screened = Screened(running, running) if self._believe_all else self._screen.look(running)
        if screened.doubted:
            self._doubted.append(bin_number)
        return screened

    def _note_pause(self, value: float) -> None:
        """Tell a series that has been switched off from one that has become quiet."""
        if value > 0:
            self._loads.append(value)
            self._paused = False
        elif value == 0 and not self._paused and len(self._loads) == PAUSE_LEVELS:
            self._paused = min(self._loads) > PAUSE_DIP * float(np.median(self._loads))

    @property
    def _proven(self) -> npt.NDArray[np.bool_]:
        """Whether each model has been scored on as many bins as it needs, shape (horizons, models)."""
        needed = [0 if model is None else model.proof_bins for model in self._models]
        proven: npt.NDArray[np.bool_] = self._skill.scored_bins[:, :-1] >= needed
        return proven

    def _refit_bins(self, index: int) -> int:
        model = self._models[index]
        if model is None:
            return RETRY_BINS
        return YOUNG_REFIT_BINS if len(self._seen()) < YOUNG_BINS else model.refit_bins

    def _guarded(self, index: int, step: Callable[[], None]) -> None:
        """Run a step of a model; a model that raises says nothing from then on, so it can win nothing."""
        try:
            step()
        except Exception as error:
            self.reject(index, error)

    def _forecasts(self, horizons: Horizons) -> FloatArray:
        """Forecast of each model, shape (horizons, models); NaN where a model has none."""
        columns = np.full((len(horizons), len(self._models)), np.nan)
        recent = self._seen().tail(self._day_bins)
        cap = CAP * float(np.fmax.reduce(recent, initial=0.0))
        for index, model in enumerate(self._models):
            if model is not None:
                self._guarded(index, partial(self._ask, model, horizons, columns[:, index]))
        clipped: FloatArray = np.clip(columns, 0.0, cap)
        return clipped

    @staticmethod
    def _ask(model: Model, horizons: Horizons, into: FloatArray) -> None:
        into[:] = model.mean(horizons)

    def _shares(self, forecasts: FloatArray, rows: list[int]) -> FloatArray:
        """Share of each model by its skill at the scored horizons `rows`, shape (rows, models)."""
        return weights(self._skill.errors[rows, :-1], np.isfinite(forecasts) & self._proven[rows])

    def _mix(self, forecasts: FloatArray, shares: FloatArray) -> FloatArray:
        """The weighted mean; the last value where no model speaks, and during a pause."""
        if self._paused:
            return np.full(len(forecasts), np.nan_to_num(self._last))
        mixed = (np.where(shares > 0, forecasts, 0.0) * shares).sum(axis=1)
        settled: FloatArray = np.nan_to_num(np.where(np.isfinite(mixed), mixed, self._last))
        return settled
