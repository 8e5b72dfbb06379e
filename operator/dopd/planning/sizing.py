"""How many workers meet the objectives: the arithmetic behind every target.

**Prefill** is a queue. With S the service time of a prompt (read from the profile at its uncached length), requests
arriving at rate lambda keep `a = lambda * E[S]` workers busy. P workers wait-free is not asked for; what is asked
for is that first tokens come in time: for a prompt of length x,

    TTFT = W + S(x) + transfer(x),     P(W > t) = C(P, a) * exp(-eta * t)

with W the wait of an M/G/P queue: C is Erlang's probability of waiting, and eta = 2 * P * (1 - rho) / (E[S] * (1 +
c^2)) the decay rate in heavy traffic (Kingman), where rho = a / P and c^2 = Var[S] / E[S]^2. The share of requests
that come late is the mean over the length distribution of P(W > ttft - S(x) - transfer(x)): a percentile, not a
mean, and the variance of lengths enters three times: in E[S] because S is convex, in c^2, and in the prompts that
leave little time to wait.

**Decode** is a set of slots. One decode step of b requests with a mean context of k tokens takes ITL(b, k) and
yields b tokens, so

    D = lambda * steps * ITL(b, k) / b         (Little's law; steps = output tokens - 1, prefill gives the first)

at a mean batch of b per worker. The most that a worker should run is b_max = min(KV cache / k, largest batch whose
ITL meets the objective, engine limit). The number that run at once is Poisson, so b is the mean whose upper
quantile stays within b_max; workers share the fluctuation since the gateway sends a request to the less loaded one.

The pair is chosen together: the cheapest whose shares of late requests add up to no more than the objectives allow.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist

from dopd.perf import EngineModel
from dopd.planning.demand import Demand
from dopd.planning.policy import Objectives

MAX_WORKERS = 1000
IDLE_MARGIN = 1.25
"""An objective below what an idle worker takes is replaced by this multiple of what it takes."""


@dataclass(frozen=True)
class PrefillLoad:
    """The work that prompts bring.

    Attributes:
        requests_per_second: arrival rate.
        prompts: (probability, service_seconds, transfer_seconds), ascending in length.
        mean_seconds: E[S].
        squared_cv: Var[S] / E[S]^2.
    """

    requests_per_second: float
    prompts: tuple[tuple[float, float, float], ...]
    mean_seconds: float
    squared_cv: float

    @classmethod
    def of(cls, demand: Demand, model: EngineModel) -> "PrefillLoad":
        """Service times of the demand's prompts on the engine."""
        share = demand.uncached_share or 1.0
        prompts = tuple(
            (probability, model.prefill_seconds(tokens), model.transfer_seconds(tokens / share))
            for probability, tokens in demand.prompt_lengths()
        )
        mean = sum(probability * service for probability, service, _ in prompts)
        second = sum(probability * service**2 for probability, service, _ in prompts)
        return cls(demand.requests_per_second, prompts, mean, max(0.0, second / mean**2 - 1))

    @property
    def busy_workers(self) -> float:
        """Workers that the work keeps busy: the fewest imaginable."""
        return self.requests_per_second * self.mean_seconds

    def late_share(self, workers: int, ttft_seconds: float) -> float:
        """Share of requests whose first token comes after the objective; 1 if the queue grows without limit."""
        busy = self.busy_workers
        if busy == 0:
            return self.hopeless_share(ttft_seconds)
        if workers <= busy:
            return 1.0
        waiting = erlang_c(workers, busy)
        decay = 2 * (workers - busy) / (self.mean_seconds * (1 + self.squared_cv))
        return sum(
            probability * (waiting * math.exp(-decay * slack) if slack >= 0 else 1.0)
            for probability, slack in ((p, ttft_seconds - service - transfer) for p, service, transfer in self.prompts)
        )

    def hopeless_share(self, ttft_seconds: float) -> float:
        """Share of requests that come late even on an idle worker."""
        return sum(p for p, service, transfer in self.prompts if service + transfer > ttft_seconds)

    def mean_ttft_seconds(self, workers: int) -> float:
        """Expected time to first token; infinite if the queue grows without limit."""
        served = sum(p * (service + transfer) for p, service, transfer in self.prompts)
        busy = self.busy_workers
        if workers <= busy:
            return math.inf
        wait = erlang_c(workers, busy) * self.mean_seconds * (1 + self.squared_cv) / (2 * (workers - busy))
        return served + wait


@dataclass(frozen=True)
class DecodeLoad:
    """The work that answers bring.

    Attributes:
        steps_per_second: decode steps that arrive each second, summed over requests.
        context_tokens: mean tokens that a running request holds.
        batch_limit: most requests that one worker should run at once (b_max).
        limited_by: what sets the limit: kv, itl or engine.
    """

    steps_per_second: float
    context_tokens: float
    batch_limit: int
    limited_by: str

    @classmethod
    def of(cls, demand: Demand, model: EngineModel, itl_seconds: float) -> "DecodeLoad":
        """Slots and steps of the demand's answers on the engine, under an objective that one request can meet."""
        context = demand.running_context_tokens
        limits = {
            "engine": model.max_running_requests,
            "kv": max(1, model.kv_batch(context)),
            "itl": largest_batch(model, context, itl_seconds),
        }
        limited_by = min(limits, key=lambda name: limits[name])
        steps = max(0.0, demand.output_tokens - 1)
        return cls(demand.requests_per_second * steps, context, limits[limited_by], limited_by)

    def running(self, workers: int, model: EngineModel) -> float:
        """Mean requests that one worker runs; infinite if it can not keep up.

        The least fixed point of n = steps per worker * ITL(n), found from below: it exists within the limit exactly
        if the worker keeps up at the limit.
        """
        share = self.steps_per_second / workers
        low, high = 0.0, float(self.batch_limit)
        if share * model.itl_seconds(high, self.context_tokens) > high:
            return math.inf
        for _ in range(30):
            middle = (low + high) / 2
            if share * model.itl_seconds(middle, self.context_tokens) > middle:
                low = middle
            else:
                high = middle
        return high

    def late_share(self, workers: int, model: EngineModel) -> float:
        """Chance that a worker is asked to run more than its limit: requests then wait, or the ITL is missed."""
        if self.steps_per_second == 0:
            return 0.0
        running = self.running(workers, model) * workers
        if math.isinf(running):
            return 1.0
        return 1 - NormalDist().cdf((self.batch_limit * workers - running) / math.sqrt(running))


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
        prefill_exact: prefill workers kept busy, before queueing and rounding.
        decode_exact: decode workers with every slot filled, before fluctuation and rounding.
        expected: what clients meet on them.
        batch_limit: most requests that one decode worker should run at once.
        batch_limited_by: what sets that limit: kv, itl or engine.
        infeasible: why no number of workers meets the objectives, with the nearest feasible ones; "" if some number
            does.
    """

    prefill: int
    decode: int
    prefill_exact: float
    decode_exact: float
    expected: Expected
    batch_limit: int
    batch_limited_by: str
    infeasible: str = ""


def size(
    demand: Demand, model: EngineModel, objectives: Objectives, prefill_gpus: int = 1, decode_gpus: int = 1
) -> Size:
    """Find the cheapest pair whose late requests are as few as the objectives allow; of equal cost, the one with fewer.

    Objectives that no number of workers can meet are replaced by the nearest feasible ones, and `infeasible` says so.
    """
    feasible, infeasible = nearest_feasible(demand, model, objectives)
    allowed = 1 - objectives.attainment
    prefill, decode = PrefillLoad.of(demand, model), DecodeLoad.of(demand, model, feasible.itl_seconds)

    def pair(decode_workers: int) -> tuple[int, float, int, int]:
        decode_late = decode.late_share(decode_workers, model)
        left = allowed - decode_late
        prefill_workers = _fewest(lambda workers: prefill.late_share(workers, feasible.ttft_seconds) <= left)
        late = decode_late + prefill.late_share(prefill_workers, feasible.ttft_seconds)
        return prefill_workers * prefill_gpus + decode_workers * decode_gpus, late, prefill_workers, decode_workers

    fewest = _fewest(lambda workers: decode.late_share(workers, model) < allowed)
    ample = _fewest(lambda workers: decode.late_share(workers, model) <= allowed / 8)
    _, _, prefill_workers, decode_workers = min(pair(n) for n in {*range(fewest, min(ample, fewest + 4)), ample})
    expected = expect(demand, model, objectives, prefill_workers, decode_workers)
    full_step_seconds = model.itl_seconds(decode.batch_limit, decode.context_tokens)
    return Size(
        prefill=prefill_workers,
        decode=decode_workers,
        prefill_exact=prefill.busy_workers,
        decode_exact=decode.steps_per_second * full_step_seconds / decode.batch_limit,
        expected=expected,
        batch_limit=decode.batch_limit,
        batch_limited_by=decode.limited_by,
        infeasible=infeasible,
    )


def expect(
    demand: Demand, model: EngineModel, objectives: Objectives, prefill_workers: int, decode_workers: int
) -> Expected:
    """What the demand meets on so many workers, in the queueing model."""
    feasible, _ = nearest_feasible(demand, model, objectives)
    prefill, decode = PrefillLoad.of(demand, model), DecodeLoad.of(demand, model, feasible.itl_seconds)
    late = prefill.late_share(prefill_workers, objectives.ttft_seconds) + decode.late_share(decode_workers, model)
    itl_met = feasible.itl_seconds == objectives.itl_seconds
    running = min(decode.running(decode_workers, model), decode.batch_limit)
    return Expected(
        ttft_seconds=prefill.mean_ttft_seconds(prefill_workers),
        itl_seconds=model.itl_seconds(running, decode.context_tokens),
        attainment=max(0.0, 1 - late) if itl_met else 0.0,
    )


def nearest_feasible(demand: Demand, model: EngineModel, objectives: Objectives) -> tuple[Objectives, str]:
    """The objectives if enough workers could meet them, else the nearest ones that enough workers meet, and why."""
    nearest, reasons = objectives, []
    prefill = PrefillLoad.of(demand, model)
    allowed = (1 - objectives.attainment) / 2
    hopeless = prefill.hopeless_share(objectives.ttft_seconds)
    if hopeless > allowed:
        late, idle_seconds = 0.0, objectives.ttft_seconds
        for probability, service, transfer in reversed(prefill.prompts):
            late += probability
            if late > allowed:
                idle_seconds = service + transfer
                break
        nearest = replace(nearest, ttft_seconds=idle_seconds * IDLE_MARGIN)
        reasons.append(
            f"TTFT {objectives.ttft_seconds:g} s: {hopeless:.1%} of the prompts take longer on an idle worker; "
            f"nearest feasible {nearest.ttft_seconds:.2g} s"
        )
    alone_seconds = model.itl_seconds(1, demand.running_context_tokens)
    if alone_seconds > objectives.itl_seconds:
        nearest = replace(nearest, itl_seconds=alone_seconds * IDLE_MARGIN)
        reasons.append(
            f"ITL {objectives.itl_seconds:g} s: one request alone takes {alone_seconds:.2g} s a token; "
            f"nearest feasible {nearest.itl_seconds:.2g} s"
        )
    return nearest, "; ".join(reasons)


def erlang_c(workers: int, busy: float) -> float:
    """Probability of waiting in M/M/c (Erlang C), by the stable recursion of Erlang B; workers > busy."""
    blocked = 1.0
    for i in range(1, workers + 1):
        blocked = busy * blocked / (i + busy * blocked)
    return blocked / (1 - busy / workers * (1 - blocked))


def largest_batch(model: EngineModel, context_tokens: float, itl_seconds: float) -> int:
    """Largest batch whose decode step takes no longer than `itl_seconds`; at least 1."""
    low, high = 1, model.max_running_requests
    while low < high:
        middle = (low + high + 1) // 2
        if model.itl_seconds(middle, context_tokens) <= itl_seconds:
            low = middle
        else:
            high = middle - 1
    return low


def _fewest(enough: Callable[[int], bool]) -> int:
    """Smallest number of workers that is enough; `enough` must not turn false again as workers grow."""
    high = 1
    while high < MAX_WORKERS and not enough(high):
        high = min(2 * high, MAX_WORKERS)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle
    return high
