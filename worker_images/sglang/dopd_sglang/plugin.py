"""The entry point that SGLang calls in each of its processes (group `sglang.srt.plugins`).

Nothing is touched unless the SGLang is one that is known and its methods look as they are known to: else prompts are in
the engine's own order, one line in the log says so, and so does `dopd_prefill_order_active`.
"""

import inspect
import logging
import multiprocessing
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dopd_sglang.versions import KNOWN

log = logging.getLogger(__name__)

SCHEDULER_MODULE = "sglang.srt.managers.scheduler"


@dataclass(frozen=True)
class Target:
    """A method of SGLang, and its parameters as the plugin knows them."""

    path: str
    parameters: tuple[str, ...]


_SCHEDULER = f"{SCHEDULER_MODULE}.Scheduler"
_POLICY = "sglang.srt.managers.schedule_policy.SchedulePolicy"
_ADDER = "sglang.srt.managers.schedule_policy.PrefillAdder"

RUN = Target(f"{_SCHEDULER}.run_event_loop", ("self",))
COMPOSE = Target(f"{_SCHEDULER}._get_new_batch_prefill_raw", ("self", "prefill_delayer_single_pass", "running_batch"))
RECORD = Target(f"{_SCHEDULER}._record_step_counters", ("self", "batch", "result"))
SORT = Target(f"{_POLICY}.calc_priority", ("self", "waiting_queue", "running_batch", "processed_tokens"))
CHUNK_LIMIT = Target(
    f"{_POLICY}.shortest_prefill_chunk_limit", ("self", "chunked_req", "waiting_queue", "budget", "page_size")
)
ADD = Target(f"{_ADDER}.add_one_req", ("self", "req", "has_chunked_req", "truncation_align_size"))
SELECT = Target(
    f"{_ADDER}._select_prefill_admission",
    (
        "self",
        "req",
        "total_tokens",
        "host_hit_length",
        "swa_host_hit_length",
        "truncation_align_size",
        "has_chunked_req",
    ),
)
GO_ON = Target(f"{_ADDER}.add_chunked_req", ("self", "req"))
STASH = Target(f"{_SCHEDULER}.process_prefill_chunk", ("self", "last_batch", "running_batch"))
ABORT = Target(f"{_SCHEDULER}.process_pending_chunked_abort", ("self",))
INFLIGHT = Target(f"{_SCHEDULER}.collect_inflight_reqs", ("self",))
_PARTS = "sglang.srt.managers.scheduler_components"
OWNERS = Target(f"{_PARTS}.invariant_checker.SchedulerInvariantChecker._requests_owning_rows", ("self",))
_INQUIRER = f"{_PARTS}.load_inquirer.SchedulerLoadInquirer"
PENDING = Target(f"{_INQUIRER}._get_num_pending_tokens", ("self", "chunk_deduct"))
UNCACHED = Target(f"{_INQUIRER}.get_num_waiting_uncached_tokens", ("self",))
STATE = Target("sglang.srt.observability.req_time_stats.APIServerReqTimeStats.__getstate__", ("self",))


def register() -> None:
    """Surround SGLang's methods in the processes that matter: each scheduler, and the one that receives requests."""
    if multiprocessing.parent_process() is None:
        _register_arrival()
    elif SCHEDULER_MODULE in sys.modules:
        _register_order()


def obstacle(version: str, targets: list[Target], resolve: Callable[[str], Any] = pkgutil.resolve_name) -> str | None:
    """Why this SGLang is not one that the plugin knows; None if it is."""
    if version not in KNOWN:
        return f"SGLang {version} is not one of those that are known: {', '.join(KNOWN)}"
    for target in targets:
        owner, name = target.path.rsplit(".", 1)
        try:
            parameters = tuple(inspect.signature(getattr(resolve(owner), name)).parameters)
        except (AttributeError, ImportError, TypeError, ValueError) as error:  # of inspect: no function, or a builtin
            return f"{target.path} is not there: {error}"
        if parameters != target.parameters:
            return f"{target.path} takes {', '.join(parameters)}, not {', '.join(target.parameters)}"
    return None


def _register_arrival() -> None:
    """So that the wait for the scheduler counts: a request's arrival goes along with it."""
    import sglang
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    from dopd_sglang.prefill_order import hooks

    reason = obstacle(str(sglang.__version__), [STATE])
    if reason:
        log.warning("dopd: prompts arrive when the scheduler reads them: %s", reason)
        return
    HookRegistry.register(STATE.path, hooks.arrival_travels, HookType.AFTER)


def _register_order() -> None:
    import sglang
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    from dopd_sglang.prefill_order import hooks

    around = {
        RUN: hooks.run_event_loop,
        COMPOSE: hooks.compose,
        RECORD: hooks.record_step,
        SORT: hooks.calc_priority,
        CHUNK_LIMIT: hooks.chunk_limit,
        ADD: hooks.add_one_req,
        SELECT: hooks.select_admission,
        GO_ON: hooks.add_chunked_req,
        STASH: hooks.process_prefill_chunk,
        ABORT: hooks.process_pending_chunked_abort,
    }
    after = {
        INFLIGHT: hooks.inflight,
        OWNERS: hooks.owners,
        PENDING: hooks.pending_tokens,
        UNCACHED: hooks.waiting_tokens,
    }
    reason = obstacle(str(sglang.__version__), [*around, *after])
    if reason:
        log.error("dopd: prompts are in the engine's own order: %s", reason)
        _report_unknown()
        return
    for target, hook in around.items():
        HookRegistry.register(target.path, hook, HookType.AROUND)
    for target, hook in after.items():
        HookRegistry.register(target.path, hook, HookType.AFTER)


def _report_unknown() -> None:
    from dopd_sglang.prefill_order.settings import ENGINE_DEFAULT
    from dopd_sglang.prefill_order.start import new_metrics

    metrics = new_metrics()
    metrics.set_policy(ENGINE_DEFAULT, active=False)
    metrics.fallbacks.labels("version").inc()
