"""What prefill workers say of the order in which they compute prompts: a few gauges among their `/metrics`.

Asked of each worker and not of Prometheus: the answer belongs to a pod, static resources have it too, and it is there
while Prometheus is away. It changes rarely, so a worker is asked again only after a while.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from dopd.cluster.podhttp import PodHttp, PodHttpError
from dopd.telemetry.addresses import engine_port

AGAIN_SECONDS = 30.0
"""After an answer, and after none: one that hangs must not hold up each pass."""
CONCURRENT_READS = 16

PLUGIN_METRICS: Mapping[str, frozenset[str]] = {
    "dopd_prefill_order_info": frozenset({"policy", "plugin_version", "sglang_version"}),
    "dopd_prefill_order_active": frozenset(),
    "dopd_prefill_order_fallbacks_total": frozenset({"reason"}),
    "dopd_prefill_prompts_total": frozenset({"length"}),
    "dopd_prefill_late_prompts_total": frozenset({"length"}),
    "dopd_prefill_wait_seconds": frozenset({"length"}),
    "dopd_prefill_overtakings_total": frozenset(),
    "dopd_prefill_unfinished_prompts": frozenset(),
    "dopd_prefill_refused_prompts_total": frozenset(),
}
"""All that the plugin exports on a prefill engine's `/metrics`, with its own labels."""

_OF_STATE = "dopd_prefill_order_"


@dataclass(frozen=True)
class PromptOrder:
    """How one worker orders its prompts.

    Attributes:
        policies: that the plugin was told, by its own names; more than one only if its processes differ.
        active: whether the plugin orders the prompts; False while the engine's own policy does.
        fallbacks: why it fell back so far.
    """

    policies: frozenset[str] = frozenset()
    active: bool = False
    fallbacks: tuple[str, ...] = ()

    @property
    def has_plugin(self) -> bool:
        """Whether the plugin is loaded."""
        return bool(self.policies)


def parse_prompt_order(text: str) -> PromptOrder:
    """Read an engine's `/metrics`; of several processes of a worker all must be active.

    Raises:
        ValueError: it is not what Prometheus reads.
    """
    lines = [line for line in text.splitlines() if line.startswith(_OF_STATE)]
    samples = [
        sample for family in text_string_to_metric_families("\n".join([*lines, ""])) for sample in family.samples
    ]

    def positive(name: str, label: str) -> set[str]:
        return {s.labels.get(label, "") for s in samples if s.name == name and math.isfinite(s.value) and s.value > 0}

    active = [sample.value for sample in samples if sample.name == "dopd_prefill_order_active"]
    return PromptOrder(
        policies=frozenset(positive("dopd_prefill_order_info", "policy")),
        active=bool(active) and min(active) >= 1,
        fallbacks=tuple(sorted(positive("dopd_prefill_order_fallbacks_total", "reason"))),
    )


class PromptOrderReader:
    """Asks workers, each at most every `AGAIN_SECONDS`.

    Args:
        http: reaches pods.
        now: seconds since the epoch.
    """

    def __init__(self, http: PodHttp, now: Callable[[], float]) -> None:
        self._http, self._now = http, now
        self._known: dict[str, tuple[float, PromptOrder | None]] = {}
        self._gate = asyncio.Semaphore(CONCURRENT_READS)

    async def read(self, pods: Sequence[dict[str, Any]]) -> dict[str, PromptOrder]:
        """Orders by pod name; a pod that does not answer is absent."""
        now = self._now()
        self._known = {uid: known for uid, known in self._known.items() if 0 <= now - known[0] < AGAIN_SECONDS}
        found = await asyncio.gather(*(self._one(pod, now) for pod in pods))
        return {pod["metadata"]["name"]: order for pod, order in zip(pods, found, strict=True) if order is not None}

    async def _one(self, pod: dict[str, Any], now_seconds: float) -> PromptOrder | None:
        uid = pod["metadata"]["uid"]
        if uid in self._known:
            return self._known[uid][1]
        order: PromptOrder | None = None
        async with self._gate:
            with contextlib.suppress(PodHttpError, ValueError):
                order = parse_prompt_order(await self._http.get_text(pod, engine_port(pod), "/metrics"))
        self._known[uid] = (now_seconds, order)
        return order
