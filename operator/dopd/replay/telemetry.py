"""What a policy gets to see: the numbers that a Prometheus would have, as old as a scrape makes them.

Rates and prompt lengths come from the arrivals up to the last scrape, answer lengths and latencies from what had
finished or started by then. Nothing of the future, and nothing of a single request, is visible.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from dopd.api.names import Role
from dopd.planning import Demand, Workers
from dopd.planning.demand import squared_cv
from dopd.planning.generation import generation_tokens
from dopd.replay.cluster import Cluster
from dopd.replay.workers import DecodeWorker, Phase, PrefillWorker


@dataclass(frozen=True)
class _Snapshot:
    at_seconds: float
    finished: int
    output_tokens: int
    output_squares: int
    itl_seconds: float
    first_tokens: int
    ttft_seconds: float
    prefill_busy_seconds: float
    late: int
    prefilled_tokens: int
    computed_tokens: int
    decoded_tokens: float


class Telemetry:
    """Windows over what a cluster has done so far. Call `scrape` at every look, before reading."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.delay_seconds = cluster, cluster.settings.scrape_seconds
        inputs = cluster.trace.input_tokens.astype(float)
        self._tokens = np.concatenate(([0.0], np.cumsum(inputs)))
        self._squares = np.concatenate(([0.0], np.cumsum(inputs**2)))
        self._snapshots: deque[_Snapshot] = deque(maxlen=4000)

    @property
    def now_seconds(self) -> float:
        """Simulated time."""
        return self.cluster.now

    def scrape(self) -> None:
        """Record the counters as they stand."""
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

    def requests(self, start_seconds: float, end_seconds: float) -> tuple[int, float, float]:
        """Arrivals in [start, end): their number, prompt tokens and squared prompt tokens."""
        first, last = np.searchsorted(self.cluster.trace.arrival_seconds, [start_seconds, end_seconds])
        return (
            int(last - first),
            float(self._tokens[last] - self._tokens[first]),
            float(self._squares[last] - self._squares[first]),
        )

    def demand(self, window_seconds: float, decoded: bool = False) -> Demand:
        """Load over the last `window_seconds` before the last scrape; lengths of the last hour where it is empty.

        Args:
            window_seconds: how long.
            decoded: whether the tokens that decode makes are read, too, as dopd does: else finished answers alone.
        """
        end = self.now_seconds - self.delay_seconds
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
        now = self._snapshots[-1]
        for window in (window_seconds, 4 * window_seconds, 1e12):
            before = self._before(window)
            count = now.finished - before.finished
            if count >= 20 or (window == 1e12 and count):
                tokens = now.output_tokens - before.output_tokens
                spread = squared_cv(tokens / count, (now.output_squares - before.output_squares) / count)
                made = now.decoded_tokens - before.decoded_tokens if decoded else None
                mean = generation_tokens(count, tokens, spread, made)
                return mean, mean**2 * (1 + spread)
        return 100.0, 20_000.0  # nothing has finished since the start: any answer length is a guess

    def uncached_share(self, window_seconds: float) -> float:
        """Share of the tokens of the prompts prefilled in the window that were computed.

        Of ever longer windows until one holds a prompt; 1 until then, and where the trace tells no prefixes.
        """
        now = self._snapshots[-1]
        for window in (window_seconds, 4 * window_seconds, 1e12):
            before = self._before(window)
            tokens = now.prefilled_tokens - before.prefilled_tokens
            if tokens:
                return (now.computed_tokens - before.computed_tokens) / tokens
        return 1.0

    def ttft_seconds(self, window_seconds: float) -> float | None:
        """Mean TTFT of the first tokens of the window; None without any."""
        now, before = self._snapshots[-1], self._before(window_seconds)
        count = now.first_tokens - before.first_tokens
        return (now.ttft_seconds - before.ttft_seconds) / count if count else None

    def itl_seconds(self, window_seconds: float) -> float | None:
        """Mean ITL of the answers that finished in the window; None without any."""
        now, before = self._snapshots[-1], self._before(window_seconds)
        count = now.finished - before.finished
        return (now.itl_seconds - before.itl_seconds) / count if count else None

    def late_share(self, window_seconds: float) -> float | None:
        """Share of the window's first tokens and finished answers that missed an objective; None without any."""
        now, before = self._snapshots[-1], self._before(window_seconds)
        count = now.first_tokens - before.first_tokens
        return min(1.0, (now.late - before.late) / count) if count else None

    def prefill_busy_share(self, window_seconds: float) -> float:
        """Share of the window that the serving prefill workers computed."""
        now, before = self._snapshots[-1], self._before(window_seconds)
        seconds = (now.at_seconds - before.at_seconds) * len(self.cluster.serving[Role.PREFILL])
        return (now.prefill_busy_seconds - before.prefill_busy_seconds) / seconds if seconds else 0.0

    def decode_slot_share(self) -> float:
        """Share of the serving decode workers' slots that are taken or waited for."""
        workers = self.decode_workers()
        taken = sum(w.n + len(w.waiting) for w in workers)
        return taken / (len(workers) * self.cluster.max_running) if workers else 0.0

    def prefill_waiting_tokens(self) -> list[int]:
        """Prompt tokens that wait at each serving prefill worker."""
        return [w.waiting_tokens for w in self.cluster.serving[Role.PREFILL] if isinstance(w, PrefillWorker)]

    def decode_loads(self) -> list[tuple[int, float]]:
        """Requests that run and KV tokens that they hold, at each serving decode worker."""
        return [(w.n, w.kv) for w in self.decode_workers()]

    def decode_workers(self) -> list[DecodeWorker]:
        """The serving decode workers."""
        return [w for w in self.cluster.serving[Role.DECODE] if isinstance(w, DecodeWorker)]

    def _before(self, window_seconds: float) -> _Snapshot:
        limit = self._snapshots[-1].at_seconds - window_seconds
        for snapshot in reversed(self._snapshots):
            if snapshot.at_seconds <= limit:
                return snapshot
        return _Snapshot(0.0, 0, 0, 0, 0.0, 0, 0.0, 0.0, 0, 0, 0, 0.0)

    def workers(self, role: Role) -> Workers:
        """Workers of a role and what waits for them."""
        cluster = self.cluster
        serving = cluster.serving[role]
        waiting_tokens = waiting_requests = kv_use = None
        if role is Role.PREFILL:
            waiting_tokens = float(sum(w.waiting_tokens for w in serving if isinstance(w, PrefillWorker)))
        else:
            decoding = [w for w in serving if isinstance(w, DecodeWorker)]
            waiting_requests = float(sum(len(w.waiting) for w in decoding))
            held = sum(w.reserved for w in decoding)
            kv_use = held / (cluster.kv_tokens * len(decoding)) if decoding else None
        return Workers(
            serving=len(serving),
            starting=cluster.count(role, Phase.STARTING, Phase.PENDING),
            draining=cluster.count(role, Phase.DRAINING),
            unschedulable=cluster.count(role, Phase.PENDING),
            waiting_tokens=waiting_tokens,
            waiting_requests=waiting_requests,
            kv_use=kv_use,
        )
