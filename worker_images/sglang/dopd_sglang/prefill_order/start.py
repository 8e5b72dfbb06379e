"""Takes a scheduler under dopd's order, or says why not."""

import logging
from collections.abc import Callable
from typing import Any

from dopd_sglang.prefill_order.conditions import obstacle_to_order, obstacle_to_parking
from dopd_sglang.prefill_order.control import Control
from dopd_sglang.prefill_order.decision import Ranks
from dopd_sglang.prefill_order.metrics import Metrics
from dopd_sglang.prefill_order.settings import ENGINE_DEFAULT

log = logging.getLogger(__name__)


def start(scheduler: Any) -> Control | None:
    """Called once, when the scheduler is ready; never raises."""
    metrics = None
    try:
        metrics = _metrics_of_first_rank()
        return _start(scheduler, metrics)
    except Exception:
        log.exception("dopd: could not be started: prompts are in the engine's own order")
        if metrics:
            metrics.set_policy(ENGINE_DEFAULT, active=False)
            for reason in ("error", "switched-off"):  # for good: an error alone is one of a pass
                metrics.fallbacks.labels(reason).inc()
        return None


def _metrics_of_first_rank() -> Metrics | None:
    from sglang.srt.runtime_context import get_parallel

    return new_metrics() if get_parallel().tp_rank == 0 and get_parallel().pp_rank == 0 else None


def _start(scheduler: Any, metrics: Metrics | None) -> Control | None:
    from sglang.srt.runtime_context import get_parallel

    parallel = get_parallel()
    obstacle = obstacle_to_order(scheduler)
    if obstacle:
        log.warning("dopd: prompts are in the engine's own order: this engine has %s", obstacle)
        if metrics:
            metrics.set_policy(ENGINE_DEFAULT, active=False)
            metrics.fallbacks.labels("condition").inc()
        return None
    group = scheduler.tp_group
    ranks = Ranks(parallel.tp_size, parallel.tp_rank, group.cpu_group, group.first_rank)
    alone = obstacle_to_parking(scheduler)
    control = Control(scheduler, ranks, metrics, _prefix_lookup(scheduler.tree_cache), can_park=alone is None)
    log.info("dopd: prompts are in dopd's order: %s", control.planner.file.current)
    if alone:
        log.warning("dopd: one prompt at a time is computed in part, not several: this engine has %s", alone)
    return control


def new_metrics() -> Metrics:
    """The process's metrics, with the versions of both sides."""
    from importlib.metadata import PackageNotFoundError, version

    import sglang

    try:
        own = version("dopd-sglang")
    except PackageNotFoundError:  # found by its path
        own = "unknown"
    return Metrics(own, str(sglang.__version__))


def _prefix_lookup(tree_cache: Any) -> Callable[[Any], None] | None:
    if getattr(tree_cache, "disable", True) or not tree_cache.supports_prefix_sharing():
        return None
    from sglang.srt.mem_cache.common import match_kv_cache

    def look_up(request: Any) -> None:
        match_kv_cache(request, tree_cache)

    return look_up
