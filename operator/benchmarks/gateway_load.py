"""Loads of prompts of very different lengths, and what is told about how they were served."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dopd.api.profile import EngineProfileSpec
from dopd.perf import EngineModel
from dopd.replay.profiles import load_profile
from dopd.replay.trace import Trace

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PROFILE = load_profile("llama-3.1-8b-h100")
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
"""How lengths are drawn, and the TTFT objective, seconds, at the profile's own pace; 90 % of short-and-long have 200 to
800 tokens, 10 % have 16,000."""


@dataclass(frozen=True)
class Load:
    """Poisson arrivals for a number of prefill workers.

    Attributes:
        mix: one of `MIXES`.
        seed: of arrivals and lengths.
        seconds: how long requests arrive.
        workers: prefill workers.
        utilisation: share of their time that prompts take.
        prefill_seconds: mean prefill of a prompt; the engines are as much slower than their profile, so that few
            cores keep up.
        answer_tokens: mean length of an answer; half to one and a half of it.
    """

    mix: str
    seed: int
    seconds: float
    workers: int
    utilisation: float
    prefill_seconds: float
    answer_tokens: int

    @cached_property
    def pace(self) -> float:
        """How much slower than their profile the engines are."""
        engine = EngineModel.from_profile(PROFILE)
        lengths = MIXES[self.mix][0](np.random.default_rng(0), 20_000)
        return self.prefill_seconds / float(np.mean([engine.prefill_seconds(int(n)) for n in lengths]))

    @property
    def profile(self) -> EngineProfileSpec:
        """Of the slower engines."""
        return PROFILE.model_copy(update={"correction": PROFILE.correction * self.pace})

    @property
    def ttft_seconds(self) -> float:
        """The TTFT objective."""
        return MIXES[self.mix][1] * self.pace

    @cached_property
    def trace(self) -> Trace:
        """The requests."""
        generator = np.random.default_rng(self.seed)
        rate = self.utilisation * self.workers / self.prefill_seconds
        count = int(generator.poisson(rate * self.seconds))
        arrivals = np.sort(generator.uniform(0, self.seconds, count))
        lengths = MIXES[self.mix][0](generator, count)
        half = self.answer_tokens // 2
        return Trace("poisson", arrivals, lengths, generator.integers(half, 3 * half + 1, count), "requests")

    @cached_property
    def service_seconds(self) -> Floats:
        """From each arrival at an idle worker to the first token: prefill and transfer."""
        engine = EngineModel.from_profile(self.profile)
        tokens = self.trace.input_tokens.tolist()
        return np.array([engine.prefill_seconds(n) + engine.transfer_seconds(n) for n in tokens])


HEADER = (
    "late %", "against the first", "TTFT mean, s", "P90, s", "longest tenth: late %", "its P99, s", "failed",
    "over service P05, s", "sent late P99, s",
)  # fmt: skip


def _plus_minus(values: Floats, of: Callable[[Floats], float] = np.nanmean) -> str:  # type: ignore[assignment]
    parts = np.array([of(part) for part in np.array_split(values, BATCHES)])
    return f"{of(values):.2f} ± {T_QUANTILE * float(parts.std(ddof=1)) / math.sqrt(BATCHES):.2f}"


def cells(loads: list[Load], ttft: Floats, first: Floats, sent_late: Floats | None) -> list[str]:
    """A row of the table, for `HEADER`; a request that failed is late.

    Precisions are half a 95 % interval, by batch means; that of the difference is paired, request by request. The
    overhead is what the luckiest prompts took beyond their service: some 10 ms, unless the machine is too busy to
    measure or hardly any prompt meets an idle worker.

    Args:
        loads: that were played one after the other.
        ttft: of all their requests, seconds; NaN for one that failed.
        first: the same of the row to compare with.
        sent_late: how late each was sent, seconds; None in a simulation.
    """
    objective = np.concatenate([np.full(len(load.trace), load.ttft_seconds) for load in loads])
    service = np.concatenate([load.service_seconds for load in loads])
    long = np.zeros(len(ttft), dtype=bool)
    long[np.argsort(service, kind="stable")[-(len(ttft) // 10) :]] = True
    late, late_first = 100.0 * ~(ttft <= objective), 100.0 * ~(first <= objective)
    return [
        _plus_minus(late),
        _plus_minus(late - late_first),
        _plus_minus(ttft),
        _plus_minus(ttft, lambda part: float(np.nanquantile(part, 0.9))),
        _plus_minus(late[long]),
        f"{np.nanquantile(ttft[long], 0.99):.1f}",
        str(int(np.isnan(ttft).sum())),
        "" if sent_late is None else f"{np.nanquantile(ttft - service, 0.05):.3f}",
        "" if sent_late is None else f"{np.quantile(sent_late, 0.99):.3f}",
    ]
