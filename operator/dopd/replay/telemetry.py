"""What a policy gets to see: the numbers that a Prometheus would have, as old as a scrape makes them.

Rates and prompt lengths come from the arrivals up to the last scrape, answer lengths and latencies from what had
finished or started by then. Nothing of the future, and nothing of a single request, is visible.
"""

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass

import numpy as np

from dopd.api.names import Role
from dopd.planning import Demand, Workers
from dopd.planning.demand import squared_cv
from dopd.planning.generation import generation_tokens
from dopd.replay.cluster import Cluster
from dopd.replay.workers import DecodeWorker, Phase, PrefillWorker

_ROUNDING = 1e-6


@dataclass(frozen=True)
class _Snapshot:
    """Counters of all workers together, as they stood."""

    at_seconds: float
    finished: int = 0
    output_tokens: int = 0
    output_squares: int = 0
    itl_seconds: float = 0.0
    first_tokens: int = 0
    ttft_seconds: float = 0.0
    prefill_busy_seconds: float = 0.0
    late: int = 0
    prefilled_tokens: int = 0
    computed_tokens: int = 0
    decoded_tokens: float = 0.0


@dataclass(frozen=True)
class _Gauges:
    """What each serving worker held, as it stood.

    Attributes:
        waiting_tokens: of each prefill worker.
        prompts: that wait or are computed, of all of them.
        running: answers and their KV tokens, of each decode worker.
        waiting_answers: of all of them.
        reserved_tokens: KV tokens that the answers of all of them will need.
    """

    at_seconds: float
    waiting_tokens: tuple[int, ...] = ()
    prompts: int = 0
    running: tuple[tuple[int, float], ...] = ()
    waiting_answers: int = 0
    reserved_tokens: int = 0


class Telemetry:
    """Windows over what a cluster has done so far, all of it as old as its settings say.

    Workers are known as they are: that is asked of Kubernetes. Call `scrape` every `scrape_seconds`.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.delay_seconds = cluster, cluster.settings.delay_seconds
        trace = cluster.trace
        counted = slice(None) if trace.batch is None else ~trace.batch  # a batch is counted apart
        self._arrivals = trace.arrival_seconds[counted]
        inputs = trace.input_tokens[counted].astype(float)
        self._tokens = np.concatenate(([0.0], np.cumsum(inputs)))
        self._squares = np.concatenate(([0.0], np.cumsum(inputs**2)))
        self._snapshots = [_Snapshot(0.0)]
        self._times = [0.0]
        self._gauges: deque[_Gauges] = deque([_Gauges(0.0)])
        self._seen = self._snapshots[0]

    @property
    def now_seconds(self) -> float:
        """Simulated time."""
        return self.cluster.now

    @property
    def seen_seconds(self) -> float:
        """Time of the newest numbers that can be seen; 0 before there are any."""
        return self._seen.at_seconds

    def scrape(self) -> None:
        """Record counters and gauges as they stand, and let those that are old enough be seen."""
        c = self.cluster
        self._snapshots.append(
            _Snapshot(
                c.now,
                c.finished,
                c.finished_output_tokens,
                c.finished_output_squares,
                c.finished_itl_seconds,
                c.first_tokens,
                c.first_ttft_seconds,
                c.prefill_busy_seconds,
                c.late,
                c.prefilled_tokens,
                c.computed_tokens,
                c.decoded_tokens,
            )
        )
        self._times.append(c.now)
        prefill = [w for w in c.serving[Role.PREFILL] if isinstance(w, PrefillWorker)]
        decode = [w for w in c.serving[Role.DECODE] if isinstance(w, DecodeWorker)]
        self._gauges.append(
            _Gauges(
                c.now,
                tuple(w.waiting_tokens for w in prefill),
                sum(w.assigned for w in prefill),
                tuple((w.n, w.kv) for w in decode),
                sum(len(w.waiting) for w in decode),
                sum(w.reserved for w in decode),
            )
        )
        newest = c.now - self.delay_seconds + _ROUNDING
        self._seen = self._snapshots[max(0, bisect_right(self._times, newest) - 1)]
        while len(self._gauges) > 1 and self._gauges[1].at_seconds <= newest:
            self._gauges.popleft()

    @property
    def batch_waits(self) -> bool:
        """Whether anything of a batch is at the gateway or in the engines now."""
        return self.cluster.batch_waits

    def requests(self, start_seconds: float, end_seconds: float) -> tuple[int, float, float]:
        """Arrivals in [start, end): their number, prompt tokens and squared prompt tokens."""
        first, last = np.searchsorted(self._arrivals, [start_seconds, end_seconds])
        return (
            int(last - first),
            float(self._tokens[last] - self._tokens[first]),
            float(self._squares[last] - self._squares[first]),
        )

    def counted(self) -> dict[str, float]:
        """Requests so far, as the gateway counts them when it is asked."""
        return {"gateway": float(np.searchsorted(self.cluster.trace.arrival_seconds, self.now_seconds, side="right"))}

    def demand(self, window_seconds: float, decoded: bool = False) -> Demand:
        """Load over the last `window_seconds` before the last scrape; lengths of the last hour where it is empty.

        Args:
            window_seconds: how long.
            decoded: whether the tokens that decode makes are read, too, as dopd does: else finished answers alone.
        """
        end = self._seen.at_seconds
        start = max(0.0, end - window_seconds)
        count, tokens, squares = self.requests(start, end)
        if end <= start or count == 0:
            return Demand.none()
        output, output_squares = self._output(window_seconds, decoded)
        return Demand(
            requests_per_second=count / (end - start),
            input_tokens=tokens / count,
            input_tokens_second_moment=squares / count,
            output_tokens=output,
            uncached_share=self.uncached_share(window_seconds),
            output_tokens_second_moment=output_squares,
        )

    def _output(self, window_seconds: float, decoded: bool) -> tuple[float, float]:
        """Mean and second moment of answer lengths; of ever longer windows until one holds enough answers."""
        now = self._seen
        for window in (window_seconds, 4 * window_seconds, 1e12):
            before = self._before(window)
            count = now.finished - before.finished
            if count >= 20 or (window == 1e12 and count):
                tokens = now.output_tokens - before.output_tokens
                spread = squared_cv(tokens / count, (now.output_squares - before.output_squares) / count)
                alone = decoded and self.cluster.trace.batch is None  # the tokens of a batch are among them
                made = now.decoded_tokens - before.decoded_tokens if alone else None
                mean = generation_tokens(count, tokens, spread, made)
                return mean, mean**2 * (1 + spread)
        return 100.0, 20_000.0  # nothing has finished since the start: any answer length is a guess

    def uncached_share(self, window_seconds: float) -> float:
        """Share of the tokens of the prompts prefilled in the window that were computed.

        Of ever longer windows until one holds a prompt; 1 until then, and where the trace tells no prefixes.
        """
        now = self._seen
        for window in (window_seconds, 4 * window_seconds, 1e12):
            before = self._before(window)
            tokens = now.prefilled_tokens - before.prefilled_tokens
            if tokens:
                return (now.computed_tokens - before.computed_tokens) / tokens
        return 1.0

    def ttft_seconds(self, window_seconds: float) -> float | None:
        """Mean TTFT of the first tokens of the window; None without any."""
        now, before = self._seen, self._before(window_seconds)
        count = now.first_tokens - before.first_tokens
        return (now.ttft_seconds - before.ttft_seconds) / count if count else None

    def itl_seconds(self, window_seconds: float) -> float | None:
        """Mean ITL of the answers that finished in the window; None without any."""
        now, before = self._seen, self._before(window_seconds)
        count = now.finished - before.finished
        return (now.itl_seconds - before.itl_seconds) / count if count else None

    def late_share(self, window_seconds: float) -> float | None:
        """Share of the window's first tokens and finished answers that missed an objective; None without any."""
        now, before = self._seen, self._before(window_seconds)
        count = now.first_tokens - before.first_tokens
        return min(1.0, (now.late - before.late) / count) if count else None

    def prefill_busy_share(self, window_seconds: float) -> float:
        """Share of the window that the serving prefill workers computed."""
        now, before = self._seen, self._before(window_seconds)
        seconds = (now.at_seconds - before.at_seconds) * len(self.cluster.serving[Role.PREFILL])
        return (now.prefill_busy_seconds - before.prefill_busy_seconds) / seconds if seconds else 0.0

    def decode_slot_share(self) -> float:
        """Share of the serving decode workers' slots that are taken or waited for."""
        gauges = self._gauges[0]
        slots = len(gauges.running) * self.cluster.max_running
        return (sum(n for n, _ in gauges.running) + gauges.waiting_answers) / slots if slots else 0.0

    def decode_tokens_per_second(self, window_seconds: float) -> float:
        """Tokens that decode made in the window, per second."""
        now, before = self._seen, self._before(window_seconds)
        seconds = now.at_seconds - before.at_seconds
        return max(0.0, now.decoded_tokens - before.decoded_tokens) / seconds if seconds else 0.0

    def requests_in(self, role: Role) -> int:
        """Prompts that wait or are computed, or answers that wait or run, at the serving workers of a role."""
        gauges = self._gauges[0]
        if role is Role.PREFILL:
            return gauges.prompts
        return sum(n for n, _ in gauges.running) + gauges.waiting_answers

    def prefill_waiting_tokens(self) -> list[int]:
        """Prompt tokens that wait at each serving prefill worker."""
        return list(self._gauges[0].waiting_tokens)

    def decode_loads(self) -> list[tuple[int, float]]:
        """Requests that run and KV tokens that they hold, at each serving decode worker."""
        return list(self._gauges[0].running)

    def _before(self, window_seconds: float) -> _Snapshot:
        limit = self._seen.at_seconds - window_seconds
        return self._snapshots[max(0, bisect_right(self._times, limit + _ROUNDING) - 1)]

    def workers(self, role: Role) -> Workers:
        """Workers of a role and what waits for them."""
        cluster, gauges = self.cluster, self._gauges[0]
        waiting_tokens = waiting_requests = kv_use = None
        if role is Role.PREFILL:
            waiting_tokens = float(sum(gauges.waiting_tokens))
        else:
            waiting_requests = float(gauges.waiting_answers)
            kv = cluster.kv_tokens * len(gauges.running)
            kv_use = gauges.reserved_tokens / kv if kv else None
        leaving = [w for w in cluster.workers[role] if w.phase is Phase.DRAINING and not w.becomes]
        return Workers(
            serving=len(cluster.serving[role]),
            starting=cluster.count(role, Phase.STARTING, Phase.PENDING),
            draining=len(leaving),
            returning=len(leaving) if cluster.settings.return_seconds is not None else 0,
            unschedulable=cluster.count(role, Phase.PENDING),
            waiting_tokens=waiting_tokens,
            waiting_requests=waiting_requests,
            kv_use=kv_use,
        )
