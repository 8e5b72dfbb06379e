"""Which engines prompts can be ordered in, and in which several may be computed in part."""

from typing import Any


def obstacle_to_order(scheduler: Any) -> str | None:
    """Why the plugin must leave this scheduler alone; None if it need not.

    What is excluded here was not shown to keep its ranks in step, or has an order of its own that was asked for.
    """
    from sglang.srt.runtime_context import get_parallel

    parallel = get_parallel()
    obstacles = (
        ("pipeline parallelism", parallel.pp_size > 1),
        ("attention with data parallelism", bool(parallel.attn_dp_enabled) or parallel.attn_dp_size > 1),
        ("attention with context parallelism", parallel.attn_cp_size > 1),
        ("KV sharded over ranks", scheduler.kv_shard_widening > 1),
        ("a diffusion model", scheduler.dllm_config is not None),
        ("prompts that are not chunked", scheduler.chunked_prefill_size is None),
        ("priorities of requests", bool(scheduler.enable_priority_scheduling)),
    )
    return next((name for name, applies in obstacles if applies), None)
