"""An SGLang plugin that lets prefill and decode work as a pair on a CPU (SGLang 0.5.23)."""

import multiprocessing


def register() -> None:
    """Make a prefill worker take the way without pinned memory and CUDA events; else its first request ends it."""
    # Only in the scheduler's process: imported in the launcher, the module pulls in prometheus_client before SGLang
    # sets PROMETHEUS_MULTIPROC_DIR, and the metrics of the tokenizer are lost without a word.
    if multiprocessing.parent_process() is None:
        return
    from sglang.srt.disaggregation.mooncake.conn import MooncakeKVSender

    MooncakeKVSender.supports_host_tensor_indices = False
