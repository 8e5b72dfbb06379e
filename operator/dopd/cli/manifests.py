"""A spec from a manifest, for commands that ask what it would do before it is applied."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.schema import structural_schema
from dopd.cli.errors import Refused, did_you_mean

KIND = "DisaggregatedInference"
MOST_SHOWN = 5
"""Problems of a manifest that are told at once."""


def read_manifest(path: Path) -> DisaggregatedInferenceSpec:
    """The spec of a manifest.

    Raises:
        Refused: the file is none; the field, its value and what is expected.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if content.get("kind", KIND) != KIND:
            raise Refused(f"--spec {path}: kind {content['kind']}; expected a manifest of kind {KIND}")
        return DisaggregatedInferenceSpec.model_validate(content["spec"])
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"--spec {path}: can not be read ({error.__class__.__name__}); expected a manifest") from error
    except yaml.YAMLError as error:
        raise Refused(f"--spec {path}: no YAML: {' '.join(str(error).split())}; correct it") from error
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise Refused(f"--spec {path}: expected a manifest of kind {KIND} with a spec") from error
    except ValidationError as error:
        raise Refused(f"--spec {path}: {'; '.join(_wrong(one) for one in error.errors()[:MOST_SHOWN])}") from error


def _wrong(problem: Any) -> str:
    """One of pydantic's errors: field, value, what is expected."""
    path, value, words = problem["loc"], problem["input"], problem["msg"]
    field = ".".join(map(str, path))
    if problem["type"] == "extra_forbidden":
        near = did_you_mean(str(path[-1]), _fields(path[:-1]))
        return f"spec.{field}: there is no such field{near}; remove it, or correct its name"
    shown = "" if isinstance(value, dict | list) else f" {value}"
    return f"spec.{field}{shown}: {words.replace('Input should be', 'expected')}"


def _fields(path: Sequence[int | str]) -> list[str]:
    """Names of the fields at a place of a spec."""
    node: Any = structural_schema(DisaggregatedInferenceSpec)
    for part in path:
        node = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, {})
    return list(node.get("properties", {}))
