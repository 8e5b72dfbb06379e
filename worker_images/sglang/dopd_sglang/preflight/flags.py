"""The engine's flags, out of its command line.

SGLang's own parser would be the best reader, but importing it takes 5 s of CPU (SGLang 0.5.23: torch and transformers
come along), a sixth of a start. So the few flags that are checked are read by argparse as SGLang does: with their
aliases, `--flag=value`, any unambiguous beginning, the last one winning, and `--config FILE` before the command line.
Flags that are not checked pass unread; what SGLang would refuse about them it refuses itself.
"""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

DEFAULT_TRANSFER_BACKEND = "mooncake"


class FlagError(ValueError):
    """The command line cannot be read; says which flag, and why."""


@dataclass(frozen=True)
class EngineFlags:
    """The flags that are checked, by SGLang's names and with its defaults."""

    model_path: str | None = None
    load_format: str = "auto"
    dtype: str = "auto"
    quantization: str | None = None
    kv_cache_dtype: str = "auto"
    context_length: int | None = None
    max_total_tokens: int | None = None
    mem_fraction_static: float | None = None
    cpu_offload_gb: int = 0
    device: str | None = None
    base_gpu_id: int = 0
    gpu_id_step: int = 1
    nnodes: int = 1
    tp_size: int = 1
    pp_size: int = 1
    dp_size: int = 1
    enable_dp_attention: bool = False
    host: str = "127.0.0.1"
    port: int = 30000
    grpc_port: int | None = None
    disaggregation_mode: str = "null"
    disaggregation_transfer_backend: str = DEFAULT_TRANSFER_BACKEND
    disaggregation_bootstrap_port: int = 8998
    disaggregation_ib_device: str | None = None
    enable_pd_role_switch: bool = False

    @property
    def gpus(self) -> int:
        """GPUs that this command uses on this node."""
        replicas = 1 if self.enable_dp_attention else self.dp_size
        return max(1, self.tp_size * self.pp_size * replicas // max(1, self.nnodes))

    @property
    def disaggregated(self) -> bool:
        """Whether KV cache goes to or comes from another engine."""
        return self.disaggregation_mode in ("prefill", "decode")


_ALIASES = {
    "model_path": ["--model"],
    "tp_size": ["--tensor-parallel-size"],
    "pp_size": ["--pipeline-parallel-size"],
    "dp_size": ["--data-parallel-size"],
}
_MULTIPLES = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def tokens(text: str) -> int:
    """Read a number as SGLang does: 32768, 32k, 32Ki.

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|k|M|G|T)", text.strip())
    return round(float(match[1]) * _MULTIPLES[match[2]]) if match else int(text)


_TYPES: dict[str, Any] = {"mem_fraction_static": float, "context_length": tokens, "max_total_tokens": tokens}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise FlagError(message)


def parse(command: Sequence[str]) -> EngineFlags:
    """Read the flags of an engine's command line.

    Args:
        command: the whole command, such as `python3 -m sglang.launch_server --model-path /model --tp 2`.

    Raises:
        FlagError: it is not a command of SGLang's server, or a flag cannot be read.
    """
    arguments = engine_arguments(command)
    parser = _Parser(prog="sglang", add_help=False)
    parser.add_argument("--config")
    for field in fields(EngineFlags):
        names = [f"--{field.name.replace('_', '-')}", *_ALIASES.get(field.name, [])]
        if field.default is False:
            parser.add_argument(*names, dest=field.name, action="store_true")
        else:
            kind = _TYPES.get(field.name, int if "int" in str(field.type) else str)
            parser.add_argument(*names, dest=field.name, type=kind, default=field.default)
    config = parser.parse_known_args(arguments)[0].config
    values = vars(parser.parse_known_args([*(from_config(Path(config)) if config else []), *arguments])[0])
    return EngineFlags(**{field.name: values[field.name] for field in fields(EngineFlags)})


def engine_arguments(command: Sequence[str]) -> list[str]:
    """The arguments of SGLang's server in a command.

    Raises:
        FlagError: it is not a command of SGLang's server.
    """
    words = list(command)
    if "sglang.launch_server" in words:
        return words[words.index("sglang.launch_server") + 1 :]
    for place, word in enumerate(words[:-1]):
        if Path(word).name == "sglang" and words[place + 1] == "serve":
            rest = words[place + 2 :]
            return ["--model-path", *rest] if rest and not rest[0].startswith("-") else rest
    raise FlagError(
        f"command {' '.join(words)!r}: expected `python3 -m sglang.launch_server ...` or `sglang serve ...`"
    )


def from_config(path: Path) -> list[str]:
    """The flags of a file that `--config` names, as arguments.

    Raises:
        FlagError: it cannot be read.
    """
    import yaml  # SGLang requires it, and only this needs it

    try:
        content = yaml.safe_load(path.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise FlagError(f"--config {path}: {error}") from error
    if not isinstance(content, dict):
        raise FlagError(f"--config {path}: expected a mapping of flags to values")
    arguments: list[str] = []
    for key, value in content.items():
        flag = f"--{key}".replace("_", "-")
        if value is True:
            arguments.append(flag)
        elif value not in (False, None) and not isinstance(value, list | dict):
            arguments += [flag, str(value)]
    return arguments
