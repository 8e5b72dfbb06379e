"""Ending a waiting request early with 503, as SGLang ends one that is aborted in the queue.

One thing is added: the decode engine is told, which SGLang leaves to a timeout. It frees the request's
memory at once and ends its own answer with an error. It is told a moment later than the client, so that a gateway that
waits for both sees 503, and not the decode engine's 500.
"""

from threading import Timer
from typing import Any

STATUS = 503
MESSAGE = "The prompt can not be answered in time: the prefill queue is too long. Try again later."

TELL_DECODE_AFTER_SECONDS = 0.1


def refuse(scheduler: Any, request: Any) -> None:
    """Answer the client, tell the decode engine, and give back what the request holds.

    The request must have been taken out of the waiting queue.
    """
    from sglang.srt.managers.scheduler import _make_abort_req

    scheduler._release_aborted_request(request)
    scheduler.beam_coordinator.retire_group(request)
    reason = {"type": "abort", "status_code": STATUS, "message": MESSAGE}
    scheduler.send_abort_output(_make_abort_req(request, finished_reason=reason), request)
    if scheduler.disaggregation_mode.value == "prefill":
        _tell_decode(request.disagg_kv_sender)
        scheduler.release_aborted_prefill_waiting_req(request)
    elif request.kv.holds_mamba:
        from sglang.srt.mem_cache.common import release_kv_cache

        release_kv_cache(request, scheduler.tree_cache, checkpoint=False)


def _tell_decode(sender: Any) -> None:
    """All transfer backends but the fake one share this manager."""
    manager = getattr(sender, "kv_mgr", None)
    if manager is None:
        return
    failed = {"bootstrap_room": sender.bootstrap_room, "failure_reason": MESSAGE}
    timer = Timer(TELL_DECODE_AFTER_SECONDS, manager.conclude_failure, kwargs=failed)  # its own threads call it, too
    timer.daemon = True
    timer.start()
