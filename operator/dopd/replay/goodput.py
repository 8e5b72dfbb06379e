"""Goodput: the highest rate of requests at which a share of them is within both objectives (DistServe, OSDI 2024).

Lengths are drawn from a trace, arrivals are Poisson, and all rates use the same draws: a higher rate is the same
requests closer together, and more of them. The first tenth of the time is served and not counted.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dopd.planning import Policy
from dopd.planning.bounds import Pair, apply_bounds
from dopd.planning.policy import RoleBounds
from dopd.replay.fixed import AGGREGATED, MIXED, SPLIT, FixedCounts
from dopd.replay.pass_times import Mixing
from dopd.replay.policies import static
from dopd.replay.policies.base import Setting
from dopd.replay.runner import Result
from dopd.replay.trace import Trace
from dopd.replay.workers import Settings

CLOSENESS = 0.01
"""The search ends when the rates between which it lies differ by this share."""
LEAST_SHARE_OF_GUESS = 0.01
UNCOUNTED = 0.1
SIZED = "split by dopd"


@dataclass(frozen=True)
class Lengths:
    """Requests without arrivals, to draw from.

    Attributes:
        inputs: prompt tokens.
        outputs: answer tokens, of the same requests.
    """

    inputs: npt.NDArray[np.int64]
    outputs: npt.NDArray[np.int64]

    @classmethod
    def of(cls, trace: Trace) -> "Lengths":
        """Those of a trace."""
        return cls(trace.input_tokens, trace.output_tokens)

    @classmethod
    def lognormal(cls, input_tokens: float, output_tokens: float, cv: float, seed: int) -> "Lengths":
        """Drawn around means, with a coefficient of variation for both."""
        generator, variance = np.random.default_rng(seed), math.log1p(cv * cv)
        factors = generator.lognormal(-variance / 2, math.sqrt(variance), (2, 5000))
        means = np.array([[input_tokens], [output_tokens]])
        inputs, outputs = np.maximum(1, np.round(means * factors)).astype(np.int64)
        return cls(inputs, outputs)

    def arriving(self, rate: float, seconds: float, seed: int) -> Trace:
        """Poisson arrivals of requests drawn from these, for so long."""
        count = max(2, math.ceil(rate * seconds))
        gaps, rows = np.random.default_rng(seed), np.random.default_rng(seed + 1)
        arrivals = np.cumsum(gaps.exponential(1.0, count)) / rate
        drawn = rows.integers(0, len(self.inputs), count)
        return Trace("poisson", arrivals, self.inputs[drawn], self.outputs[drawn], "requests")


Serve = Callable[[float], tuple[str, Result]]
"""Serves a rate: how the GPUs are used, and what clients met."""


@dataclass(frozen=True)
class Goodput:
    """The highest rate.

    Attributes:
        rps: requests per second; 0 if no rate is met.
        label: how the GPUs are used at that rate.
        result: what clients met at it; None without such a rate.
    """

    rps: float
    label: str
    result: Result | None


def highest(serve: Serve, share: float, guess: float, closeness: float = CLOSENESS) -> Goodput:
    """Bisect the highest rate at which `share` of the requests is within both objectives.

    Args:
        serve: serves a rate.
        share: of the requests.
        guess: where to begin, requests per second.
        closeness: the search ends when the rates between which it lies differ by this share.
    """
    found = Goodput(0.0, "", None)

    def reached(rate: float) -> bool:
        nonlocal found
        label, result = serve(rate)
        if result.attainment < share:
            return False
        if rate > found.rps:
            found = Goodput(rate, label, result)
        return True

    low, high = 0.0, guess
    while reached(high):
        low, high = high, high * 1.1
    while not low and high > guess * LEAST_SHARE_OF_GUESS:
        if reached(high * 0.7):
            low = high * 0.7
        else:
            high *= 0.7
    while low and high / low > 1 + closeness:
        middle = math.sqrt(low * high)
        if reached(middle):
            low = middle
        else:
            high = middle
    return found


@dataclass(frozen=True)
class Ground:
    """What all deployments have alike.

    Attributes:
        setting: engine and objectives.
        settings: gateway and GPUs of a worker.
        lengths: of the requests.
        workers: of all roles together, or engines.
        seconds: for which requests arrive.
        seed: of the draws.
        mixing: what a pass over prompts and answers takes.
    """

    setting: Setting
    settings: Settings
    lengths: Lengths
    workers: int
    seconds: float
    seed: int
    mixing: Mixing = Mixing.COMPOSED

    @property
    def guess_rps(self) -> float:
        """The rate that would keep all workers busy, each request by itself."""
        trace = self.lengths.arriving(10.0, self.seconds, self.seed)
        busy = sum(static.busy_workers(self.setting, static.true_demand(trace, 0.0, trace.duration_seconds)))
        return 10.0 * self.workers / busy

    def counts(self, rate: float, known: dict[str, float] | None = None) -> FixedCounts:
        """The deployments at a rate; `known` as for `FixedCounts`."""
        settings = replace(self.settings, counted_from_seconds=UNCOUNTED * self.seconds)
        trace = self.lengths.arriving(rate, self.seconds, self.seed)
        return FixedCounts(self.setting, trace, settings, known={} if known is None else known, mixing=self.mixing)

    def serve(self, name: str, enough: float = math.inf) -> Serve:
        """How a deployment of `deployments` serves a rate; where it has a choice, one that attains `enough` will do."""
        if name in (AGGREGATED, MIXED, SPLIT):
            known: dict[str, float] = {}
            return lambda rate: self.counts(rate, known).best(name, self.workers, enough)
        if name == SIZED:
            return lambda rate: self.counts(rate).split(self.sized(rate))
        prefill, decode = map(int, name.split()[1].split(":"))
        units = self.workers // (prefill + decode)
        return lambda rate: self.counts(rate).split((units * prefill, units * decode))

    def deployments(self) -> list[str]:
        """Engines that do both, splits at fixed ratios that use all GPUs, dopd's, and the best with hindsight."""
        if self.workers < 2:
            return [AGGREGATED, MIXED]
        ratios = [f"split {p}:{d}" for p, d in ((1, 1), (1, 3), (3, 1)) if self.workers % (p + d) == 0]
        return [AGGREGATED, MIXED, *ratios, SIZED, SPLIT]

    def sized(self, rate: float) -> Pair:
        """The split that dopd's sizing and bounds give where all these GPUs are held and no more."""
        trace = self.lengths.arriving(rate, self.seconds, self.seed)
        gpus = self.setting.prefill_gpus
        wanted = static.needed(self.setting, static.true_demand(trace, 0.0, trace.duration_seconds))
        role, budget = RoleBounds(1, self.workers, gpus), self.workers * gpus
        policy = Policy(self.setting.objectives, role, role, gpu_budget=budget, gpu_budget_min=budget)
        return apply_bounds(wanted, wanted, policy)[0]
