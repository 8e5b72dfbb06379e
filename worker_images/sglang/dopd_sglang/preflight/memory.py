"""Whether weights and KV cache fit into the memory of a GPU.

SGLang gives weights and KV pool the part --mem-fraction-static of what is free before it loads: pool = free * fraction
less the weights (SGLang 0.5.23, kv_cache_configurator). Without the flag it reserves 1.5 GiB and more.
"""

from dopd_sglang.preflight.findings import Finding, ok, refused, skipped, warning
from dopd_sglang.preflight.flags import EngineFlags
from dopd_sglang.preflight.gpus import Gpu
from dopd_sglang.preflight.model import Folder, kv_bytes_per_token, weights_in_memory_bytes

NAME = "memory"
GIB = 2**30


def pool_bytes(free_bytes: float, total_bytes: float, weights: float, flags: EngineFlags) -> float:
    """Bytes that are left for the KV pool of one GPU; negative if the weights do not fit.

    Without --mem-fraction-static it is the most that SGLang may give.
    """
    if flags.mem_fraction_static is not None:
        return free_bytes * flags.mem_fraction_static - weights
    reserved = 1.5 * GIB + flags.tp_size * flags.pp_size / 8 * GIB
    return free_bytes * max(0.0, 1 - reserved / total_bytes) - weights


def fraction_needed(free_bytes: float, weights: float) -> float:
    """The --mem-fraction-static at which the weights alone fit."""
    return weights / free_bytes if free_bytes else float("inf")


def check(gpu: Gpu, folder: Folder, flags: EngineFlags) -> Finding:
    """Whether the model and at least one long prompt fit into the GPU with the least free memory."""
    if not folder.weights_bytes or folder.config is None:
        return skipped(NAME, "the size of the weights is not known before the engine loads them")
    least, likely = weights_in_memory_bytes(folder, flags)
    given = f"--mem-fraction-static {flags.mem_fraction_static or '(SGLang chooses)'}, --tp-size {flags.tp_size}"
    on = f"GPU {gpu.index} ({gpu.name}, {gpu.free_bytes / GIB:.1f} of {gpu.total_bytes / GIB:.1f} GiB free)"
    found = f"{given}: weights of {likely / GIB:.1f} GiB a GPU on {on}"
    if pool_bytes(gpu.free_bytes, gpu.total_bytes, least, flags) <= 0:
        return refused(NAME, f"{found} leave nothing for the KV cache", *_more_room(gpu, least, flags))
    pool = pool_bytes(gpu.free_bytes, gpu.total_bytes, likely, flags)
    per_token = kv_bytes_per_token(folder.config, flags)
    if per_token is None:
        return ok(NAME, f"{found}, {max(0.0, pool) / GIB:.1f} GiB for the KV cache")
    tokens = max(0, int(pool / per_token))
    found = f"{found}, {tokens} tokens of KV cache"
    text = folder.config.get("text_config", folder.config)
    longest = flags.context_length or text.get("max_position_embeddings") or 0
    if tokens < longest:
        expected = f"at least the {longest} tokens of the context length"
        fix = (
            "more GPUs (--tp-size), --kv-cache-dtype fp8_e4m3, or a lower --context-length; longer prompts are refused"
        )
        return warning(NAME, found, expected, fix)
    if flags.max_total_tokens and tokens < flags.max_total_tokens:
        expected = f"--max-total-tokens {flags.max_total_tokens}"
        return warning(NAME, found, expected, "SGLang takes what fits; lower --max-total-tokens, or more GPUs")
    return ok(NAME, found)


def _more_room(gpu: Gpu, weights: float, flags: EngineFlags) -> tuple[str, str]:
    needed = fraction_needed(gpu.free_bytes, weights)
    if flags.mem_fraction_static is not None and needed < 0.95:
        return f"--mem-fraction-static above {needed:.3f}", f"--mem-fraction-static {min(0.95, needed + 0.1):.2f}"
    return "weights that fit", "more GPUs (--tp-size), a GPU with more memory, or quantized weights"
