"""What single engines say of themselves: `/v1/loads` (SGLang >= 0.5.9)."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dopd.api.names import ENGINE_PORT
from dopd.cluster.podhttp import PodHttp, PodHttpError

CONCURRENT_POLLS = 32
_QUEUES = (
    "prefill_bootstrap_queue_reqs",
    "prefill_inflight_queue_reqs",
    "decode_prealloc_queue_reqs",
    "decode_transfer_queue_reqs",
    "decode_retracted_queue_reqs",
)


@dataclass(frozen=True)
class EngineLoad:
    """Load of one engine now, summed over its data-parallel ranks.

    Attributes:
        running: requests in the batch.
        waiting: requests queued, whatever the queue.
        waiting_tokens: uncached prompt tokens queued.
        kv_usage: share of the KV cache in use, 0 to 1.
    """

    running: int
    waiting: int
    waiting_tokens: int
    kv_usage: float

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
                    await http.get_json(pod, ENGINE_PORT, "/v1/loads", {"include": "core,disagg,queues"})
                )
            except (PodHttpError, KeyError, TypeError, ValueError):
                return None

    loads = await asyncio.gather(*(one(pod) for pod in pods))
    return {pod["metadata"]["name"]: load for pod, load in zip(pods, loads, strict=True) if load is not None}


def parse_loads(answer: dict[str, Any]) -> EngineLoad:
    """Read the answer of `/v1/loads`.

    Raises:
        KeyError, TypeError, ValueError: it is not what SGLang answers.
    """
    ranks = answer["loads"]
    waiting = sum(int(rank["num_waiting_reqs"]) for rank in ranks)
    waiting += sum(int((rank.get("disaggregation") or {}).get(queue) or 0) for rank in ranks for queue in _QUEUES)
    return EngineLoad(
        running=sum(int(rank["num_running_reqs"]) for rank in ranks),
        waiting=waiting,
        waiting_tokens=sum(int(rank.get("num_waiting_uncached_tokens") or 0) for rank in ranks),
        kv_usage=max(float(rank.get("token_usage") or 0.0) for rank in ranks),
    )
