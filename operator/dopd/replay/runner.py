"""One trace, one profile, one policy: run it and measure what clients met and what it cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

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


def run(
    trace: Trace,
    model: EngineModel,
    objectives: Objectives,
    start: Pair,
    settings: Settings,
    policy: ScalingPolicy | None = None,
) -> Result:
    """Serve the trace from `start` workers under a policy; without one the counts stay fixed."""
    cluster = Cluster(model, trace, *start, replace(settings, objectives=objectives))
    timeline = [(0.0, *start)]
    if policy is None:
        cluster.run()
    else:
        telemetry = Telemetry(cluster)

        def decide() -> float:
            telemetry.scrape()
            (prefill, decode), seconds = policy.decide(telemetry)
            if (prefill, decode) != timeline[-1][1:]:
                timeline.append((cluster.now, prefill, decode))
                flips = policy.flips if isinstance(policy, RoleSwitching) else 0
                cluster.flip(Role.DECODE if flips > 0 else Role.PREFILL, abs(flips))
                cluster.scale_to(Role.PREFILL, prefill)
                cluster.scale_to(Role.DECODE, decode)
            return seconds

        cluster.run(decide)
    return measure(cluster, objectives, timeline)


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
    )


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
