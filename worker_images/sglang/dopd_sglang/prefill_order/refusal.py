"""Ending a waiting request early with 503, as SGLang ends one that is aborted in the queue."""

from typing import Any

STATUS = 503
MESSAGE = "The prompt can not be answered in time: the prefill queue is too long. Try again later."


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
        scheduler.release_aborted_prefill_waiting_req(request)
    elif request.kv.holds_mamba:
        from sglang.srt.mem_cache.common import release_kv_cache

        release_kv_cache(request, scheduler.tree_cache, checkpoint=False)
