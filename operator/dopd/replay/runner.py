"""One trace, one profile, one policy: run it and measure what clients met and what it cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.planning import Objectives
from dopd.planning.bounds import Pair
from dopd.replay.cluster import Cluster
from dopd.replay.policies.base import RoleSwitching, ScalingPolicy
from dopd.replay.telemetry import Telemetry
from dopd.replay.trace import Trace
from dopd.replay.workers import Settings

_ROUNDING = 1e-9
BINS = 200
"""Parts into which a trace is cut to show its course."""


@dataclass(frozen=True)
class Result:
    """What a policy achieved.

    Attributes:
        attainment: share of requests within both objectives.
        attainment_ttft: share within the TTFT objective.
        attainment_itl: share whose mean ITL is within the objective.
        gpu_hours: GPU time of all workers, from the decision to start one until it has drained.
        ttft_p90: seconds.
        ttft_p99: seconds.
        itl_p90: seconds.
        goodput_rps: requests per second within both objectives.
        changes: how often a target changed.
        reversals: how often a role's target turned from growing to shrinking or back.
        lost: requests without an answer.
        timeline: (seconds, prefill target, decode target) at each change; empty for engines that do both.
        cached_share: share of the prompt tokens that prefix caches held.
        ttft_p50: seconds.
        longest_attainment_ttft: share within the TTFT objective of the longest tenth of the prompts.
        longest_ttft_p99: of that tenth, seconds.
        late_shares: share of the requests that arrived in each part of the trace and missed an objective; None of a
            part in which none arrived; empty where the simulator does not tell.
        prefill_use: share of the paid time of prefill workers in which they computed; NaN where it is not told.
        decode_use: share of the slots of decode workers, over their paid time, that were taken; NaN likewise.
        failures: workers that failed.
        flips: workers that changed their role.
        cold: requests that came while a role had no worker, and waited for one.
        stopped_seconds: when the run was given up, as it was no longer worth its time; None if it was finished. Its
            attainment is then the most, and its GPU-hours are the least that it could have had.
    """

    attainment: float
    attainment_ttft: float
    attainment_itl: float
    gpu_hours: float
    ttft_p90: float
    ttft_p99: float
    itl_p90: float
    goodput_rps: float
    changes: int
    reversals: int
    lost: int
    timeline: tuple[tuple[float, int, int], ...]
    cached_share: float = 0.0
    ttft_p50: float = math.nan
    longest_attainment_ttft: float = math.nan
    longest_ttft_p99: float = math.nan
    late_shares: tuple[float | None, ...] = ()
    prefill_use: float = math.nan
    decode_use: float = math.nan
    failures: int = 0
    flips: int = 0
    cold: int = 0
    stopped_seconds: float | None = None

    def reaches(self, attainment: float) -> bool:
        """Whether the run was finished and attained so much."""
        return self.stopped_seconds is None and self.attainment >= attainment


@dataclass(frozen=True)
class Limits:
    """What makes the rest of a run not worth its time.

    Attributes:
        late: requests that may be late.
        gpu_hours: that it may cost.
    """

    late: float = math.inf
    gpu_hours: float = math.inf


NO_LIMITS = Limits()


class _Stopped(Exception):
    """A limit was passed; with the targets up to then."""

    def __init__(self, timeline: list[tuple[float, int, int]]) -> None:
        super().__init__("a limit was passed")
        self.timeline = timeline


def run(
    trace: Trace,
    model: EngineModel,
    objectives: Objectives,
    start: Pair,
    settings: Settings,
    policy: ScalingPolicy | None = None,
    limits: Limits = NO_LIMITS,
) -> Result:
    """Serve the trace from `start` workers under a policy; without one the counts stay fixed.

    Args:
        trace: the requests.
        model: what the engines are, which a policy may take for another.
        objectives: of the clients.
        start: counts at the beginning.
        settings: of the cluster.
        policy: that scales.
        limits: the run ends early once one is passed; its result says so.
    """
    cluster = Cluster(model, trace, *start, replace(settings, objectives=objectives))
    try:
        timeline = follow(cluster, Telemetry(cluster), policy, limits)
    except _Stopped as stopped:
        return _unfinished(cluster, stopped.timeline)
    return measure(cluster, objectives, timeline)


def follow(
    cluster: Cluster, telemetry: Telemetry, policy: ScalingPolicy | None = None, limits: Limits = NO_LIMITS
) -> list[tuple[float, int, int]]:
    """Serve a cluster's trace under a policy; returns (seconds, prefill target, decode target) at each change.

    Args:
        cluster: that has just begun.
        telemetry: what the policy sees of it.
        policy: that scales; None where the counts stay fixed.
        limits: the run ends early once one is passed.

    Raises:
        _Stopped: a limit was passed.
    """
    settings = cluster.settings
    timeline = [(0.0, cluster.target[Role.PREFILL], cluster.target[Role.DECODE])]
    next_look = 0.0
    next_scrape = 0.0

    def look() -> float:
        nonlocal next_look, next_scrape
        if cluster.late > limits.late or cluster.gpu_seconds > limits.gpu_hours * 3600:
            raise _Stopped(timeline)
        blind = any(begin <= cluster.now < end for begin, end in settings.gaps_seconds)
        if cluster.now >= next_scrape - _ROUNDING:
            next_scrape += settings.scrape_seconds
            if not blind and policy is not None:
                telemetry.scrape()
        if policy is not None and cluster.now >= next_look - _ROUNDING:
            seconds = settings.scrape_seconds
            if not blind:
                seconds = _decide(policy, telemetry, timeline)
            next_look = cluster.now + seconds
        return (min(next_scrape, next_look) if policy is not None else next_scrape) - cluster.now

    watched = policy is not None or limits != NO_LIMITS
    cluster.run(look if watched else None)
    return timeline


def _decide(policy: ScalingPolicy, telemetry: Telemetry, timeline: list[tuple[float, int, int]]) -> float:
    """Ask a policy and do what it says; returns the seconds until its next look."""
    cluster = telemetry.cluster
    (prefill, decode), seconds = policy.decide(telemetry)
    if (prefill, decode) != timeline[-1][1:]:
        timeline.append((cluster.now, prefill, decode))
        flips = policy.flips if isinstance(policy, RoleSwitching) else 0
        cluster.flip(Role.DECODE if flips > 0 else Role.PREFILL, abs(flips))
        cluster.scale_to(Role.PREFILL, prefill)
        cluster.scale_to(Role.DECODE, decode)
    return seconds


def _unfinished(cluster: Cluster, timeline: list[tuple[float, int, int]]) -> Result:
    """What is known of a run that was stopped: at most this attainment, at least these GPU-hours."""
    return Result(
        attainment=1 - cluster.late / max(1, len(cluster.trace)),
        attainment_ttft=math.nan,
        attainment_itl=math.nan,
        gpu_hours=cluster.gpu_seconds / 3600,
        ttft_p90=math.nan,
        ttft_p99=math.nan,
        itl_p90=math.nan,
        goodput_rps=math.nan,
        changes=cluster.changes,
        reversals=reversals(timeline),
        lost=cluster.lost,
        timeline=tuple(timeline),
        stopped_seconds=cluster.now,
    )


class Served(Protocol):
    """A simulated cluster that has served its trace: `dopd.replay.cluster` and `aggregated` say what is what."""

    trace: Trace
    settings: Settings
    ttft_seconds: list[float]
    itl_seconds: list[float]
    gpu_seconds: float
    changes: int
    prefilled_tokens: int
    computed_tokens: int


def measure(cluster: Served, objectives: Objectives, timeline: list[tuple[float, int, int]]) -> Result:
    """What the clients of a finished run met."""
    since = cluster.settings.counted_from_seconds
    first_counted = int(np.searchsorted(cluster.trace.arrival_seconds, since))
    ttft, itl = np.array(cluster.ttft_seconds[first_counted:]), np.array(cluster.itl_seconds[first_counted:])
    first, steady = ttft <= objectives.ttft_seconds, itl <= objectives.itl_seconds
    good = first & steady
    inputs = cluster.trace.input_tokens[first_counted:]
    longest = inputs >= np.quantile(inputs, 0.9)
    return Result(
        attainment=float(good.mean()),
        attainment_ttft=float(first.mean()),
        attainment_itl=float(steady.mean()),
        gpu_hours=cluster.gpu_seconds / 3600,
        ttft_p90=float(np.quantile(ttft, 0.9)),
        ttft_p99=float(np.quantile(ttft, 0.99)),
        itl_p90=float(np.quantile(itl, 0.9)),
        goodput_rps=float(good.sum() / max(cluster.trace.duration_seconds - since, 1e-9)),
        changes=cluster.changes,
        reversals=reversals(timeline),
        lost=int(np.isnan(itl).sum()),
        timeline=tuple(timeline),
        cached_share=1 - cluster.computed_tokens / cluster.prefilled_tokens if cluster.prefilled_tokens else 0.0,
        ttft_p50=float(np.quantile(ttft, 0.5)),
        longest_attainment_ttft=float(first[longest].mean()),
        longest_ttft_p99=float(np.quantile(ttft[longest], 0.99)),
        late_shares=_late_shares(cluster.trace, first_counted, good),
        **_use(cluster),
    )


def _use(cluster: Served) -> dict[str, Any]:
    """How much of what was paid was used; nothing of engines that do both."""
    if not isinstance(cluster, Cluster):
        return {}
    paid = cluster.worker_seconds
    slots = paid[Role.DECODE] * cluster.max_running
    return {
        "prefill_use": min(1.0, cluster.prefill_busy_seconds / paid[Role.PREFILL]) if paid[Role.PREFILL] else math.nan,
        "decode_use": min(1.0, cluster.decode_slot_seconds / slots) if slots else math.nan,
        "failures": cluster.failures,
        "flips": cluster.flips,
        "cold": cluster.cold,
    }


def load_over_time(trace: Trace) -> dict[str, float | list[float]]:
    """What arrived in each part of a trace, per second of it."""
    seconds = _bin_seconds(trace)
    requests = np.bincount(_bins(trace), minlength=BINS) / seconds
    tokens = np.bincount(_bins(trace), weights=trace.input_tokens, minlength=BINS) / seconds
    return {
        "bin_seconds": seconds,
        "requests_per_second": requests.round(3).tolist(),
        "input_tokens_per_second": tokens.round(1).tolist(),
    }


def _late_shares(trace: Trace, first_counted: int, good: npt.NDArray[np.bool_]) -> tuple[float | None, ...]:
    bins = _bins(trace)[first_counted:]
    arrived, late = np.bincount(bins, minlength=BINS), np.bincount(bins[~good], minlength=BINS)
    return tuple(round(int(n) / int(of), 5) if of else None for n, of in zip(late, arrived, strict=True))


def _bin_seconds(trace: Trace) -> float:
    return max(trace.duration_seconds, 1.0) / BINS


def _bins(trace: Trace) -> npt.NDArray[np.int64]:
    """The part of the trace in which each request arrives."""
    return np.minimum((trace.arrival_seconds / _bin_seconds(trace)).astype(np.int64), BINS - 1)


def with_uncached_tokens(trace: Trace, model: EngineModel, counts: Pair, settings: Settings) -> Trace:
    """The trace with the prompt tokens that prefill had to compute in a replay at fixed counts, for hindsight."""
    cluster = Cluster(model, trace, *counts, settings)
    cluster.run()
    return replace(trace, uncached_tokens=np.array(cluster.uncached_tokens))


def reversals(timeline: Sequence[tuple[float, int, int]]) -> int:
    """How often a role's target turned from growing to shrinking or back."""
    turns = 0
    for column in (1, 2):
        moves = [after[column] - before[column] for before, after in pairwise(timeline)]
        turns += sum(1 for before, after in pairwise([move for move in moves if move]) if before * after < 0)
    return turns
