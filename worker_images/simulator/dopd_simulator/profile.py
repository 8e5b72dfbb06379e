"""Which EngineProfile times the simulated engine: a manifest from a file, or the small one built in."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from dopd.api.profile import EngineProfileSpec

_CONTEXTS = (512, 2048, 8192)
_ITL_SECONDS = {1: (0.0065, 0.0066, 0.0069), 64: (0.0087, 0.0126, 0.0283), 256: (0.0152, 0.0309, 0.0938)}

DEFAULT_PROFILE = EngineProfileSpec.model_validate(
    {
        "model": "llama-3.1-8b",
        "gpu": "h100_sxm",
        "gpus": 1,
        "source": {
            "origin": "Estimated",
            "description": "Rounded from published kernel times of Llama-3.1-8B on one H100 (SGLang, bf16): prefill at "
            "512, 2048, 8192 tokens and ITL at 2048 tokens of context; other contexts by the KV bytes read per step.",
            "date": "2026-11-24",
        },
        "prefill": {
            "points": [
                {"tokens": 512, "seconds": 0.0126},
                {"tokens": 2048, "seconds": 0.0461},
                {"tokens": 8192, "seconds": 0.2057},
            ],
            "chunkTokens": 8192,
        },
        "decode": {
            "points": [
                {"batch": batch, "contextTokens": context, "itlSeconds": itl}
                for batch, row in _ITL_SECONDS.items()
                for context, itl in zip(_CONTEXTS, row, strict=True)
            ],
            "kvTokens": 400_000,
            "maxRunningRequests": 256,
        },
        "transfer": {"baseSeconds": 0.005, "tokensPerSecond": 200_000.0},
        "startup": {"prefillSeconds": 5.0, "decodeSeconds": 8.0, "flipSeconds": 1.0},
    }
)
"""The profile used when none is given."""


def load_profile(path: Path) -> EngineProfileSpec:
    """Read an EngineProfile manifest (YAML or JSON), or a bare spec.

    Raises:
        ValueError: the file cannot be read or is no EngineProfile; the message names file, field and what was
        expected.
    """
    try:
        document: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"--sim-profile {path}: {error.strerror}; give the path of an EngineProfile manifest"
        ) from error
    except yaml.YAMLError as error:
        raise ValueError(f"--sim-profile {path}: neither YAML nor JSON: {error}") from error
    spec = document.get("spec", document) if isinstance(document, dict) else document
    try:
        return EngineProfileSpec.model_validate(spec)
    except ValidationError as error:
        problems = "; ".join(
            f"spec.{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()
        )
        raise ValueError(f"--sim-profile {path}: not an EngineProfile: {problems}") from error
