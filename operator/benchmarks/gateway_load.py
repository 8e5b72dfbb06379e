"""Loads of prompts of very different lengths, and what is told about how they were served."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.planning import Objectives
from dopd.replay.profiles import load_profile
from dopd.replay.trace import Trace
from dopd.replay.workers import Routing, Settings

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ENGINE = EngineModel.from_profile(load_profile("llama-3.1-8b-h100"))
AMPLE_DECODE_WORKERS = 16
MEAN_PROMPT_TOKENS, PROMPT_CV, LONGEST_PROMPT_TOKENS = 4000, 1.2, 49_152
MOONCAKE_TOKENS = (
    891, 896, 901, 913, 964, 1090, 1261, 1442, 1662, 1924, 2307, 2745, 3263, 3810, 4250, 4596, 4993, 5378, 5871, 6348,
    6909, 7509, 8187, 8847, 9570, 10328, 11239, 12147, 13196, 14250, 15366, 16502, 17869, 19403, 21467, 24392, 27367,
    31521, 39549, 58966, 85401, 100886, 121301, 126195,
)  # fmt: skip
"""Quantiles of the prompt lengths of Mooncake's conversation trace (kvcache-ai/Mooncake, Apache-2.0): 0 to 97.5 % in
steps of 2.5 %, then 99, 99.5, 99.9 and 100 %."""
_MOONCAKE_SHARES = (*np.arange(40) / 40, 0.99, 0.995, 0.999, 1.0)
BATCHES, T_QUANTILE = 18, 2.11
"""Parts of a run whose means tell its precision, and the 97.5 % quantile of Student's t for them."""


def _lognormal(generator: np.random.Generator, count: int) -> Ints:
    variance = np.log1p(PROMPT_CV**2)
    drawn = generator.lognormal(np.log(MEAN_PROMPT_TOKENS) - variance / 2, np.sqrt(variance), count)
    return np.clip(drawn, 8, LONGEST_PROMPT_TOKENS).astype(np.int64)


def _short_and_long(generator: np.random.Generator, count: int) -> Ints:
    return np.where(generator.random(count) < 0.1, 16_000, generator.integers(200, 801, count))


def _mooncake(generator: np.random.Generator, count: int) -> Ints:
    return np.interp(generator.random(count), _MOONCAKE_SHARES, MOONCAKE_TOKENS).astype(np.int64)


MIXES: dict[str, tuple[Callable[[np.random.Generator, int], Ints], float]] = {
    "lognormal": (_lognormal, 1.25),
    "short-and-long": (_short_and_long, 1.5),
    "mooncake": (_mooncake, 15.0),
}
"""How lengths are drawn, and the TTFT objective, seconds; 90 % of short-and-long have 200 to 800 tokens, 10 % have
16,000."""


@dataclass(frozen=True)
class Load:
    """Poisson arrivals for a number of prefill workers.

    Attributes:
        mix: one of `MIXES`.
        seed: of arrivals and lengths.
        requests: how many arrive.
        workers: prefill workers.
        utilisation: share of their time that prompts take.
    """

    mix: str
    seed: int
    requests: int
    workers: int
    utilisation: float

    @property
    def ttft_seconds(self) -> float:
        """The TTFT objective."""
        return MIXES[self.mix][1]

    @cached_property
    def prefill_seconds(self) -> float:
        """Mean prefill of a prompt alone."""
        return float(self.work_seconds(MIXES[self.mix][0](np.random.default_rng(0), 20_000)).mean())

    @staticmethod
    def work_seconds(tokens: Ints) -> Floats:
        """Prefill of each prompt alone."""
        return np.array([ENGINE.passes_seconds(int(n)) for n in tokens])

    @cached_property
    def trace(self) -> Trace:
        """The requests; their answers are short."""
        generator = np.random.default_rng(self.seed)
        mean = self.prefill_seconds / (self.utilisation * self.workers)
        arrivals = np.cumsum(generator.exponential(mean, self.requests))
        lengths = MIXES[self.mix][0](generator, self.requests)
        return Trace("poisson", arrivals, lengths, generator.integers(4, 9, self.requests), "requests")

    def cluster(
        self, order: str, routing: Routing = Routing.LEAST_REQUESTS
    ) -> tuple[EngineModel, Trace, int, int, Settings]:
        """What a cluster of the replay is made from; decode is ample."""
        settings = Settings(
            dict.fromkeys(Role, 0.0), routing=routing, seed=self.seed, order=order,
            objectives=Objectives(self.ttft_seconds, 1.0, 0.99),
        )  # fmt: skip
        return ENGINE, self.trace, self.workers, AMPLE_DECODE_WORKERS, settings


HEADER = (
    "late %", "against the first", "TTFT mean, s", "P90, s", "longest tenth: late %", "its P99, s",
    "load in 1 s of SMG, s",
)  # fmt: skip


def _plus_minus(values: Floats, of: Callable[[Floats], float] = np.mean) -> str:  # type: ignore[assignment]
    parts = np.array([of(part) for part in np.array_split(values, BATCHES)])
    return f"{of(values):.2f} ± {T_QUANTILE * float(parts.std(ddof=1)) / math.sqrt(BATCHES):.2f}"


def cells(load: Load, ttft: Floats, first: Floats, speed: float | None) -> list[str]:
    """A row of the table, for `HEADER`.

    Precisions are half a 95 % interval, by batch means; that of the difference is paired, request by request.

    Args:
        load: that was played.
        ttft: of all its requests, seconds.
        first: the same of the row to compare with.
        speed: seconds of the load in a second of the gateway's clock; None without one.
    """
    tokens = load.trace.input_tokens
    long = np.zeros(len(ttft), dtype=bool)
    long[np.argsort(tokens, kind="stable")[-(len(ttft) // 10) :]] = True
    late, late_first = 100.0 * (ttft > load.ttft_seconds), 100.0 * (first > load.ttft_seconds)
    return [
        _plus_minus(late),
        _plus_minus(late - late_first),
        _plus_minus(ttft),
        _plus_minus(ttft, lambda part: float(np.quantile(part, 0.9))),
        _plus_minus(late[long]),
        f"{np.quantile(ttft[long], 0.99):.2f}",
        "" if speed is None else f"{speed:.2f}",
    ]
