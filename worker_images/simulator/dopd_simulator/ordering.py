"""Which order of prompts an engine goes by, and what it tells of it: a stand-in for dopd's plugin in SGLang.

As the plugin does, it reads the operator's file (`DOPD_SCHEDULING_FILE`, else the mounted folder) again when that has
changed, and keeps what it had where the file is bad or gone. Until a file was seen, the flags `--sim-order...` hold.
Service times are those of its own profile.
"""

import logging
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from dopd import __version__
from dopd.perf import EngineModel
from dopd.perf.prefill_times import service_times
from dopd_scheduling import make
from dopd_sglang.prefill_order import metric_names as names
from dopd_sglang.prefill_order.decision import MOST_REFUSED
from dopd_sglang.prefill_order.metrics import WAIT_BUCKETS_SECONDS
from dopd_sglang.prefill_order.settings import ENGINE_DEFAULT, Scheduling, SettingsFile
from dopd_simulator import SGLANG_VERSION
from dopd_simulator.clock import Clock
from dopd_simulator.metric_store import Counter, Families, Gauge, Histogram
from dopd_simulator.options import FIRST_COME, Options
from dopd_simulator.prefill_order import PrefillOrder
from dopd_simulator.request import Request

log = logging.getLogger(__name__)


class Ordering:
    """The order of one engine.

    Attributes:
        order: in use; None where prompts are taken as they come.
    """

    def __init__(self, options: Options, model: EngineModel, clock: Clock, families: Families) -> None:
        self._clock, self._model = clock, model
        self._file = SettingsFile()
        self._asked = Scheduling(
            policy=ENGINE_DEFAULT if options.sim_order == FIRST_COME else options.sim_order,
            ttft_seconds=options.sim_order_ttft_seconds,
            late_share=options.sim_order_late_share,
            most_unfinished=options.sim_order_most_unfinished,
        )
        self._metrics = OrderMetrics(families)
        self.order: PrefillOrder | None = None
        self._made = ("", False)
        self._take_over(seen=options.sim_order != FIRST_COME)

    def refresh(self) -> PrefillOrder | None:
        """Look at the file, at most once a second; returns the order in use."""
        if self._file.refresh(time.monotonic()):
            if self._file.error:
                log.error("settings not taken over, the last good ones stay: %s", self._file.error)
                self._metrics.fallbacks.inc(1, "settings")
            else:
                self._asked = self._file.current
                self._take_over(seen=True)
        return self.order

    def hopeless(self, now: float, waiting: Iterable[Request], unfinished: int) -> list[Request]:
        """Waiting requests to be ended early, if that is asked for; engine seconds."""
        if self.order is None or not self._asked.refuse_late:
            return []
        return self.order.hopeless(now, waiting, unfinished, MOST_REFUSED)

    def refused(self) -> None:
        """A request was ended early."""
        self._metrics.refused.inc(1)

    def began(self, beginning: Iterable[Request], waiting: Iterable[Request], now: float) -> None:
        """Requests go into their first prefill pass while others still wait; engine seconds."""
        if self.order is None:
            return
        begun = [request for request in beginning if not self.order.is_batch(request)]
        oldest = min((request.created for request in waiting if not self.order.is_batch(request)), default=now)
        for request in begun:
            self._metrics.wait.observe(self._clock.wall(now - request.created), self._length(request))
        self._metrics.overtakings.inc(sum(request.created > oldest for request in begun))

    def done(self, request: Request, now: float, unfinished: int) -> None:
        """The prefill of a request is done; so many others are computed in part."""
        if self.order is None or request.is_health_check:
            return
        if self.order.is_batch(request):
            self._metrics.batch_prompts.inc(1)
            self._metrics.batch_tokens.inc(request.prompt_tokens)
            return
        length = self._length(request)
        self._metrics.prompts.inc(1, length)
        if self._clock.wall(now - request.created) > self._asked.ttft_seconds:
            self._metrics.late.inc(1, length)
        self._metrics.unfinished.set(unfinished)

    def _length(self, request: Request) -> str:
        return "long" if request.prompt_tokens > self._asked.predicted_tokens else "short"

    def _take_over(self, seen: bool) -> None:
        asked = self._asked
        active = asked.policy != ENGINE_DEFAULT
        if seen:
            self._metrics.set_policy(asked.policy, active)
        if not active:
            self.order = None
            return
        settings = asked.for_order(service_times(self._model))
        settings = replace(
            settings,
            ttft_seconds=asked.ttft_seconds / self._clock.wall(1.0),
            batch_wait_seconds=asked.batch_wait_seconds / self._clock.wall(1.0),
        )
        if self.order is not None and self._made == (asked.policy, asked.batch):
            self.order.order.settings = settings  # what the late are owed stays
        else:
            self.order = PrefillOrder(make(asked.policy, settings, batch=asked.batch), asked.batch)
            self._made = (asked.policy, asked.batch)


class OrderMetrics:
    """Under the names of the plugin; a simulated engine has one process, so no labels of ranks."""

    def __init__(self, families: Families) -> None:
        none: dict[str, Any] = {}
        info = ("policy", "plugin_version", "sglang_version")
        self._info = families.add(Gauge(names.INFO, "The order of prompts in prefill", none, info))
        self._active = families.add(Gauge(names.ACTIVE, "1 if an order of dopd's is in use", none))
        self._policy: str | None = None

        def counter(name: str, text: str, *labels: str) -> Counter:
            return families.add(Counter(name.removesuffix("_total"), text, none, labels))

        self.prompts = counter(names.PROMPTS, "Prompts whose prefill is done", "length")
        self.late = counter(names.LATE, "Of them, those done after the objective", "length")
        self.wait = families.add(
            Histogram(names.WAIT, "From arrival until prefill began", none, WAIT_BUCKETS_SECONDS, ("length",))
        )
        self.overtakings = counter(names.OVERTAKINGS, "Prompts begun while one that came earlier still waited")
        self.unfinished = families.add(Gauge(names.UNFINISHED, "Prompts of which a part is computed", none))
        self.batch_prompts = counter(names.BATCH_PROMPTS, "Prompts without a deadline whose prefill is done")
        self.batch_tokens = counter(names.BATCH_TOKENS, "Tokens of these")
        self.refused = counter(names.REFUSED, "Prompts ended early that could not be on time")
        self.fallbacks = counter(names.FALLBACKS, "Times that the engine's own order was fallen back to", "reason")

    def set_policy(self, policy: str, active: bool) -> None:
        """Say which order is in use."""
        self._active.set(int(active))
        versions = (__version__, SGLANG_VERSION)
        if self._policy is not None:
            self._info.set(0, self._policy, *versions)
        self._policy = policy
        self._info.set(1, policy, *versions)
        for length in ("short", "long"):
            self.prompts.inc(0, length)
            self.late.inc(0, length)
        self.refused.inc(0)
