"""What SGLang calls: its own methods, surrounded.

Each function gets the method that it surrounds, and what SGLang gave it. None raises an error of its own.
"""

from collections.abc import Callable
from typing import Any

from dopd_sglang.prefill_order.control import Control
from dopd_sglang.prefill_order.start import start

_composing: Control | None = None
"""Whose pass is being composed: SGLang's policy and adder do not know their scheduler, which has one thread."""

_started: Control | None = None
"""Of the process's scheduler, for what of SGLang knows no scheduler."""


def run_event_loop(original: Callable[..., Any], scheduler: Any) -> Any:
    """The scheduler is ready: say what is in use before the first prompt comes."""
    _control(scheduler)
    return original(scheduler)


def compose(original: Callable[..., Any], scheduler: Any, *args: Any, **kwargs: Any) -> Any:
    """SGLang composes a prefill pass: `Scheduler._get_new_batch_prefill_raw`."""
    global _composing
    control = _control(scheduler)
    if control is None:
        return original(scheduler, *args, **kwargs)
    _composing = control
    try:
        composed = original(scheduler, *args, **kwargs)
        if not control.composed(composed[0]):  # nothing that waits can be admitted: go on with what has begun
            composed = original(scheduler, *args, **kwargs)
            control.composed(composed[0])
    finally:
        _composing = None
    return composed


def calc_priority(
    original: Callable[..., Any],
    policy: Any,
    waiting_queue: list[Any],
    running_batch: Any = None,
    processed_tokens: int = 0,
) -> None:
    """SGLang sorts the waiting queue: `SchedulePolicy.calc_priority`."""
    control = _composing
    if control is not None:
        running = 0 if running_batch is None else len(running_batch.reqs)
        if control.plan(waiting_queue, running):
            return
    original(policy, waiting_queue, running_batch, processed_tokens=processed_tokens)


def chunk_limit(original: Callable[..., Any], policy: Any, *args: Any, **kwargs: Any) -> int | None:
    """SGLang asks what the unfinished prompt may have of a pass: `SchedulePolicy.shortest_prefill_chunk_limit`."""
    control = _composing
    if control is not None and control.planned():
        return control.chunk_limit()
    limit: int | None = original(policy, *args, **kwargs)
    return limit


def add_chunked_req(original: Callable[..., Any], adder: Any, req: Any) -> Any:
    """SGLang goes on with its unfinished prompt: `PrefillAdder.add_chunked_req`."""
    control = _composing
    if control is None:
        return original(adder, req)
    return control.go_on(adder, lambda request: original(adder, request), req)


def add_one_req(
    original: Callable[..., Any],
    adder: Any,
    req: Any,
    has_chunked_req: bool,
    truncation_align_size: int | None,
) -> Any:
    """SGLang admits a waiting request: `PrefillAdder.add_one_req`."""
    control = _composing
    if control is not None:
        try:
            control.reserve(adder)
            may = control.may_add(adder, req, has_chunked_req)
        except Exception as error:
            # The unfinished prompt has its share of the plan already: another one must not be cut now.
            control.failed("admitting a prompt", error)
            may = not has_chunked_req
        if not may:
            return _complete()
    return original(adder, req, has_chunked_req=has_chunked_req, truncation_align_size=truncation_align_size)


def select_admission(original: Callable[..., Any], adder: Any, req: Any, **kwargs: Any) -> Any:
    """SGLang chooses the tokens of a waiting request: `PrefillAdder._select_prefill_admission`.

    Where the KV pool bounds a pass more than its tokens do, a prompt that fits is cut all the same. SGLang can not have
    two that are cut, and guards against it under its own policy shortest-prefill-first only.
    """
    admission = original(adder, req, **kwargs)
    if _composing is not None and kwargs.get("has_chunked_req") and getattr(admission, "is_chunked", False):
        return _complete()
    return admission


def record_step(original: Callable[..., Any], scheduler: Any, batch: Any, *args: Any, **kwargs: Any) -> None:
    """SGLang adds up how long it was busy: `Scheduler._record_step_counters`."""
    before = scheduler.total_prefill_busy_us
    original(scheduler, batch, *args, **kwargs)
    control: Control | None = getattr(scheduler, "dopd_order", None)
    if control is not None and batch.forward_mode.is_extend():
        control.measured(batch, (scheduler.total_prefill_busy_us - before) / 1e6)


def process_prefill_chunk(original: Callable[..., Any], scheduler: Any, **kwargs: Any) -> Any:
    """SGLang stashes and sends the last pass's part of its unfinished prompt: `Scheduler.process_prefill_chunk`."""
    control = _control(scheduler)
    if control is None:
        return original(scheduler, **kwargs)
    return control.unfinished.stash(lambda: original(scheduler, **kwargs))


def process_pending_chunked_abort(original: Callable[..., Any], scheduler: Any) -> None:
    """SGLang ends its unfinished prompt, if its client has gone: `Scheduler.process_pending_chunked_abort`."""
    control = _control(scheduler)
    if control is None:
        original(scheduler)
    else:
        control.unfinished.abort(lambda: original(scheduler))


def inflight(requests: set[Any], scheduler: Any) -> set[Any]:
    """SGLang looks for requests to abort or to mark: `Scheduler.collect_inflight_reqs`."""
    control: Control | None = getattr(scheduler, "dopd_order", None)
    return requests if control is None else {*requests, *control.unfinished.parked}


def owners(requests: list[Any], checker: Any) -> list[Any]:
    """SGLang adds up who holds KV: `SchedulerInvariantChecker._requests_owning_rows`."""
    known = {id(request) for request in requests}
    return [*requests, *(r for r in _parked() if id(r) not in known and r.kv.holds_kv)]


def pending_tokens(tokens: int, *_: Any, **__: Any) -> int:
    """SGLang adds up the tokens that are still to be computed, for `/v1/loads` and its log."""
    return tokens + sum(_rest(request) for request in _parked())


def waiting_tokens(tokens: int, inquirer: Any, *_: Any, **__: Any) -> int:
    """The tokens of `/v1/loads` that wait to be computed: workers are added by them, which no batch asks for."""
    control = _started
    if control is None:
        return tokens + pending_tokens(0)
    prompts = control.requests
    parked = sum(_rest(request) for request in _parked() if not prompts.know(request).prompt.batch)
    if not prompts.tells_batch:
        return tokens + parked
    computed = inquirer.get_chunked_req()
    own = _rest(computed) if computed is not None and prompts.know(computed).prompt.batch else 0
    queued = sum(prompt.tokens for r in inquirer.get_waiting_queue() if (prompt := prompts.know(r).prompt).batch)
    return max(0, tokens - own - queued) + parked


def arrival_travels(state: dict[str, Any], stats: Any) -> dict[str, Any]:
    """The tokenizer's process sends a request's times: `APIServerReqTimeStats.__getstate__`; its arrival goes along."""
    state.setdefault("created_time", stats.created_time)
    return state


def _complete() -> Any:
    from sglang.srt.managers.schedule_policy import AddReqResult

    return AddReqResult.OTHER


def _parked() -> list[Any]:
    return [] if _started is None else _started.unfinished.parked


def _rest(request: Any) -> int:
    """Tokens of a prompt that are not computed."""
    return max(0, int(request.seqlen) - int(request.prefix_len))


def _control(scheduler: Any) -> Control | None:
    global _started
    if scheduler.disaggregation_mode.value == "decode":  # it may become a prefill engine later
        return None
    if not hasattr(scheduler, "dopd_order"):
        scheduler.dopd_order = _started = start(scheduler)
    control: Control | None = scheduler.dopd_order
    return control
