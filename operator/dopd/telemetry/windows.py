"""How often and how late Prometheus gets its samples, and the windows that follow from it. Pure.

A rate needs two samples in its window, wherever the window begins, and looks right only if the window ends where the
samples do. How far apart they are depends on who set Prometheus up; how late they come, on whether they are written by
a remote agent. Both are measured, for each resource.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from dopd.telemetry import queries

InstanceKey = tuple[str, str]
"""(namespace, name) of a resource."""

LOOK_BACK_SECONDS, LOOK_STEP_SECONDS = 180.0, 5.0
"""Over which the times of samples are looked at, and how closely: what is scraped more often counts as so often."""
PRESENT_INTERVALS, LATE_INTERVALS = 3.0, 1.5
"""The present is so many intervals between two readings long; lateness is about what came since the reading before."""
PRESENT_SCRAPES, LATE_SCRAPES = 3.0, 2.5
"""But no shorter than so many scrapes: the first leaves two samples when one scrape fails, the second in any phase."""
BIN_SCRAPES = 2.5
LAG_STEPS = 3.0
"""Lags are counted in steps, so many to an interval, so that resources which share a Prometheus share its answers."""
LONGEST_LAG_SECONDS = 120.0
"""Samples that come later are lost rather than late: a plan made from them would be one of the past."""
POOLS = ("router", "prefill", "decode")


@dataclass(frozen=True)
class Timing:
    """How Prometheus gets the samples of one resource.

    Attributes:
        interval_seconds: between two samples of a pod, of the pool where that is longest; None while nobody knows.
        lag_seconds: by how much the newest samples are later than an interval explains, in steps.
    """

    interval_seconds: float | None = None
    lag_seconds: float = 0.0

    def __str__(self) -> str:
        interval = "unknown" if self.interval_seconds is None else f"{self.interval_seconds:g} s"
        return f"scrape interval {interval}, lag {self.lag_seconds:g} s"


NOT_KNOWN = Timing()


@dataclass(frozen=True)
class Windows:
    """Over which time what is read.

    Attributes:
        present_seconds: of the load now.
        late_seconds: of what was late.
        bin_seconds: behind each bin of the history; longer than a bin where scrapes are rare.
        lag_seconds: how long before now they end.
    """

    present_seconds: float
    late_seconds: float
    bin_seconds: float
    lag_seconds: float = 0.0


def windows(timing: Timing, interval_seconds: float, bin_seconds: float) -> Windows:
    """The windows that follow from how samples come.

    Args:
        timing: of the samples.
        interval_seconds: between two readings.
        bin_seconds: width of a bin of the history.
    """
    scrape = timing.interval_seconds or 0.0
    return Windows(
        present_seconds=max(PRESENT_INTERVALS * interval_seconds, PRESENT_SCRAPES * scrape),
        late_seconds=max(LATE_INTERVALS * interval_seconds, LATE_SCRAPES * scrape),
        bin_seconds=max(bin_seconds, BIN_SCRAPES * scrape),
        lag_seconds=timing.lag_seconds,
    )


def intervals(
    times: Iterable[Mapping[str, Any]], counts: Iterable[Mapping[str, Any]], now_seconds: float
) -> dict[tuple[str, str, str], float]:
    """Seconds between two samples of a pod, by (namespace, name, pool): the median over its pods.

    Args:
        times: of the newest sample of each pod, step by step (`queries.newest_samples` by pod).
        counts: samples of each pod over the same time (`queries.scrapes`).
        now_seconds: the end of that time.
    """
    found: dict[tuple[str, str, str], list[float]] = {}
    samples = {_pod(one): float(one["value"][1]) for one in counts}
    for one in times:
        known = {float(value) for _, value in one["values"]}
        stamps = sorted(t for t in known if abs(now_seconds - t) <= 2 * LOOK_BACK_SECONDS)
        gaps = [later - earlier for earlier, later in pairwise(stamps)]
        if not gaps:
            continue
        gap = median(gaps)
        if gap < 2 * LOOK_STEP_SECONDS:  # then their number tells of scrapes closer than the steps
            seen_seconds = stamps[-1] - stamps[0] + LOOK_STEP_SECONDS
            gap = min(gap, seen_seconds / max(1.0, samples.get(_pod(one), 0.0) - 1))
        labels = one["metric"]
        key = (labels.get("namespace", ""), labels.get(queries.INSTANCE, ""), labels.get(queries.POOL, ""))
        found.setdefault(key, []).append(gap)
    return {key: _rounded(median(gaps)) for key, gaps in found.items()}


def _pod(series: Mapping[str, Any]) -> tuple[str, ...]:
    labels = series["metric"]
    return tuple(labels.get(label, "") for label in ("namespace", queries.INSTANCE, queries.POOL, "instance"))


def _rounded(seconds: float) -> float:
    """To whole seconds from five on: scrapes are never quite in time, and answers are shared by equal windows."""
    return float(round(seconds)) if seconds >= LOOK_STEP_SECONDS - 0.5 else round(seconds, 1)


def timing_of(
    key: InstanceKey,
    interval_by_pool: Mapping[tuple[str, str, str], float],
    newest: Iterable[Mapping[str, Any]],
    now_seconds: float,
) -> Timing:
    """How the samples of one resource come.

    Args:
        key: of the resource.
        interval_by_pool: as `intervals` finds them.
        newest: time of the newest sample of each pool (`queries.newest_samples`).
        now_seconds: when that was asked for.
    """
    known = [interval_by_pool[(*key, pool)] for pool in POOLS if (*key, pool) in interval_by_pool]
    if not known:
        return NOT_KNOWN
    interval = max(known)
    late = [max(0.0, age - interval) for age in ages(key, newest, now_seconds).values()]
    lag = max((one for one in late if one <= LONGEST_LAG_SECONDS), default=0.0)
    # PromQL's rate bridges a tenth more than an interval at the end of its window, and a scrape takes a moment.
    step_seconds = max(1.0, interval / LAG_STEPS)
    steps = 0 if lag <= max(1.0, interval / 10) else math.ceil(lag / step_seconds)
    return Timing(interval, steps * step_seconds)


def ages(key: InstanceKey, newest: Iterable[Mapping[str, Any]], now_seconds: float) -> dict[str, float]:
    """Seconds since the newest sample of each pool of a resource."""
    found = {}
    for one in newest:
        labels, at = one["metric"], float(one["value"][1])
        if (labels.get("namespace"), labels.get(queries.INSTANCE)) == key and math.isfinite(at):
            found[labels.get(queries.POOL, "")] = max(0.0, now_seconds - at)
    return found
