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


def obstacle_to_parking(scheduler: Any) -> str | None:
    """Why only one prompt may be computed in part; None if several may be.

    Known to be safe is what was tried: a prefill engine with one KV pool for full attention, and SGLang's own prefix
    cache on the device, or none.
    """
    from sglang.srt.mem_cache.radix_cache import RadixCache
    from sglang.srt.mem_cache.unified_radix_cache import UnifiedRadixCache
    from sglang.srt.runtime_context import get_disagg, get_memory

    disagg, memory = get_disagg(), get_memory()
    obstacles = (
        ("no prefill engine", scheduler.disaggregation_mode.value != "prefill"),
        ("sliding window attention", bool(scheduler.is_hybrid_swa)),
        ("state space layers", bool(scheduler.is_hybrid_ssm)),
        ("a hierarchical cache", bool(scheduler.enable_hierarchical_cache)),
        ("LMCache", bool(scheduler.enable_lmcache)),
        ("FlexKV", bool(memory.enable_flexkv)),
        ("an external cache", bool(scheduler.enable_unified_cache_external_linker)),
        ("a prefix cache of another kind", type(scheduler.tree_cache) not in (RadixCache, UnifiedRadixCache)),
        ("a sparse cache", bool(scheduler.enable_hisparse)),
        ("LoRA adapters", bool(scheduler.enable_lora)),
        ("speculative decoding", not scheduler.spec_algorithm.is_none()),
        ("a delay of prefill", scheduler.prefill_delayer is not None),
        ("n-gram embeddings", bool(scheduler.ngram_embedding_manager.enabled)),
        ("a staging buffer for transfers", bool(scheduler.enable_staging)),
        ("prefill before the decode engine is ready", bool(disagg.optimistic_prefill_attempts)),
        ("decode memory after prefill", disagg.disaggregation_decode_allocation_policy == "prefill_complete"),
        ("a model that generates nothing", not scheduler.is_generation),
    )
    return next((name for name, applies in obstacles if applies), None)
