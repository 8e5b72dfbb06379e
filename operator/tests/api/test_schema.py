"""The CRDs as schemas: structural, described, without defaults."""

import json
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

import pytest
from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined

from dopd.api.base import Duration, Model, seconds
from dopd.api.crds import build
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.profile import EngineProfileSpec
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


def test_no_field_has_a_default_but_a_status_that_nobody_wrote():
    assert [path for path, schema in ALL if "default" in schema] == ["DisaggregatedInference.status"]


def test_nothing_that_a_crd_can_not_express():
    forbidden = {"$ref", "anyOf", "allOf", "oneOf", "title", "const", "exclusiveMinimum", "additionalItems"}
    assert [path for path, schema in ALL if forbidden & schema.keys()] == []
    assert all("type" in schema for _, schema in ALL)


def defaults(model: type[Model], path: str) -> Iterator[tuple[str, Any]]:
    """Fields that have a default in Python, by path in the resource."""
    for name, info in model.model_fields.items():
        here = f"{path}.{info.alias or name}"
        types = [kind for kind in (info.annotation, *get_args(info.annotation)) if isinstance(kind, type)]
        nested = next((kind for kind in types if issubclass(kind, Model)), None)
        default = info.get_default(call_default_factory=True, validated_data={})
        if nested:
            yield from defaults(nested, f"{here}[]" if get_origin(info.annotation) is list else here)
        elif default not in (None, PydanticUndefined, [], {}):
            yield here, default


@pytest.mark.parametrize("model", [DisaggregatedInferenceSpec, EngineProfileSpec])
def test_defaults_are_named_in_words(model: type[Model]):
    texts = {path.partition(".spec")[2]: schema.get("description", "") for path, schema in ALL if ".spec" in path}
    found = dict(defaults(model, ""))
    assert len(found) > 5
    for path, default in found.items():
        text = default if isinstance(default, str) else json.dumps(default)
        assert texts[path].endswith(f"Defaults to {text}."), path


def test_what_holds_when_a_field_is_absent_is_said():
    """An optional field names its default, says what absence means, or holds nothing but optional fields."""
    silent = [
        f"{path}.{name}"
        for path, schema in ALL
        if ".spec" in path
        for name, child in schema.get("properties", {}).items()
        if name not in schema.get("required", [])
        and child["type"] in ("string", "integer", "number", "boolean")
        and not any(word in child["description"] for word in ("Defaults to", "absent", "Required without"))
    ]
    assert silent == ["DisaggregatedInference.spec.engine.env[].value"]


def test_every_text_is_bounded():
    """The API server reckons the cost of rules by the longest text."""
    assert [p for p, s in ALL if s["type"] == "string" and not {"maxLength", "enum"} & s.keys()] == []


def test_a_pattern_becomes_a_rule_that_says_what_is_expected():
    class Texts(Model):
        color: Annotated[str, Field(pattern="^[a-z]+$", json_schema_extra={"expected": "a color, such as red"})]
        """Color."""

    color = structural_schema(Texts)["properties"]["color"]
    assert color["x-kubernetes-validations"] == [
        {"rule": 'self.matches("^[a-z]+$")', "message": "must be a color, such as red"}
    ]
    assert "pattern" not in color


def test_a_pattern_that_does_not_say_what_is_expected_is_refused():
    class Texts(Model):
        color: Annotated[str, Field(pattern="^[a-z]+$")]
        """Color."""

    with pytest.raises(ValueError, match=r"Texts\.color: say what the pattern expects"):
        structural_schema(Texts)


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
