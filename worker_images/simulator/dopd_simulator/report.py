"""What the engine tells about its load: gauges and /v1/loads, both as old as SGLang's.

SGLang sets its gauges at each prefill pass, every 40 decode steps, and in idleness only when the number of running
requests is wrong or 30 seconds have passed (managers/scheduler_components/metrics_reporter.py); so does this.
/v1/loads is a snapshot (managers/scheduler.py: publish_load_snapshot, on_idle): taken at the end of each prefill pass
and of each fifteenth decode step, before what was done is booked, and again and again while no pass runs and generation
is not paused. So a first prefill pass cannot be seen while it runs, but for the age of the snapshot. It carries sums
since the start from which a reader can fit the engine's speed.
"""

import math
import time
from typing import TYPE_CHECKING, Any

from dopd_simulator.metrics import GAUGES, GRAPH_PHASES
from dopd_simulator.request import Request, Stage
from dopd_simulator.scheduler import DecodePass, PrefillPass, Scheduler

if TYPE_CHECKING:
    from dopd_simulator.engine import Engine

IDLE_REPORT_SECONDS = 30.0
WEIGHT_GB = 16.0
KV_CACHE_GB = 50.0
_SECTION_OF = {"memory": "memory", "disaggregation": "disagg", "queues": "queues"}
"""The part of a query that asks for a part of an entry; the rest of it is always there."""
_SECTIONS = ("core", "memory", "spec", "lora", "disagg", "queues", "all")


class Reporter:
    """Gauges and sums of one engine.

    Attributes:
        utilization: 0, or -1 for good once the engine has reported as prefill; useless, as in SGLang.
        gen_throughput: output tokens per wall second at the last report.
        prefill_uncached_tokens: prompt tokens computed since the start.
        prefill_busy_us: wall time of prefill passes since the start, in microseconds.
        decode_moments: over all decode steps: n, sum b, sum t, sum b^2, sum b*t, sum of tokens; t in wall
        microseconds.
    """

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._steps_since_report = 0
        self._tokens_since_report = 0
        self._last_report = -math.inf
        self._last_decode_report = engine.clock.now()
        self._shown_running = 0
        self._retracted_since_report = 0
        self.utilization = 0.0
        self.gen_throughput = 0.0
        self.prefill_uncached_tokens = 0
        self.prefill_busy_us = 0
        self.decode_moments = [0.0] * 6
        self._snapshot: dict[str, Any] = {}
        self._steps_since_snapshot = 0
        self._transfer_shown = (0.0, 0.0)

    def constants(self) -> None:
        """Set what does not change after the start."""
        engine = self._engine
        gauges = engine.metrics.scheduler.gauges
        capacity = engine.scheduler.limits.kv_tokens
        gauges["max_total_num_tokens"].set(capacity)
        gauges["weight_memory_usage_gb"].set(WEIGHT_GB)
        gauges["kv_cache_memory_usage_gb"].set(KV_CACHE_GB)
        gauges["page_size"].set(engine.options.page_size)
        gauges["num_pages"].set(capacity // engine.options.page_size)
        gauges["context_len"].set(engine.options.context_length)
        gauges["startup_available_gpu_memory_gb"].set(engine.options.sim_free_memory_gb)
        self.graph_memory()
        for name in GAUGES:
            gauges[name].set(0)
        gauges["num_paused_reqs"].set(0)
        self._set_gauges(running=0)
        self.publish()

    def graph_memory(self) -> None:
        """Show the memory of captured graphs, which a role switch can change."""
        for phase in GRAPH_PHASES:
            memory_gb = self._engine.graph_memory_gb if phase == "decode" else 0.0
            self._engine.metrics.scheduler.graph_memory_gb.set(memory_gb, phase)

    def prefill_started(self, planned: PrefillPass) -> None:
        """A prefill pass begins: the moment at which SGLang reports it."""
        engine = self._engine
        scheduler = engine.metrics.scheduler
        scheduler.realtime_tokens.inc(planned.tokens, "prefill_compute")
        fresh = sum(tokens for request, tokens in planned.pieces if request.retractions == 0)
        scheduler.effective_prefill_tokens.inc(fresh, "input")
        scheduler.graph_passes.inc(1, "prefill_none")
        # A prefill engine has no decode batch: SGLang shows the requests of this pass instead.
        running = len(planned.pieces) if engine.role == "prefill" else len(engine.scheduler.running)
        self._set_gauges(running)

    def prefill_done(self, done: PrefillPass) -> None:
        """A prefill pass ends."""
        seconds = self._engine.clock.wall(done.seconds)
        self._engine.metrics.scheduler.category_seconds.inc(seconds, "run_batch", "none")
        self.prefill_busy_us += round(seconds * 1e6)
        self.prefill_uncached_tokens += done.tokens

    def publish(self) -> None:
        """Take the snapshot that /v1/loads shows while passes run."""
        self._steps_since_snapshot = 0
        self._snapshot = self._load()

    @property
    def steps_to_snapshot(self) -> int:
        """Decode steps until the next snapshot."""
        return max(1, self._engine.options.load_snapshot_publish_interval - self._steps_since_snapshot)

    def decode_stepped(self, steps: int) -> None:
        """Decode steps end, and are not booked yet: the moment at which SGLang may take a snapshot."""
        self._steps_since_snapshot += steps
        if self._steps_since_snapshot >= self._engine.options.load_snapshot_publish_interval:
            self.publish()

    def decode_done(self, done: DecodePass, steps: int, ended: int) -> None:
        """Decode steps end.

        Args:
            done: the pass.
            steps: how many of its steps were made.
            ended: requests that ended with the last of them. SGLang has launched the next step by then, with them in
                it, and counts a token for each (its overlap schedule).
        """
        engine = self._engine
        batch = len(done.batch)
        step_us = engine.clock.wall(done.step_seconds) * 1e6
        moments = (1.0, batch, step_us, batch * batch, batch * step_us, batch)
        self.decode_moments = [total + steps * each for total, each in zip(self.decode_moments, moments, strict=True)]
        scheduler = engine.metrics.scheduler
        scheduler.category_seconds.inc(step_us * steps / 1e6, "run_batch", "none")
        tokens = batch * steps + ended
        scheduler.realtime_tokens.inc(tokens, "decode")
        scheduler.graph_passes.inc(steps, "decode_cuda_graph" if engine.graphs_captured else "decode_none")
        self._steps_since_report += steps
        self._tokens_since_report += tokens
        if self._steps_since_report >= engine.options.decode_log_interval:
            now = engine.clock.now()
            elapsed = engine.clock.wall(now - self._last_decode_report)
            self.gen_throughput = self._tokens_since_report / elapsed if elapsed > 0 else 0.0
            self._steps_since_report = self._tokens_since_report = 0
            self._last_decode_report = now
            self._set_gauges(len(engine.scheduler.running))

    def retracted(self, request: Request) -> None:
        """A request was taken out of the batch."""
        self._retracted_since_report += 1
        scheduler = self._engine.metrics.scheduler
        scheduler.retracted_total.inc()
        scheduler.retracted_input_total.inc(request.prompt_tokens)
        scheduler.retracted_output_total.inc(request.output_tokens)

    def idle(self) -> None:
        """Nothing runs: report if the number of running requests shown is wrong or the last report is old."""
        if self._shown_running != len(self._engine.scheduler.running) or self.next_idle_report() <= 0:
            self.gen_throughput = 0.0
            self._set_gauges(len(self._engine.scheduler.running))
        if not self._engine.paused:
            self.publish()

    def next_idle_report(self) -> float:
        """Engine seconds until an idle engine reports again."""
        return max(0.0, self._last_report + IDLE_REPORT_SECONDS - self._engine.clock.now())

    def _set_gauges(self, running: int) -> None:
        engine = self._engine
        scheduler = engine.scheduler
        gauges = engine.metrics.scheduler.gauges
        self._last_report = engine.clock.now()
        if engine.role == "prefill":
            self.utilization = -1.0
            self._transfer_shown = (engine.books.transfer_gb_s, engine.books.transfer_ms)
        self._shown_running = running
        capacity, used = scheduler.limits.kv_tokens, scheduler.kv_used
        transferring = sum(request.kv_tokens for request in scheduler.transferring)
        shown: dict[str, float] = {
            "num_running_reqs": running,
            "num_queue_reqs": len(scheduler.waiting),
            "gen_throughput": self.gen_throughput,
            "decode_sum_seq_lens": sum(request.context_tokens for request in scheduler.running),
            "token_usage": used / capacity,
            "full_token_usage": used / capacity,
            "num_used_tokens": used,
            "kv_available_tokens": scheduler.kv_free,
            "kv_used_tokens": used,
            "num_prefill_bootstrap_queue_reqs": engine.count(Stage.BOOTSTRAP),
            "num_prefill_inflight_queue_reqs": engine.count(Stage.INFLIGHT),
            "num_decode_prealloc_queue_reqs": engine.count(Stage.PREALLOC),
            "num_decode_transfer_queue_reqs": engine.count(Stage.TRANSFER),
            "num_decode_deferred_kv_release_reqs": len(engine.intake.releasing),
            "prealloc_full_token_usage": transferring / capacity if engine.role == "decode" else 0.0,
            "utilization": self.utilization,
            "fwd_occupancy": math.nan,
            "new_token_ratio": scheduler.new_token_ratio,
            "is_cuda_graph": float(engine.graphs_captured),
            "num_retracted_reqs": self._retracted_since_report,
        }
        self._retracted_since_report = 0
        for name, value in shown.items():
            gauges[name].set(value)

    def loads(self, include: set[str] | None) -> dict[str, Any]:
        """One entry of /v1/loads.

        Args:
            include: sections asked for (core, memory, spec, lora, disagg, queues, all); None: all.

        Raises:
            ValueError: an unknown section.
        """
        if include is not None and not include <= set(_SECTIONS):
            unknown = include - set(_SECTIONS)
            raise ValueError(f"Invalid include sections: {unknown}. Valid options: {sorted(_SECTIONS)}")
        entry = self._snapshot if self._engine.in_pass or self._engine.paused else self._load()
        if include is None or "all" in include:
            return entry
        left_out = {name for name, section in _SECTION_OF.items() if section not in include}
        return {name: value for name, value in entry.items() if name not in left_out}

    def _load(self) -> dict[str, Any]:
        """All of one entry, as it is now."""
        engine, scheduler = self._engine, self._engine.scheduler
        decode = engine.role == "decode"
        capacity, used = scheduler.limits.kv_tokens, scheduler.kv_used
        stages = (Stage.WAITING, Stage.BOOTSTRAP) if not decode else (
            Stage.WAITING, Stage.PREALLOC, Stage.TRANSFER, Stage.RETRACTED)  # fmt: skip
        waiting = [request for request in engine.requests.values() if request.stage in stages]
        pending = [request for request in waiting if request.kv_tokens == 0]
        awaited = [request for request in waiting if request.stage in (Stage.PREALLOC, Stage.TRANSFER)]
        ready = [request for request in scheduler.prealloc if request.handshaken]
        total_tokens = used + _context(pending)
        uncomputed = 0
        if not decode:  # without those of a batch, as the plugin leaves them out
            prompts = [
                request for request in (*scheduler.waiting, *scheduler.unfinished) if not _of_batch(scheduler, request)
            ]
            uncomputed = sum(request.context_tokens - request.prefilled_tokens for request in prompts)
        entry: dict[str, Any] = {
            "timestamp": time.time(),
            "dp_rank": 0,
            "num_running_reqs": len(scheduler.running),
            "num_waiting_reqs": len(waiting),
            "num_waiting_uncached_tokens": uncomputed,
            "num_used_tokens": used,
            "num_total_tokens": total_tokens,
            "num_active_tokens": max(0, total_tokens - _context(awaited)) if decode else total_tokens,
            "num_prealloc_ready_tokens": _context(ready),
            "max_total_num_tokens": capacity,
            "max_running_requests": scheduler.limits.max_running_requests,
            "token_usage": round(used / capacity, 4),
            "gen_throughput": round(self.gen_throughput, 2),
            "cache_hit_rate": 0.0,
            "utilization": self.utilization,
            "total_prefill_uncached_tokens": self.prefill_uncached_tokens,
            "total_prefill_busy_us": self.prefill_busy_us,
            "decode_moments": list(self.decode_moments) if self.decode_moments[0] else None,
        }
        entry |= {
            "memory": self.memory(),
            "disaggregation": {
                "mode": engine.role,
                "prefill_bootstrap_queue_reqs": engine.count(Stage.BOOTSTRAP),
                "prefill_inflight_queue_reqs": engine.count(Stage.INFLIGHT),
                "decode_prealloc_queue_reqs": engine.count(Stage.PREALLOC),
                "decode_transfer_queue_reqs": engine.count(Stage.TRANSFER),
                "decode_retracted_queue_reqs": len(scheduler.retracted) if decode else 0,
                "kv_transfer_speed_gb_s": self._transfer_shown[0],
                "kv_transfer_latency_ms": self._transfer_shown[1],
            },
            "queues": {
                "waiting": len(scheduler.waiting), "grammar": 0, "paused": 0,
                "retracted": self._retracted_since_report, "prealloc_ready": len(ready),
            },
        }  # fmt: skip
        return entry

    def memory_usage(self) -> dict[str, Any]:
        """The same under the names of /server_info (scheduler_components/memory_usage.py)."""
        graph = {phase: self._engine.graph_memory_gb if phase == "decode" else 0.0 for phase in GRAPH_PHASES}
        return {
            "weight": WEIGHT_GB,
            "kvcache": KV_CACHE_GB,
            "startup_available": self._engine.options.sim_free_memory_gb,
            "token_capacity": self._engine.scheduler.limits.kv_tokens,
            "token_capacity_swa": None,
            "graph": graph,
        }

    def memory(self) -> dict[str, float]:
        """Memory of the engine; only the capacity is more than decoration."""
        return {
            "weight_gb": WEIGHT_GB,
            "kv_cache_gb": KV_CACHE_GB,
            "graph_gb": self._engine.graph_memory_gb,
            "token_capacity": self._engine.scheduler.limits.kv_tokens,
        }


def _of_batch(scheduler: Scheduler, request: Request) -> bool:
    return scheduler.order is not None and scheduler.order.is_batch(request)


def _context(requests: list[Request]) -> int:
    return sum(request.context_tokens for request in requests)
