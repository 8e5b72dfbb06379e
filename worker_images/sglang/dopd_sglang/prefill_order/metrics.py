"""The plugin's metrics, written as SGLang writes its own: prometheus_client with several processes."""

from collections.abc import Sequence
from typing import Any

from dopd_sglang.prefill_order import metric_names as names

WAIT_BUCKETS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 40, 80, 160, 320)
"""Fine where objectives of the time to first token usually are."""

LENGTHS = ("short", "long")
REASONS = ("version", "condition", "settings", "error", "switched-off")
"""Why the engine's own order is, or was, used: an SGLang that is not known; an engine that can not be ordered safely; a
settings file that can not be read; an error of the plugin, for one pass; errors that switched it off for good, or one
at its start."""


class Metrics:
    """Created in the scheduler process of rank 0, once SGLang has set its folder for metrics.

    Args:
        plugin_version: of this package.
        sglang_version: of the engine.
        registry: another one than the process's own, for tests.
    """

    def __init__(self, plugin_version: str, sglang_version: str, registry: Any = None) -> None:
        from prometheus_client import REGISTRY, Counter, Gauge, Histogram  # not before SGLang has set its folder

        to: dict[str, Any] = {"registry": registry or REGISTRY}
        self._versions = {"plugin_version": plugin_version, "sglang_version": sglang_version}
        self._policy: str | None = None
        self._unfinished_count = 0
        info = ("policy", *self._versions)
        self._info = Gauge(names.INFO, "The order of prompts in prefill", info, multiprocess_mode="max", **to)
        self._active = Gauge(names.ACTIVE, "1 if dopd orders the prompts", multiprocess_mode="min", **to)
        self.prompts = Counter(names.PROMPTS, "Prompts whose prefill is done", ("length",), **to)
        self.late = Counter(names.LATE, "Of them, those done after the objective", ("length",), **to)
        self.wait = Histogram(
            names.WAIT, "From arrival until prefill began", ("length",), buckets=WAIT_BUCKETS_SECONDS, **to
        )
        self.overtakings = Counter(names.OVERTAKINGS, "Prompts begun while one that came earlier still waited", **to)
        self._unfinished = Gauge(names.UNFINISHED, "Prompts of which a part is computed", multiprocess_mode="sum", **to)
        self.refused = Counter(names.REFUSED, "Prompts ended early that could not be on time", **to)
        self.batch_prompts = Counter(names.BATCH_PROMPTS, "Prompts without a deadline whose prefill is done", **to)
        self.batch_tokens = Counter(names.BATCH_TOKENS, "Tokens of these", **to)
        self.fallbacks = Counter(
            names.FALLBACKS, "Times that the engine's own order was fallen back to", ("reason",), **to
        )
        for length in LENGTHS:  # a series that is absent can not be told from one that is not scraped
            for metric in (self.prompts, self.late, self.wait):
                metric.labels(length)
        for reason in REASONS:
            self.fallbacks.labels(reason)

    def set_policy(self, policy: str, active: bool) -> None:
        """Say which order is in use; cheap when nothing has changed."""
        self._active.set(int(active))
        if policy == self._policy:
            return
        if self._policy is not None:
            self._info.labels(self._policy, *self._versions.values()).set(0)
        self._info.labels(policy, *self._versions.values()).set(1)
        self._policy = policy

    def set_unfinished(self, count: int) -> None:
        """Prompts of which a part is computed; cheap when nothing has changed."""
        if count != self._unfinished_count:
            self._unfinished.set(count)
            self._unfinished_count = count

    def began(self, waited: Sequence[tuple[str, float]], overtakings: int) -> None:
        """A pass was composed.

        Args:
            waited: of each prompt that begins with it, its length and for how many seconds it had waited.
            overtakings: how many of them left behind one that came earlier.
        """
        for length, seconds in waited:
            self.wait.labels(length).observe(seconds)
        if overtakings:
            self.overtakings.inc(overtakings)

    def batch_finished(self, tokens: int) -> None:
        """The prefill of a prompt without a deadline is done; it counts nowhere else."""
        self.batch_prompts.inc()
        self.batch_tokens.inc(tokens)

    def finished(self, length: str, late: bool) -> None:
        """The prefill of a prompt is done."""
        self.prompts.labels(length).inc()
        if late:
            self.late.labels(length).inc()
