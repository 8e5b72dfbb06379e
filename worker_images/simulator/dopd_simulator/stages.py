"""Books what requests went through into the metrics, by SGLang's rules and with SGLang's traps.

TTFT and ITL are never observed on a prefill engine; tokens and requests are counted at the finish, on prefill and
decode alike (so a sum over both counts twice); TTFT includes queueing, prefill and transfer. Sources:
tokenizer_manager.py (collect_metrics), req_time_stats.py.
"""

from dopd_simulator.clock import Clock
from dopd_simulator.metrics import Metrics, RequestMetrics
from dopd_simulator.request import Request, Stage


class Bookkeeper:
    """Turns the stages of requests into observations. Engine seconds come in, wall seconds are recorded.

    Attributes:
        transfer_ms: time of the last KV transfer.
        transfer_gb_s: its speed.
    """

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self.transfer_ms = 0.0
        self.transfer_gb_s = 0.0

    def stage(self, name: str, seconds: float) -> None:
        """Time spent in one stage."""
        self._metrics.scheduler.stage_seconds.observe(self._wall(seconds), name)

    def _wall(self, seconds: float) -> float:
        """Wall seconds; zero where a pass that was caught up late began before its request had come."""
        return self._clock.wall(max(0.0, seconds))

    def first_pass(self, request: Request, role: str, now: float) -> None:
        """A request enters its first forward pass."""
        waited = now - request.times.get(Stage.WAITING, now)
        self._metrics.scheduler.queue_seconds.observe(self._wall(waited))
        if role == "decode":
            self.stage("decode_waiting", waited)

    def emission(self, request: Request, new_tokens: int, role: str, now: float) -> None:
        """A request hands on `new_tokens` tokens at `now`."""
        requests = self._metrics.requests
        aborted = request.finish is not None and request.finish.type == "abort"
        if request.first_token is None:
            request.first_token = now
            request.last_emission = now
            if request.log_metrics and role != "prefill" and not aborted:
                requests.ttft_seconds.observe(self._wall(now - request.created), *_streaming(requests, request))
        elif new_tokens > 0:
            interval = self._wall(now - request.last_emission)
            request.last_emission = now
            if request.log_metrics and role != "prefill":
                requests.itl_seconds.observe(interval / new_tokens, *requests.of(request), times=new_tokens)
        if request.finish is not None:
            request.finished = now
            if request.log_metrics:
                self._finish(request, role)

    def _finish(self, request: Request, role: str) -> None:
        requests = self._metrics.requests
        streaming = _streaming(requests, request)
        requests.prompt_tokens.inc(request.prompt_tokens, *streaming)
        requests.generation_tokens.inc(request.output_tokens, *streaming)
        requests.requests.inc(1, *streaming)
        requests.e2e_seconds.observe(self._wall(request.finished - request.created), *streaming)
        requests.prompt_histogram.observe(request.prompt_tokens, *requests.of(request))
        requests.uncached_histogram.observe(request.prompt_tokens, *requests.of(request))
        requests.generation_histogram.observe(request.output_tokens, *requests.of(request))
        ended = request.finish is not None and request.finish.type in ("stop", "length")
        first = request.finished if request.first_token is None else request.first_token
        if ended and role != "prefill" and request.output_tokens > 1 and request.finished > first:
            decode_seconds = self._wall(request.finished - first)
            requests.tpot_seconds.observe(decode_seconds / (request.output_tokens - 1), *streaming)

    def rendezvous(self, bootstrap_seconds: float, alloc_seconds: float) -> None:
        """How long a side waited for the other, and then for KV cache (observed on prefill and decode)."""
        scheduler = self._metrics.scheduler
        scheduler.transfer_bootstrap_ms.observe(self._wall(bootstrap_seconds) * 1000)
        scheduler.transfer_alloc_ms.observe(self._wall(alloc_seconds) * 1000)

    def transfer(self, request: Request, sent_bytes: int, now: float) -> None:
        """A prefill engine has sent the KV cache of a request (only that side observes it)."""
        scheduler = self._metrics.scheduler
        times = request.times
        seconds = self._wall(now - times[Stage.INFLIGHT])
        self.transfer_ms = seconds * 1000
        self.transfer_gb_s = sent_bytes / 2**30 / seconds if seconds > 0 else 0.0
        scheduler.transfer_ms.observe(self.transfer_ms)
        scheduler.transfer_mb.observe(sent_bytes / 2**20)
        scheduler.transfer_speed.observe(self.transfer_gb_s)
        self.rendezvous(times[Stage.WAITING] - times[Stage.BOOTSTRAP], 0.0)
        self.stage("prefill_transfer_kv_cache", now - times[Stage.INFLIGHT])


def _streaming(requests: RequestMetrics, request: Request) -> tuple[str, ...]:
    return requests.of(request, "true" if request.stream else "false")
