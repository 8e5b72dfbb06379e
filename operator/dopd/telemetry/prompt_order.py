"""What prefill workers say of the order in which they compute prompts: a few gauges among their `/metrics`.

Asked of each worker and not of Prometheus: the answer belongs to a pod, static resources have it too, and it is there
while Prometheus is away. It changes rarely, so a worker is asked again only after a while.

The door for it: few lines of few short labels, or the named failure of that one worker. What they say ends up in a
condition.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from dopd.cluster.podhttp import PodHttp, PodHttpError
from dopd.telemetry.addresses import engine_port
from dopd.telemetry.doors import BadAnswer, printable
from dopd.telemetry.patience import LOOK_SECONDS, answers_within

_LOG = logging.getLogger(__name__)

AGAIN_SECONDS = 30.0
"""After an answer, and after none: one that hangs must not hold up each pass."""
PROVED_SECONDS = 120.0
"""What a worker told holds for so long while it tells nothing: as late as samples of other signals may be, too
(`windows.LONGEST_LAG_SECONDS`). A worker that is busy misses one answer in hundreds."""
KEPT_SECONDS = AGAIN_SECONDS + PROVED_SECONDS
"""For so long it is known when a worker was asked last; of one that has gone nothing is kept."""
MOST_LINES, LONGEST_LINE = 200, 1000
"""Of the state; a worker of many processes has a dozen for each."""
MOST_VALUES, LONGEST_VALUE = 16, 63
"""Of a label."""

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
    "dopd_prefill_batch_prompts_total": frozenset(),
    "dopd_prefill_batch_tokens_total": frozenset(),
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
        BadAnswer: it is not what Prometheus reads, or says more than an order has to say.
    """
    lines = [line for line in text.split("\n") if line.startswith(_OF_STATE)]
    if len(lines) > MOST_LINES or any(len(line) > LONGEST_LINE for line in lines):
        raise BadAnswer(f"{_OF_STATE}*: more than {MOST_LINES} lines, or longer ones than {LONGEST_LINE} characters")
    try:
        families = list(text_string_to_metric_families("\n".join([*lines, ""])))
    except Exception as error:  # the parser's own errors are of several kinds, by what it stumbles over
        raise BadAnswer(f"{_OF_STATE}*: {type(error).__name__} {printable(str(error))}") from None
    samples = [sample for family in families for sample in family.samples]

    def positive(name: str, label: str) -> frozenset[str]:
        found = {s.labels.get(label, "") for s in samples if s.name == name and math.isfinite(s.value) and s.value > 0}
        if len(found) > MOST_VALUES or any(len(v) > LONGEST_VALUE or not v.isprintable() for v in found):
            expected = f"at most {MOST_VALUES} values of at most {LONGEST_VALUE} printable characters"
            raise BadAnswer(f"{name}: label {label}, expected {expected}")
        return frozenset(found)

    active = [sample.value for sample in samples if sample.name == "dopd_prefill_order_active"]
    return PromptOrder(
        policies=positive("dopd_prefill_order_info", "policy"),
        active=bool(active) and min(active) >= 1,
        fallbacks=tuple(sorted(positive("dopd_prefill_order_fallbacks_total", "reason"))),
    )


@dataclass(frozen=True)
class _Known:
    asked_seconds: float
    proved_seconds: float = -math.inf
    order: PromptOrder | None = None


class PromptOrderReader:
    """Asks workers, each at most every `AGAIN_SECONDS`; what one has told holds for `PROVED_SECONDS`.

    Args:
        http: reaches pods.
        now: seconds since the epoch.
    """

    def __init__(self, http: PodHttp, now: Callable[[], float]) -> None:
        self._http, self._now = http, now
        self._known: dict[str, _Known] = {}

    async def read(self, pods: Sequence[dict[str, Any]]) -> dict[str, PromptOrder]:
        """Orders by pod name; a pod that has not answered for `PROVED_SECONDS` is absent."""
        now = self._now()
        self._known = {uid: one for uid, one in self._known.items() if 0 <= now - one.asked_seconds < KEPT_SECONDS}
        await answers_within(LOOK_SECONDS, partial(self._ask, now), [pod for pod in pods if self._due(pod, now)])
        known = {pod["metadata"]["name"]: self._known.get(pod["metadata"]["uid"], _Known(now)) for pod in pods}
        return {
            name: one.order
            for name, one in known.items()
            if one.order is not None and now - one.proved_seconds < PROVED_SECONDS
        }

    def _due(self, pod: dict[str, Any], now_seconds: float) -> bool:
        known = self._known.get(pod["metadata"]["uid"])
        return known is None or now_seconds - known.asked_seconds >= AGAIN_SECONDS

    async def _ask(self, now_seconds: float, pod: dict[str, Any]) -> None:
        uid = pod["metadata"]["uid"]
        # Before the answer: one that hangs until the look is given up has been asked, too.
        self._known[uid] = replace(self._known.get(uid, _Known(now_seconds)), asked_seconds=now_seconds)
        try:
            order = parse_prompt_order(await self._http.get_text(pod, engine_port(pod), "/metrics"))
            self._known[uid] = _Known(now_seconds, now_seconds, order)
        except PodHttpError:
            pass  # condition SchedulingActive says so, once the proof has grown old
        except BadAnswer as error:
            _LOG.warning("pod %s /metrics: %s", pod["metadata"]["name"], error)
