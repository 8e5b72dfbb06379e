"""Stands in for the CPU build of sglang-kernel, which no package registry has: what a plain Llama needs.

SGLang imports these names at its start. With the attention backend torch_native it calls
`assign_req_to_token_pool_cpu` alone; the others raise.
"""

import torch

__version__ = "0.4.10+stand.in"

_NEVER_CALLED = (
    "assign_draft_cache_locs_contiguous_cpu",
    "assign_extend_cache_locs_cpu",
    "build_draft_decode_metadata_cpu",
    "build_tree_kernel_efficient_cpu",
    "copy_all_layer_kv_cache_cpu",
    "fill_accept_out_cache_loc_cpu",
    "fill_bonus_tokens_cpu",
    "rotate_input_ids_cpu",
    "verify_tree_greedy_cpu",
)


def missing(name):
    """Return a function that raises when it is called."""

    def function(*args, **kwargs):
        raise NotImplementedError(f"sgl_kernel.{name}: this is a stand-in for tests without a GPU")

    return function


def assign_req_to_token_pool_cpu(
    req_pool_indices, req_to_token, start_offset, end_offset, out_cache_loc, pool_len=None
):
    """Write where the KV of each request's new tokens lies into its row."""
    done = 0
    for row, start, end in zip(req_pool_indices.tolist(), start_offset.tolist(), end_offset.tolist(), strict=True):
        req_to_token[row, start:end] = out_cache_loc[done : done + end - start].to(req_to_token.dtype)
        done += end - start


globals().update({name: missing(name) for name in _NEVER_CALLED})

_library = torch.library.Library("sgl_kernel", "FRAGMENT")
_library.define("init_cpu_threads_env(str cpu_ids) -> str")
_library.impl("init_cpu_threads_env", lambda cpu_ids: "threads are not bound", "CompositeExplicitAutograd")
