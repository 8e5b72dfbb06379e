"""How many workers meet the objectives: the cheapest pair, rounded once.

The pair is chosen together: the cheapest whose shares of late requests, at prefill and at decode (`queueing`), add up
to no more than the objectives allow. Objectives that no number of workers can meet are said so, and the nearest
feasible ones are planned for.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from dopd.perf import EngineModel
from dopd.perf.engine import interpolate
from dopd.planning.demand import Demand
from dopd.planning.policy import Objectives
from dopd.planning.queueing import DecodeLoad, PrefillLoad

MAX_WORKERS = 1000
"""Sizing ends here; a role that needs more is said so."""
IDLE_MARGIN = 1.25
"""An objective below what an idle worker takes is replaced by this multiple of what it takes."""


@dataclass(frozen=True)
class Expected:
    """What clients meet, in the queueing model.

    Attributes:
        ttft_seconds: mean time to first token; infinite if the queue grows without limit.
        itl_seconds: mean inter-token latency.
        attainment: share of requests within both objectives.
    """

    ttft_seconds: float
    itl_seconds: float
    attainment: float


@dataclass(frozen=True)
class Size:
    """The cheapest workers that meet the objectives under a demand.

    Attributes:
        prefill: prefill workers.
        decode: decode workers.
        load: what they are to carry.
    """

    prefill: int
    decode: int
    load: "Load"

    @property
    def prefill_exact(self) -> float:
        """Prefill workers kept busy, before queueing and rounding."""
        return self.load.prefill.busy_workers

    @property
    def decode_exact(self) -> float:
        """Decode workers with every slot filled, before fluctuation and rounding."""
        return self.load.decode.busy_workers

    @property
    def expected(self) -> Expected:
        """What clients meet on these workers."""
        return self.load.expect(self.prefill, self.decode)

    @property
    def batch_limit(self) -> int:
        """Most requests that one decode worker should run at once."""
        return self.load.decode.batch_limit

    @property
    def batch_limited_by(self) -> str:
        """What sets that limit: kv, itl or engine."""
        return self.load.decode.limited_by

    @property
    def infeasible(self) -> str:
        """Why no number of workers up to the cap meets the objectives, and what would; "" if some number does."""
        reasons = [self.load.infeasible] if self.load.infeasible else []
        for role, workers, busy, late in (
            ("prefill", self.prefill, self.prefill_exact, self.load.prefill_late_share),
            ("decode", self.decode, self.decode_exact, self.load.decode.late_share),
        ):
            if workers == MAX_WORKERS and late(workers) > 1 - self.load.objectives.attainment:
                reasons.append(
                    f"{role}: the load keeps {busy:.0f} workers busy and needs more than {MAX_WORKERS}, where sizing "
                    f"ends; give each more GPUs (spec.{role}) or spread the model over several resources"
                )
        return "; ".join(reasons)


@dataclass(frozen=True)
class Load:
    """A demand on an engine, under objectives that enough workers can meet.

    Attributes:
        prefill: work that prompts bring.
        decode: work that answers bring.
        objectives: as the user states them.
        feasible: the same where enough workers could meet them, else the nearest ones that can be met.
        infeasible: what can not be met and what is nearest; "" if nothing.
    """

    prefill: PrefillLoad
    decode: DecodeLoad
    objectives: Objectives
    feasible: Objectives
    infeasible: str

    @classmethod
    def of(
        cls,
        demand: Demand,
        model: EngineModel,
        objectives: Objectives,
        on_time_first: bool = False,
    ) -> "Load":
        """The load, with the objectives checked against an idle worker."""
        prefill = PrefillLoad.of(demand, model, on_time_first)
        feasible, reasons = objectives, []
        hopeless = prefill.hopeless_share(objectives.ttft_seconds)
        allowed = (1 - objectives.attainment) / 2
        if hopeless > allowed:
            feasible = replace(feasible, ttft_seconds=IDLE_MARGIN * _upper(prefill.prompts, allowed))
            reasons.append(
                f"TTFT {objectives.ttft_seconds:g} s: {hopeless:.1%} of the prompts take longer on an idle worker; "
                f"nearest feasible {feasible.ttft_seconds:.2g} s"
            )
        itl_curve = model.itl_curve(demand.running_context_tokens)
        alone_seconds = interpolate(itl_curve, 1)
        if alone_seconds > objectives.itl_seconds:
            feasible = replace(feasible, itl_seconds=IDLE_MARGIN * alone_seconds)
            reasons.append(
                f"ITL {objectives.itl_seconds:g} s: one request alone takes {alone_seconds:.2g} s a token; "
                f"nearest feasible {feasible.itl_seconds:.2g} s"
            )
        decode = DecodeLoad.of(demand, model, itl_curve, feasible.itl_seconds)
        return cls(prefill, decode, objectives, feasible, "; ".join(reasons))

    def at(self, requests_per_second: float) -> "Load":
        """The same requests at another rate: neither their service times nor the limits of a worker depend on it."""
        return replace(
            self,
            prefill=replace(self.prefill, requests_per_second=requests_per_second),
            decode=replace(self.decode, requests_per_second=requests_per_second),
        )

    def size(self, prefill_gpus: int = 1, decode_gpus: int = 1) -> Size:
        """Find the cheapest pair under which no more requests are late than allowed; of equal cost, the one with fewer.

        Objectives that no number of workers can meet are replaced by the nearest feasible ones.

        Args:
            prefill_gpus: GPUs of a prefill worker.
            decode_gpus: GPUs of a decode worker.
        """
        allowed = 1 - self.objectives.attainment
        prefill_late = cache(self.prefill_late_share)
        decode_late = cache(self.decode.late_share)
        least = _at_least(self.prefill.busy_workers)

        def pair(decode_workers: int) -> tuple[int, float, int, int]:
            spent = decode_late(decode_workers)
            left = allowed - spent if spent < allowed else allowed  # decode is over the cap: prefill by itself
            prefill_workers = _fewest(lambda n: prefill_late(n) <= left, least)
            late = decode_late(decode_workers) + prefill_late(prefill_workers)
            return prefill_workers * prefill_gpus + decode_workers * decode_gpus, late, prefill_workers, decode_workers

        fewest = _fewest(lambda n: decode_late(n) < allowed, _at_least(self.decode.busy_workers))
        ample = _fewest(lambda n: decode_late(n) <= allowed / 8, fewest)
        _, _, prefill_workers, decode_workers = min(pair(n) for n in {fewest, min(fewest + 1, ample), ample})
        return Size(prefill_workers, decode_workers, self)

    def prefill_late_share(self, workers: int) -> float:
        """Share of requests whose first token comes after the feasible objective."""
        return self.prefill.late_share(workers, self.feasible.ttft_seconds)

    def expect(self, prefill_workers: int, decode_workers: int) -> Expected:
        """What clients meet on so many workers, in the queueing model."""
        late = self.prefill.late_share(prefill_workers, self.objectives.ttft_seconds)
        late += self.decode.late_share(decode_workers)
        itl_met = self.feasible.itl_seconds == self.objectives.itl_seconds
        running = min(self.decode.running(decode_workers), self.decode.batch_limit)
        return Expected(
            ttft_seconds=self.prefill.idle_ttft_seconds + self.prefill.mean_wait_seconds(prefill_workers),
            itl_seconds=self.decode.step_seconds(running),
            attainment=max(0.0, 1 - late) if itl_met else 0.0,
        )


def joined(prefill: Load, decode: Load) -> Load:
    """The prompts of one load and the answers of another: each role is planned for its own lead."""
    feasible = replace(prefill.feasible, itl_seconds=decode.feasible.itl_seconds)
    return replace(prefill, decode=decode.decode, feasible=feasible)


def size(
    demand: Demand,
    model: EngineModel,
    objectives: Objectives,
    prefill_gpus: int = 1,
    decode_gpus: int = 1,
    on_time_first: bool = False,
) -> Size:
    """The cheapest workers for a demand: see `Load.size`."""
    return Load.of(demand, model, objectives, on_time_first).size(prefill_gpus, decode_gpus)


def _at_least(busy_workers: float) -> int:
    return max(1, math.ceil(min(busy_workers, MAX_WORKERS)))


def _upper(prompts: tuple[tuple[float, float], ...], share: float) -> float:
    """Idle time that no more than `share` of the prompts exceeds."""
    late = 0.0
    for probability, idle_seconds in reversed(prompts):
        late += probability
        if late > share:
            return idle_seconds
    return prompts[0][1]


def _fewest(enough: Callable[[int], bool], start: int) -> int:
    """Smallest number of workers from `start` on that is enough; `enough` stays true once it is."""
    step, low, high = 1, start - 1, min(start, MAX_WORKERS)
    while high < MAX_WORKERS and not enough(high):
        low, step = high, 2 * step
        high = min(high + step, MAX_WORKERS)
    while high - low > 1:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle
    return high
