"""The policies behind the seam of NVIDIA Dynamo's simulator: dopd's autoscaler, and Dynamo's own planner.

Ours sees what the simulator's telemetry gives: request rate, mean lengths, mean TTFT and ITL, waiting tokens per
worker, counts of workers. It is not told the variance of lengths (prompts are assumed to vary by their mean, as
published traces do) nor which requests were late.
"""

import importlib
import json
from typing import Any

from dopd.autoscaler import Autoscaler, Sample
from dopd.perf import EngineModel
from dopd.planning import Demand, Objectives, PerRole, Policy, RoleBounds, Workers
from dopd.planning.bounds import Pair

PLANNER = {
    "mode": "disagg", "optimization_target": "sla", "backend": "vllm", "load_predictor": "arima",
    "enable_throughput_scaling": True, "enable_load_scaling": True, "throughput_adjustment_interval_seconds": 60,
    "load_adjustment_interval_seconds": 5, "max_gpu_budget": -1, "min_endpoint": 1, "prefill_engine_num_gpu": 1,
    "decode_engine_num_gpu": 1, "report_interval_hours": None,
}  # fmt: skip
"""Dynamo's planner with both layers; the objectives are filled in."""


class DopdPolicy:
    """The autoscaler behind the simulator's seam."""

    def __init__(self, model: EngineModel, objectives: Objectives, interval_seconds: float) -> None:
        self._model = model
        self._policy = Policy(
            objectives=objectives,
            prefill=RoleBounds(1, 200),
            decode=RoleBounds(1, 200),
            interval_seconds=interval_seconds,
        )
        self._autoscaler = Autoscaler()
        self._windows: list[tuple[float, float, float, float]] = []

    def initial_tick_ms(self) -> float:
        """First look, after one interval."""
        return self._policy.interval_seconds * 1e3

    def on_tick(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """One look: telemetry in, targets out."""
        traffic, now = metrics["traffic"], metrics["now_ms"] / 1e3
        demand = self._demand(traffic)
        window_seconds = sum(seconds for seconds, *_ in self._windows)
        self._autoscaler.observe(Sample(now, demand, None, window_seconds), self._model, self._policy)
        workers = PerRole(_prefill(metrics), _decode(metrics))
        decision = self._autoscaler.decide(workers, now, self._model, self._policy)
        return {
            "target_prefill": decision.prefill,
            "target_decode": decision.decode,
            "next_tick_ms": metrics["now_ms"] + decision.next_look_seconds * 1e3,
        }

    def _demand(self, traffic: dict[str, Any]) -> Demand:
        """Means over the last three looks, as a rate over 45 s in Prometheus would be."""
        count = float(traffic["num_req"])
        self._windows.append((traffic["duration_s"], count, count * traffic["avg_isl"], count * traffic["avg_osl"]))
        self._windows = self._windows[-3:]
        seconds, requests, inputs, outputs = (sum(column) for column in zip(*self._windows, strict=True))
        if not requests:
            return Demand.none()
        mean = inputs / requests
        return Demand(requests / seconds, mean, 2 * mean**2, outputs / requests)


def _prefill(metrics: dict[str, Any]) -> Workers:
    waiting = sum(snapshot["sum_queued_prefill_tokens"] for snapshot in metrics["prefill_fpm_snapshots"])
    return Workers(
        serving=metrics["active_prefill_count"],
        starting=metrics["starting_prefill_count"],
        draining=metrics["draining_prefill_count"],
        waiting_tokens=float(waiting),
    )


def _decode(metrics: dict[str, Any]) -> Workers:
    waiting = sum(snapshot["num_queued_decode"] for snapshot in metrics["decode_fpm_snapshots"])
    slots = metrics["active_decode_count"]
    return Workers(
        serving=slots,
        starting=metrics["starting_decode_count"],
        draining=metrics["draining_decode_count"],
        # One request on its way to each worker is the hand-over itself, not a queue.
        waiting_requests=float(max(0, waiting - 4 * slots)),
    )


class Recorded:
    """A policy behind the simulator's seam, with a record of its targets.

    Attributes:
        timeline: (seconds, prefill target, decode target) at each change.
    """

    def __init__(self, policy: Any, start: Pair) -> None:
        self._policy = policy
        self.timeline: list[tuple[float, int, int]] = [(0.0, *start)]

    def initial_tick_ms(self) -> float:
        """First look."""
        return float(self._policy.initial_tick_ms())

    def on_tick(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """One look; a target of None means the present one."""
        answer: dict[str, Any] = self._policy.on_tick(metrics)
        _, prefill, decode = self.timeline[-1]
        targets = (answer["target_prefill"] or prefill, answer["target_decode"] or decode)
        if targets != (prefill, decode):
            self.timeline.append((metrics["now_ms"] / 1e3, *targets))
        return answer


def dynamo_policy(model: EngineModel, config: dict[str, Any], prefill: Any, decode: Any) -> Any:
    """Dynamo's own planner, taught the same profile."""
    metrics = importlib.import_module("dynamo.common.forward_pass_metrics")
    adapter = importlib.import_module("dynamo.planner.offline.replay_adapter")
    types = importlib.import_module("dynamo.planner.core.types")
    planner = importlib.import_module("dynamo.planner.config.planner_config").PlannerConfig
    caps = importlib.import_module("dynamo.replay.main")._engine_caps
    settings = planner.from_config_arg(json.dumps(PLANNER | config))
    settings.advisory = True
    capabilities = types.WorkerCapabilities(prefill=caps(prefill), decode=caps(decode))
    policy = adapter.create_replay_planner_adapter(planner_config=settings, capabilities=capabilities)

    def sample(seconds: float, **scheduled: int) -> Any:
        requests = metrics.ScheduledRequestMetrics(**scheduled)
        return metrics.ForwardPassMetrics(wall_time=seconds, scheduled_requests=requests)

    policy.install_benchmark_fpms(
        prefill_fpms=[
            sample(model.prefill_seconds(tokens), num_prefill_requests=1, sum_prefill_tokens=tokens)
            for tokens in range(100, 8193, 1000)
        ],
        decode_fpms=[
            sample(model.itl_seconds(batch, c), num_decode_requests=batch, sum_decode_kv_tokens=batch * c)
            for c in (500, 2000, 4000, 8000)
            for batch in range(1, model.max_running_requests + 1, model.max_running_requests // 8)
            if batch * c <= model.kv_tokens
        ],
    )
    policy.start()
    return policy
