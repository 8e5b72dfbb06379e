"""`dopd profile estimate`: an EngineProfile from published measurements, without a GPU.

The measurements are those that NVIDIA publishes with aiconfigurator-core (kernel times per GPU, engine and
version); the engine's forward passes are sums of them. Its own end-to-end modes are not used: they contain an
allowance for queueing, and a profile holds service times.
"""

import datetime
import difflib
import importlib
import json
import math
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import yaml

from dopd.api.base import API_VERSION
from dopd.api.profile import (
    DecodePoint,
    DecodeProfile,
    EngineProfileSpec,
    Origin,
    PrefillPoint,
    PrefillProfile,
    ProfileSource,
    StartupProfile,
    TransferProfile,
)
from dopd.cli.arguments import number, object_name, option, output_file, whole

PREFILL_TOKENS = tuple(
    [1, 64, 128, 256] + [size for power in range(9, 17) for size in (2**power, 3 * 2 ** (power - 1))] + [131072]
)
BATCHES = (1, 8, 16, 32, 64, 128, 192, 256, 512)
CONTEXT_TOKENS = (128, 1024, 2048, 4096, 8192, 16384, 65536)
CHUNK_TOKENS = 8192
MAX_RUNNING_REQUESTS = 256
MEMORY_FRACTION_STATIC = 0.88
NETWORK_BYTES_PER_SECOND = 25e9  # one 200 Gb/s adapter for each GPU
CORRECTION = 1.1  # what the publisher itself adds to kernel sums for scheduling and launch gaps

PACKAGE = "aiconfigurator-core==0.12.0"
"""What the extra `estimate` of pyproject.toml installs."""


@click.command("estimate", help=__doc__)
@option("--name", of=object_name, metavar="NAME", required=True, help="name of the EngineProfile")
@option("--model", required=True, help="Hugging Face name, such as meta-llama/Meta-Llama-3.1-8B")
@option("--gpu", required=True, help="GPU type, such as h100_sxm, h200_sxm, b200_sxm, a100_sxm, l40s")
@option("--tp", of=whole, metavar="N", default="1", help="tensor parallel GPUs of one worker (default 1)")
@option("--moe-tp", of=whole, metavar="N", help="of a mixture of experts: tensor parallel GPUs of the experts")
@option("--moe-ep", of=whole, metavar="N", help="of a mixture of experts: expert parallel GPUs")
@option("--engine-version", help="SGLang version of the measurements (default: the newest measured as a whole)")
@option("--correction", of=number(), metavar="N", default=f"{CORRECTION}", help="real seconds / summed kernel seconds")
@option("--output", of=output_file, metavar="FILE", help="file to write (default: standard output)")
def command(**given: Any) -> int:
    """Arguments of `dopd profile estimate`."""
    return call(SimpleNamespace(**given))


def call(args: SimpleNamespace) -> int:
    """Write the profile; returns the exit code."""
    try:
        spec = estimate(
            args.model,
            args.gpu,
            args.tp,
            moe_tp=args.moe_tp,
            moe_ep=args.moe_ep,
            engine_version=args.engine_version,
            correction=args.correction,
        )
    except ImportError:
        print(
            "dopd profile estimate needs the published measurements, the extra `estimate`: pip install "
            f"'dopd[estimate]' (in a checkout: pip install {PACKAGE})",
            file=sys.stderr,
        )
        return 2
    except (ValueError, RuntimeError, KeyError) as error:
        print(
            f"no measurements for model {args.model}, gpu {args.gpu}, tp {args.tp}, engine version "
            f"{args.engine_version or 'current'}: {error}",
            file=sys.stderr,
        )
        return 1
    write_profile(args.name, spec, args.output)
    return 0


def write_profile(
    name: str, spec: EngineProfileSpec, output: Path | None, annotations: dict[str, str] | None = None
) -> None:
    """Write a profile as a manifest to a file, or to standard output without one."""
    text = manifest(name, spec, annotations)
    if output:
        output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


def estimate(
    model: str,
    gpu: str,
    tp: int,
    *,
    moe_tp: int | None = None,
    moe_ep: int | None = None,
    engine_version: str | None = None,
    correction: float = CORRECTION,
) -> EngineProfileSpec:
    """Sum the published kernel times into a profile of one engine.

    Raises:
        ImportError: the measurements are not installed.
        ValueError: none were published for this model, GPU or version, or nobody knows the model.
    """
    engines = importlib.import_module("aiconfigurator_core.sdk.engine")
    memory = importlib.import_module("aiconfigurator_core.sdk.memory")
    parallelism = {"tp_size": tp, "moe_tp_size": moe_tp, "moe_ep_size": moe_ep}
    version = engine_version or _current_version(gpu)
    hub = importlib.import_module("aiconfigurator_core.sdk.utils")
    try:
        engine = engines.EngineHandle.compile(model, gpu, "sglang", backend_version=version, **parallelism)
    except hub.HuggingFaceDownloadError as error:
        known = importlib.import_module("aiconfigurator_core.sdk.common").DefaultHFModels
        nearest = ", ".join(difflib.get_close_matches(model, known, n=3, cutoff=0.0))
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{reason}; pass a folder that holds the model's config.json, or one of the {len(known)} models that need "
            f"no download, such as {nearest}"
        ) from error
    kv = memory.estimate_kv_cache(
        model,
        gpu,
        "sglang",
        version,
        max_num_tokens=CHUNK_TOKENS,
        max_batch_size=MAX_RUNNING_REQUESTS,
        memory_fraction_kind="of_total",
        memory_fraction_value=MEMORY_FRACTION_STATIC,
        **parallelism,
    )
    prefill = rising([engine.predict_prefill_latency(1, tokens) / 1e3 for tokens in PREFILL_TOKENS])
    decode = rising_grid(
        [[engine.predict_decode_latency(batch, context, 2) / 1e3 for batch in BATCHES] for context in CONTEXT_TOKENS]
    )
    return EngineProfileSpec(
        model=model,
        gpu=gpu,
        gpus=tp,
        data_type=_data_type(engine.spec_bytes),
        source=ProfileSource(
            origin=Origin.PUBLISHED,
            description=(
                f"{PACKAGE}, SGLang {version}, {gpu}, tensor parallel {tp}"
                + (f", experts tp {moe_tp} ep {moe_ep}" if moe_tp or moe_ep else "")
                + f"; data types of the checkpoint {model}; service times summed from measured kernels; correction is "
                "the publisher's own factor for what kernel sums leave out"
            ),
            date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        ),
        correction=correction,
        prefill=PrefillProfile(
            points=[PrefillPoint(tokens=t, seconds=s) for t, s in zip(PREFILL_TOKENS, prefill, strict=True)],
            chunk_tokens=CHUNK_TOKENS,
        ),
        decode=DecodeProfile(
            points=[
                DecodePoint(batch=batch, context_tokens=context, itl_seconds=decode[i][j])
                for i, context in enumerate(CONTEXT_TOKENS)
                for j, batch in enumerate(BATCHES)
            ],
            kv_tokens=int(kv["total_kv_size_tokens"]),
            max_running_requests=MAX_RUNNING_REQUESTS,
        ),
        transfer=TransferProfile(
            tokens_per_second=float(round(NETWORK_BYTES_PER_SECOND / float(kv["kv_size_per_token_bytes"])))
        ),
        startup=StartupProfile(),
    )


def manifest(name: str, spec: EngineProfileSpec, annotations: dict[str, str] | None = None) -> str:
    """The profile as a Kubernetes manifest."""
    metadata = {"name": name} | ({"annotations": annotations} if annotations else {})
    resource = {
        "apiVersion": API_VERSION,
        "kind": "EngineProfile",
        "metadata": metadata,
        "spec": spec.model_dump(mode="json", by_alias=True),
    }
    return yaml.dump(resource, Dumper=_Dumper, sort_keys=False, width=120, default_flow_style=False)


class _Dumper(yaml.SafeDumper):
    """Writes a table point on one line, so that the table can be read as a table."""


def _short_map(dumper: yaml.SafeDumper, data: dict[str, Any]) -> yaml.MappingNode:
    is_point = bool(data) and all(isinstance(value, int | float) for value in data.values()) and len(data) > 1
    return dumper.represent_mapping("tag:yaml.org,2002:map", data.items(), flow_style=is_point)


def _text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Dumper.add_representer(dict, _short_map)
_Dumper.add_representer(str, _text)


def rising(seconds: list[float]) -> list[float]:
    """Rounded to five digits and never falling: kernels measured apart can cross by a percent."""
    rounded = [_digits(value) for value in seconds]
    for i, (before, after) in enumerate(pairwise(rounded), start=1):
        rounded[i] = max(rounded[i - 1], before, after)
    return rounded


def rising_grid(rows: list[list[float]]) -> list[list[float]]:
    """The same along both axes of a table: (contexts, batches)."""
    table = [rising(row) for row in rows]
    for before, after in pairwise(table):
        after[:] = [max(pair) for pair in zip(before, after, strict=True)]
    return table


def _digits(value: float, digits: int = 5) -> float:
    return round(value, digits - 1 - math.floor(math.log10(value)))


def _data_type(compiled: bytes) -> str:
    """Data types that the engine was compiled for; it carries them as JSON behind a short header."""
    text = compiled.decode("utf-8", "replace")
    config, _ = json.JSONDecoder().raw_decode(text, text.index("{"))
    types = {"weights": "weight_dtype", "activations": "activation_dtype", "KV cache": "kv_cache_dtype"}
    return ", ".join(f"{of} {config[name]}" for of, name in types.items())


def _current_version(gpu: str) -> str:
    """The newest version that was measured as a whole; newer ones exist in part only."""
    databases = importlib.import_module("aiconfigurator_core.sdk.perf_database")
    database = databases.get_database(gpu, "sglang", "current")
    if database is None:
        known = ", ".join(sorted(databases.get_supported_databases()))
        raise ValueError(f"gpu {gpu}: nothing published for SGLang; known are {known}")
    return str(database.version)
