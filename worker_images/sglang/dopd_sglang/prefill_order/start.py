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
    """Called once on each rank, when the scheduler is ready; never raises. On all ranks of a group, or on none."""
    ranks, metrics, control = None, None, None
    try:
        try:
            metrics = _metrics_of_first_rank()
        finally:  # an error of one rank is told below to those that wait for it
            ranks = _ranks(scheduler)  # of what the launch set, alike on all
        control = _start(scheduler, ranks, metrics)
    except Exception:
        log.exception("dopd: could not be started: prompts are in the engine's own order")
        _switched_off(metrics)
    if ranks is None:
        return None
    if _is_ready_everywhere(ranks, control):
        return control
    if control is not None:
        log.error("dopd: another rank could not be started: prompts are in the engine's own order")
        _switched_off(metrics)
    return None


def _ranks(scheduler: Any) -> Ranks:
    from sglang.srt.runtime_context import get_parallel

    parallel, group = get_parallel(), scheduler.tp_group
    return Ranks(parallel.tp_size, parallel.tp_rank, group.cpu_group, group.first_rank)


def _is_ready_everywhere(ranks: Ranks, control: Control | None) -> bool:
    """Ranks that order their prompts wait for each other, so one that does not would hold all up."""
    try:
        return ranks.all_ready(control is not None)
    except Exception:
        log.exception("dopd: the ranks could not agree: prompts are in the engine's own order")
        return False


def _switched_off(metrics: Metrics | None) -> None:
    if metrics is None:
        return
    metrics.set_policy(ENGINE_DEFAULT, active=False)
    for reason in ("error", "switched-off"):  # for good: an error alone is one of a pass
        metrics.fallbacks.labels(reason).inc()


def _metrics_of_first_rank() -> Metrics | None:
    from sglang.srt.runtime_context import get_parallel

    return new_metrics() if get_parallel().tp_rank == 0 and get_parallel().pp_rank == 0 else None


def _start(scheduler: Any, ranks: Ranks, metrics: Metrics | None) -> Control | None:
    obstacle = obstacle_to_order(scheduler)
    if obstacle:
        log.warning("dopd: prompts are in the engine's own order: this engine has %s", obstacle)
        if metrics:
            metrics.set_policy(ENGINE_DEFAULT, active=False)
            metrics.fallbacks.labels("condition").inc()
        return None
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
