"""The CRDs as schemas: structural, described, without defaults."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from dopd.api.base import Duration, Model, seconds
from dopd.api.crds import build
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.schema import structural_schema

SCHEMAS = {
    f"{definition['spec']['names']['kind']}.{part}": schema
    for definition in build().values()
    for part, schema in definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"].items()
    if part in ("spec", "status")
}


def nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


ALL = [node for name, schema in SCHEMAS.items() for node in nodes(schema, name)]


def test_every_field_is_described():
    assert [path for path, schema in ALL if not path.endswith("[]") and not schema.get("description")] == []


def test_no_field_has_a_default():
    assert [path for path, schema in ALL if "default" in schema] == []


def test_nothing_that_a_crd_can_not_express():
    forbidden = {"$ref", "anyOf", "allOf", "oneOf", "title", "const", "exclusiveMinimum", "additionalItems"}
    assert [path for path, schema in ALL if forbidden & schema.keys()] == []
    assert all("type" in schema for _, schema in ALL)


def test_defaults_are_named_in_words():
    texts = {path: schema.get("description", "") for path, schema in ALL}
    assert texts["DisaggregatedInference.spec.scaling.behavior.interval"].endswith("Defaults to 30s.")
    assert "Defaults" not in texts["DisaggregatedInference.spec.prefill.replicas"]


def test_a_field_without_a_description_is_refused():
    class Bare(Model):
        count: int

    with pytest.raises(ValueError, match=r"Bare\.count has no description"):
        structural_schema(Bare)


@pytest.mark.parametrize(("text", "length"), [("90s", 90), ("1h30m", 5400), ("500ms", 0.5), ("1d", 86400)])
def test_durations(text: str, length: float):
    assert seconds(text) == length


@pytest.mark.parametrize("text", ["90", "s", "1.5h", "-1s", "0s", "1h 30m", ""])
def test_what_is_no_duration(text: str):
    with pytest.raises(ValidationError):
        TypeAdapter(Duration).validate_python(text)


def test_an_unknown_field_is_refused_by_name():
    spec = {
        "model": "m",
        "engine": {"image": "i"},
        "prefill": {"gpus": 1, "replicas": 1, "gpu": 2},
        "decode": {"gpus": 1, "replicas": 1},
        "router": {"image": "i"},
    }
    with pytest.raises(ValidationError, match=r"prefill\.gpu\b"):
        DisaggregatedInferenceSpec.model_validate(spec)
