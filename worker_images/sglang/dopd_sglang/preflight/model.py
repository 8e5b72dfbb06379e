"""What a model's folder says: how large its weights are, and how much KV cache a token takes.

Weights count by the sizes of their files, so that whatever they are quantized to is counted as it is.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dopd_sglang.preflight.findings import Finding, ok, refused, skipped
from dopd_sglang.preflight.flags import EngineFlags

NAME = "model"

INDEX = "model.safetensors.index.json"
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
_BITS = {"float32": 32, "float": 32, "float16": 16, "half": 16, "bfloat16": 16, "bf16": 16}
_BITS |= {"fp8_e5m2": 8, "fp8_e4m3": 8, "mxfp8": 8, "nvfp4": 4, "fp4_mx_block16": 4}


@dataclass(frozen=True)
class Folder:
    """What was found at the model's path.

    Attributes:
        path: where it was looked for; empty if the model is one to be fetched by name.
        readable: whether it is a folder that this user may read.
        config: content of config.json; None if it cannot be read.
        weights_bytes: of all files with weights.
        missing: files that the index names and that are not there or empty.
    """

    path: str
    readable: bool = False
    config: dict[str, Any] | None = None
    weights_bytes: int = 0
    missing: tuple[str, ...] = ()


def read_folder(model_path: str | None) -> Folder:
    """Look at the model's folder; a name such as `org/model` that is no folder is left to the engine."""
    if not model_path:
        return Folder("")
    folder = Path(model_path)
    try:
        if not folder.exists() and not model_path.startswith(("/", ".", "~")):
            return Folder("")
        files = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    except OSError:
        return Folder(model_path)
    index = _json(folder / INDEX)
    weight_map = (index or {}).get("weight_map")
    named = set(weight_map.values()) if isinstance(weight_map, dict) else set()
    return Folder(
        model_path,
        readable=True,
        config=_json(folder / "config.json"),
        weights_bytes=weights_bytes(files, named),
        missing=tuple(sorted(name for name in named if not files.get(name))),
    )


def _json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def weights_bytes(files: dict[str, int], named: set[str]) -> int:
    """Bytes of the files that SGLang loads: those of the index, else all of the first format that is there.

    Args:
        files: sizes by name, in bytes.
        named: files that an index names.
    """
    if named:
        return sum(files.get(name, 0) for name in named)
    for suffix in _SUFFIXES:
        sizes = {name: size for name, size in files.items() if name.endswith(suffix)}
        # Some publish the same weights a second time in one file, which SGLang leaves out.
        parts = {name: size for name, size in sizes.items() if not name.startswith("consolidated")}
        if sizes:
            return sum((parts or sizes).values())
    return 0


def check(folder: Folder, flags: EngineFlags) -> Finding:
    """Whether the model is there, whole and readable."""
    given = f"--model-path {flags.model_path}"
    if flags.model_path is None:
        return refused(NAME, "--model-path is missing", "a folder or a name", "give --model-path")
    if not folder.path:
        return skipped(NAME, f"{given} is no folder: the engine fetches it by name, and its size is not checked")
    if not folder.readable:
        return refused(
            NAME, f"{given} cannot be read", "a folder that this user may read", "mount the model there, readable"
        )
    if folder.config is None:
        fix = "copy the whole model, or correct the path"
        return refused(NAME, f"{given} has no config.json that can be read", "a model's folder", fix)
    if folder.missing:
        few = ", ".join(folder.missing[:3]) + (" ..." if len(folder.missing) > 3 else "")
        found = f"{given} lacks {len(folder.missing)} of the files in {INDEX}: {few}"
        return refused(NAME, found, "all of them", "copy the whole model")
    if not folder.weights_bytes and flags.load_format != "dummy":
        expected = f"files with weights ({', '.join(_SUFFIXES)})"
        return refused(NAME, f"{given} holds no weights", expected, "copy the whole model, or --load-format dummy")
    return ok(NAME, f"{given}: weights of {folder.weights_bytes / 2**30:.1f} GiB")


def kv_bytes_per_token(config: dict[str, Any], flags: EngineFlags) -> float | None:
    """KV cache of one token on one GPU in bytes; None if config.json does not say.

    Models with sliding windows or state-space layers need less than this.
    """
    text = config.get("text_config", config)
    layers, hidden, heads = (text.get(key) for key in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
    if not layers or not hidden or not heads:
        return None
    if latent := text.get("kv_lora_rank"):  # multi-head latent attention: every GPU holds all of it
        elements = latent + text.get("qk_rope_head_dim", 0)
    else:
        kv_heads = text.get("num_key_value_heads") or heads
        head_dim = text.get("head_dim") or hidden // heads
        elements = 2 * max(1, kv_heads / flags.tp_size) * head_dim
    bits = _BITS.get(flags.kv_cache_dtype) or _BITS.get(_weights_dtype(config, flags), 16)
    return float(elements * layers / flags.pp_size * bits / 8)


def weights_in_memory_bytes(folder: Folder, flags: EngineFlags) -> tuple[float, float]:
    """The least and the likely bytes of weights on one GPU.

    They differ where SGLang converts while it loads: to another dtype, or quantizing what is not quantized.
    """
    config = folder.config or {}
    whole = max(0.0, folder.weights_bytes / flags.tp_size / flags.pp_size - flags.cpu_offload_gb * 1e9)
    quantized = "quantization_config" in config
    if quantized:
        return whole, whole
    stored = _BITS.get(str(config.get("torch_dtype") or config.get("dtype")), 16)
    likely = whole * _BITS.get(_weights_dtype(config, flags), 16) / stored
    if flags.quantization:
        return likely / 4, likely / 2  # to 4 bits, or to 8
    return likely, likely


def _weights_dtype(config: dict[str, Any], flags: EngineFlags) -> str:
    if flags.dtype != "auto":
        return flags.dtype
    stored = str(config.get("torch_dtype") or config.get("dtype"))
    return "bfloat16" if stored == "float32" else stored  # SGLang's rule for auto
