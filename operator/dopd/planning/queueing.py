"""What workers make of a load: prefill as a queue, decode as a set of slots.

**Prefill** is a queue. With S the service time of a prompt (read from the profile at its uncached length, and the
attention that it pays to its cached prefix), requests arriving at rate lambda keep `a = lambda * E[S]` workers busy. P
workers wait-free is not asked for; what is asked for is that first tokens come in time: for a prompt of length x,

    TTFT = W + S(x) + transfer(x),     P(W > t) = C(P, a) * exp(-eta * t)

with W the wait of an M/G/P queue: C is Erlang's probability of waiting, and eta = 2 * P * (1 - rho) / (E[S] * (1 +
c^2)) the decay rate in heavy traffic (Kingman), where rho = a / P and c^2 = Var[S] / E[S]^2. The share of requests
that come late is the mean over the length distribution of P(W > ttft - S(x) - transfer(x)): a percentile, not a
mean, and the variance of lengths enters three times: in E[S] because S is convex, in c^2, and in the prompts that
leave little time to wait.

In the order `on-time-first` (`dopd_scheduling`) fewer are late: those that can not be on time step aside. Work that
would end after its deadline is lost, so the work that waits is a random walk between 0 and the time that there is to
wait, t = ttft - E[S + transfer]. In heavy traffic the share of the work that is lost at the upper edge is

    L = (1 - rho) / rho / (exp(2 * (1 - rho) * t * sqrt(P) / (rho * E[S] * (1 + c^2))) - 1)

(reflected Brownian motion; for the earliest deadline first: Kruk, Lehoczky, Ramanan and Shreve, Annals of Applied
Probability, 2011). The root is between 1, a queue for each worker, and P, one queue for all: the gateway chooses among
P. A prompt is lost in proportion to its work, so of the requests L / (1 + c^2) are late, times `LATE_BY_ORDER`.

**Decode** is a set of slots. One decode step of b requests with a mean context of k tokens takes ITL(b, k) and
yields b tokens, so

    D = lambda * steps * ITL(b, k) / b         (Little's law; steps = output tokens - 1, prefill gives the first)

at a mean batch of b per worker. The most that a worker should run is b_max = min(KV cache / k, largest batch whose
ITL meets the objective, engine limit). The number that run at once is Poisson, so b is the mean whose upper
quantile stays within b_max; workers share the fluctuation since the gateway sends a request to the less loaded one.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

from dopd.perf import EngineModel
from dopd.perf.engine import Curve, interpolate
from dopd.planning.demand import Demand, squared_cv

_NORMAL = NormalDist()
SHARED_PASS = 1.5
"""Waiting beyond that of an ideal queue: a prompt waits for the end of the pass that it shares with others, and the
gateway is not one queue but a choice of one among many. Measured by `python -m dopd.replay.fidelity`."""

LATE_BY_ORDER = 4.0
"""Requests that the order on-time-first makes late, for each that has to be: it promises with a headroom, keeps a share
for the late, and does not know the future. On steady loads it is 1.55 (`python -m dopd.replay.fidelity`); the rest is a
margin for arrivals that come in bursts."""

FAR_END = 0.01
"""Share of the prompts that may be longer than the profile knows without a word about it."""


@dataclass(frozen=True)
class PrefillLoad:
    """The work that prompts bring.

    Attributes:
        requests_per_second: arrival rate.
        prompts: (probability, idle_seconds), ascending: time of a prompt and its transfer on an idle worker.
        mean_seconds: E[S], time that a prompt costs a busy worker.
        squared_cv: Var[S] / E[S]^2.
        beyond: what of it lies beyond the points of the profile, and the cure; "" if nothing.
        on_time_first: prompts are served in the order of that name, and not as they come.
    """

    requests_per_second: float
    prompts: tuple[tuple[float, float], ...]
    mean_seconds: float
    squared_cv: float
    beyond: str = ""
    on_time_first: bool = False

    @classmethod
    def of(cls, demand: Demand, model: EngineModel, on_time_first: bool = False) -> "PrefillLoad":
        """Service times of the demand's prompts on the engine."""
        share = demand.uncached_share or 1.0
        lengths = [(chance, tokens, tokens / share) for chance, tokens in demand.prompt_lengths()]
        prompts = tuple(
            (
                chance,
                model.prefill_pass_seconds(tokens, whole**2 - (whole - tokens) ** 2) + model.transfer_seconds(whole),
            )
            for chance, tokens, whole in lengths
        )
        costs = [(chance, model.packed_seconds(tokens, whole - tokens)) for chance, tokens, whole in lengths]
        mean = sum(chance * seconds for chance, seconds in costs)
        second = sum(chance * seconds**2 for chance, seconds in costs)
        longer = sum(chance for chance, tokens, _ in lengths if not model.covers_prefill(tokens))
        beyond = ""
        if longer > FAR_END:
            beyond = (
                f"{longer:.0%} of the prompts are longer than the last of spec.prefill.points "
                f"({model.prefill_curve[-1][0]:.0f} tokens): their times are extrapolated, measure the profile further"
            )
        cv = squared_cv(mean, second)
        return cls(demand.requests_per_second, prompts, mean, cv, beyond, on_time_first)

    @property
    def busy_workers(self) -> float:
        """Workers that the work keeps busy: the fewest imaginable."""
        return self.requests_per_second * self.mean_seconds

    @property
    def idle_ttft_seconds(self) -> float:
        """Mean time to first token where nothing waits."""
        return sum(probability * seconds for probability, seconds in self.prompts)

    def late_share(self, workers: int, ttft_seconds: float) -> float:
        """Share of requests whose first token comes after the objective; 1 if the queue grows without limit."""
        busy = self.busy_workers
        if workers <= busy:
            return 1.0
        wait_seconds = self._wait_if_waiting_seconds(workers)
        if busy == 0 or wait_seconds == 0:
            return self.hopeless_share(ttft_seconds)
        waiting = erlang_c(workers, busy)
        late = 0.0
        for probability, idle_seconds in self.prompts:
            slack = ttft_seconds - idle_seconds
            late += probability * (waiting * math.exp(-slack / wait_seconds) if slack >= 0 else 1.0)
        return min(late, self._late_share_in_order(workers, ttft_seconds)) if self.on_time_first else late

    def _late_share_in_order(self, workers: int, ttft_seconds: float) -> float:
        return self.hopeless_share(ttft_seconds) + LATE_BY_ORDER * self.lost_in_order(workers, ttft_seconds)

    def lost_in_order(self, workers: int, ttft_seconds: float) -> float:
        """Share of requests that the best order has to make late, beside the hopeless; for workers that keep up."""
        slack = ttft_seconds - self.idle_ttft_seconds
        if slack <= 0:
            return 1.0
        use = self.busy_workers / workers
        burst_seconds = self.mean_seconds * (1 + self.squared_cv)  # E[S^2] / E[S]
        if use * burst_seconds == 0:
            return 0.0
        exponent = 2 * (1 - use) * slack * math.sqrt(workers) / (use * burst_seconds)
        if exponent == 0:
            return 1.0
        return (1 - use) / use / math.expm1(min(exponent, 500.0)) / (1 + self.squared_cv)

    def hopeless_share(self, ttft_seconds: float) -> float:
        """Share of requests that come late even on an idle worker."""
        return sum(probability for probability, idle_seconds in self.prompts if idle_seconds > ttft_seconds)

    def mean_wait_seconds(self, workers: int) -> float:
        """Expected wait; infinite if the queue grows without limit."""
        busy = self.busy_workers
        if workers <= busy:
            return math.inf
        return erlang_c(workers, busy) * self._wait_if_waiting_seconds(workers) if busy else 0.0

    def _wait_if_waiting_seconds(self, workers: int) -> float:
        spare = workers - self.busy_workers
        return SHARED_PASS * self.mean_seconds * (1 + self.squared_cv) / (2 * spare)


@dataclass(frozen=True)
class DecodeLoad:
    """The work that answers bring.

    Attributes:
        requests_per_second: arrival rate.
        steps: mean decode steps of an answer.
        curve: (batch, seconds of one step) at the mean context of what runs; the last point is the batch limit.
        limited_by: what sets the limit: kv, itl or engine.
        beyond: what of it lies beyond the points of the profile, and the cure; "" if nothing.
    """

    requests_per_second: float
    steps: float
    curve: Curve
    limited_by: str
    beyond: str = ""

    @classmethod
    def of(cls, demand: Demand, model: EngineModel, curve: Curve, itl_seconds: float) -> "DecodeLoad":
        """Slots and steps of the demand's answers on the engine, under an objective that one request can meet.

        Args:
            demand: the requests.
            model: the engine.
            curve: its `itl_curve` at the mean context of what runs.
            itl_seconds: the objective.
        """
        limits = {
            "engine": model.max_running_requests,
            "kv": max(1, model.kv_batch(demand.input_tokens + demand.output_tokens)),
            "itl": largest_batch(curve, itl_seconds, model.max_running_requests),
        }
        limited_by = min(limits, key=lambda name: limits[name])
        limit = limits[limited_by]
        within = [(batch, seconds) for batch, seconds in curve if batch < limit]
        steps = max(0.0, demand.output_tokens - 1)
        context, beyond = demand.running_context_tokens, ""
        if demand.requests_per_second and not model.covers_decode(limit, context):
            last_context, last_curve = model.itl_curves[-1]
            beyond = (
                f"decode at batch {limit} and {context:.0f} tokens of context lies beyond the last of "
                f"spec.decode.points (batch {last_curve[-1][0]:.0f}, {last_context:.0f} tokens): its time is "
                "extrapolated, measure the profile further"
            )
        full = (limit, interpolate(curve, limit))
        return cls(demand.requests_per_second, steps, (*within, full), limited_by, beyond)

    @property
    def batch_limit(self) -> int:
        """Most requests that one worker should run at once (b_max)."""
        return int(self.curve[-1][0])

    @property
    def steps_per_second(self) -> float:
        """Decode steps that arrive each second, summed over requests."""
        return self.requests_per_second * self.steps

    @property
    def busy_workers(self) -> float:
        """Workers with every slot filled: the fewest imaginable."""
        limit, seconds = self.curve[-1]
        return self.steps_per_second * seconds / limit

    def step_seconds(self, batch: float) -> float:
        """Time of one decode step."""
        return interpolate(self.curve, batch)

    def running(self, workers: int) -> float:
        """Mean requests that one worker runs; infinite if it can not keep up at the batch limit.

        The least fixed point of n = steps per worker * ITL(n), which is piecewise linear in n.
        """
        share = self.steps_per_second / workers
        left, short_left = 0.0, share * self.curve[0][1]
        for right, seconds in self.curve:
            short = share * seconds - right
            if short <= 0:
                return right if short_left == short else left + (right - left) * short_left / (short_left - short)
            left, short_left = right, short
        return math.inf

    def late_share(self, workers: int) -> float:
        """Chance that a worker is asked to run more than its limit: requests then wait, or the ITL is missed."""
        running = self.running(workers) * workers
        if running == 0 or math.isinf(running):
            return float(running > 0)
        return 1 - _NORMAL.cdf((self.batch_limit * workers - running) / math.sqrt(running))


def erlang_c(workers: int, busy: float) -> float:
    """Probability of waiting in M/M/c (Erlang C); 0 < busy < workers.

    The recursion of Erlang B, 1/B(n) = 1 + n/busy 1/B(n - 1), adds only positive terms and so is stable.
    """
    inverse_blocked = 1.0
    for n in range(1, workers + 1):
        inverse_blocked = 1 + inverse_blocked * n / busy
    use = busy / workers
    return 1 / (use + (1 - use) * inverse_blocked)


def largest_batch(curve: Curve, itl_seconds: float, most: int) -> int:
    """Largest batch up to `most` whose decode step takes no longer than `itl_seconds`; at least 1."""
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        if interpolate(curve, middle) <= itl_seconds:
            low = middle
        else:
            high = middle - 1
    return low
