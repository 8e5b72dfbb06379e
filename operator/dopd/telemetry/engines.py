"""What single engines say of themselves: `/v1/loads` (SGLang >= 0.5.8)."""

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dopd.cluster.podhttp import PodHttp, PodHttpError
from dopd.telemetry.addresses import engine_port

CONCURRENT_POLLS = 32


@dataclass(frozen=True)
class Counters:
    """What an engine has done since it started, summed over its data-parallel ranks.

    Attributes:
        prefill_tokens: uncached prompt tokens computed.
        prefill_busy_seconds: time that took.
        decode_moments: over all decode steps: their number, sums of batch size, step seconds, squared batch size, and
            batch size times step seconds; zeros from an engine that does not report them (SGLang < 0.5.17).
    """

    prefill_tokens: float
    prefill_busy_seconds: float
    decode_moments: tuple[float, float, float, float, float]


@dataclass(frozen=True)
class EngineLoad:
    """Load of one engine now, summed over its data-parallel ranks.

    Attributes:
        running: requests in the batch.
        waiting: requests in any queue, and on a prefill worker those whose KV cache is still being pulled.
        waiting_for_slot: requests that this engine itself keeps waiting: on a decode worker for a place in the batch or
            in the KV cache. Those that wait for their prefill are not among them.
        waiting_tokens: uncached prompt tokens queued.
        kv_usage: share of the KV cache in use, 0 to 1.
        counters: what it has done so far.
    """

    running: int
    waiting: int
    waiting_for_slot: int
    waiting_tokens: int
    kv_usage: float
    counters: Counters

    @property
    def idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return self.running == 0 and self.waiting == 0


async def read_loads(http: PodHttp, pods: Sequence[dict[str, Any]]) -> dict[str, EngineLoad]:
    """Loads by pod name; a pod that does not answer is absent."""
    gate = asyncio.Semaphore(CONCURRENT_POLLS)

    async def one(pod: dict[str, Any]) -> EngineLoad | None:
        async with gate:
            try:
                return parse_loads(
                    await http.get_json(pod, engine_port(pod), "/v1/loads", {"include": "core,disagg,queues"})
                )
            except (PodHttpError, KeyError, TypeError, ValueError):
                return None

    loads = await asyncio.gather(*(one(pod) for pod in pods))
    return {pod["metadata"]["name"]: load for pod, load in zip(pods, loads, strict=True) if load is not None}


def parse_loads(answer: dict[str, Any]) -> EngineLoad:
    """Read the answer of `/v1/loads` (sglang 0.5.23 scheduler_components/load_inquirer.py).

    `num_waiting_reqs` counts every queue of its role but the one in which a prefill worker keeps requests whose
    KV cache is on its way.

    Raises:
        KeyError, TypeError, ValueError: it is not what SGLang answers.
    """
    ranks = answer["loads"]

    def total(field: str, section: str = "") -> int:
        return sum(int(((rank.get(section) or {}) if section else rank).get(field) or 0) for rank in ranks)

    slots = total("waiting", "queues") + total("prealloc_ready", "queues")
    return EngineLoad(
        running=sum(int(rank["num_running_reqs"]) for rank in ranks),
        waiting=sum(int(rank["num_waiting_reqs"]) for rank in ranks)
        + total("prefill_inflight_queue_reqs", "disaggregation"),
        waiting_for_slot=slots + total("decode_retracted_queue_reqs", "disaggregation"),
        waiting_tokens=total("num_waiting_uncached_tokens"),
        kv_usage=max(_numbers(ranks, "token_usage")),
        counters=_counters(ranks),
    )


def _counters(ranks: Sequence[dict[str, Any]]) -> Counters:
    moments = [_finite("decode_moments", rank.get("decode_moments") or (0.0,) * 5)[:5] for rank in ranks]
    steps, batch, micros, squares, batch_micros = (sum(column) for column in zip(*moments, strict=True))
    return Counters(
        prefill_tokens=sum(_numbers(ranks, "total_prefill_uncached_tokens")),
        prefill_busy_seconds=sum(_numbers(ranks, "total_prefill_busy_us")) / 1e6,
        decode_moments=(steps, batch, micros / 1e6, squares, batch_micros / 1e6),
    )


def _numbers(ranks: Sequence[dict[str, Any]], field: str) -> list[float]:
    """The field of each rank; 0 where a rank does not report it."""
    return _finite(field, [rank.get(field) or 0.0 for rank in ranks])


def _finite(field: str, values: Iterable[Any]) -> list[float]:
    numbers = [float(value) for value in values]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{field} is {numbers}; expected numbers")
    return numbers
