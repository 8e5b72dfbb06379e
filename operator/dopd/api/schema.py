"""From a pydantic model to the structural OpenAPI schema that a CRD needs.

Kubernetes accepts a subset of JSON schema: no `$ref`, no nullable unions, no titles. CEL rules of the models become
`x-kubernetes-validations`. Python defaults are named in the description and never become schema defaults: a stored
object stays byte for byte what its author applied, and an autoscaled number can not be refilled behind anyone's back.
"""

import json
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from dopd.api.base import Model, cel, cel_milliseconds, seconds

Schema = dict[str, Any]

_KEPT = {
    "type", "format", "description", "enum", "minimum", "maximum", "minLength", "maxLength", "minItems",
    "maxItems", "maxProperties", "nullable", "required", "x-kubernetes-validations",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
}  # fmt: skip
_BOUNDS_IN_CEL = (
    ("exclusiveMinimum", ">", "greater than"),
    ("minimum", ">=", "at least"),
    ("maximum", "<=", "at most"),
)
_LONGEST_STRING = 4096
_MOST_PROPERTIES = 128


def structural_schema(model: type[Model]) -> Schema:
    """The structural schema of `model`, with descriptions, CEL rules and no default.

    Raises:
        ValueError: a field has no description, or uses a construct that a CRD can not express.
    """
    root = model.model_json_schema(by_alias=True, mode="validation")
    schema = _convert(root, root.get("$defs", {}), model.__name__)
    _attach(schema, model)
    return schema


def _convert(node: Schema, definitions: Schema, path: str) -> Schema:
    node = _resolve(node, definitions)
    if "pattern" in node:
        if "expected" not in node:
            raise ValueError(f"{path}: say what the pattern expects: json_schema_extra={{'expected': ...}}")
        _add_rule(node, f"self.matches({json.dumps(node['pattern'])})", f"must be {node['expected']}")
    if "least" in node:
        length = cel_milliseconds("self")
        bounds = [
            f"{operator} {round(1000 * seconds(node[end]))}" for end, operator in (("least", ">="), ("most", "<="))
        ]
        within = " && ".join(f"{length} {bound}" for bound in bounds)
        rule = f"!self.matches({json.dumps(node['pattern'])}) || ({within})"  # the pattern's rule says the rest
        _add_rule(node, rule, f"must be {node['least']} to {node['most']}")
    hint = f"; {node['hint']}" if "hint" in node else ""
    for bound, operator, words in _BOUNDS_IN_CEL:
        # An exclusive bound is a boolean in OpenAPI 3.0, of a fraction the API server's message shows no digits, and a
        # hint has no place in it.
        limit = node.get(bound)
        if limit is not None and (bound.startswith("exclusive") or limit != int(limit) or hint):
            number = int(limit) if node.get("type") == "integer" else float(limit)
            _add_rule(node, f"self {operator} {number}", f"must be {words} {limit}{hint}")
            del node[bound]
    result: Schema = {key: value for key, value in node.items() if key in _KEPT}
    if "type" not in result:
        raise ValueError(f"{path}: a CRD can not express {json.dumps(node)[:200]}")
    if result["type"] == "string" and "enum" not in result and "format" not in result:
        result.setdefault("maxLength", _LONGEST_STRING)  # the API server bounds the cost of CEL rules by it
    if result["type"] == "array":
        result["items"] = _convert(node["items"], definitions, f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        result["additionalProperties"] = _convert(node["additionalProperties"], definitions, f"{path}{{}}")
        result.setdefault("maxProperties", node.get("maxProperties", _MOST_PROPERTIES))
    if "properties" in node:
        result["properties"] = {
            name: _convert(child, definitions, f"{path}.{name}") for name, child in node["properties"].items()
        }
    return result


def _add_rule(node: Schema, rule: str, message: str) -> None:
    rules = node.get("x-kubernetes-validations", [])
    node["x-kubernetes-validations"] = [*rules, {"rule": rule, "message": message}]


def _resolve(node: Schema, definitions: Schema) -> Schema:
    """Follow `$ref`, and unwrap `X | None` to `X`: absence is how Kubernetes says none."""
    node = dict(node)
    options = [option for option in node.pop("anyOf", []) if option.get("type") != "null"]
    if len(options) == 1:
        node = {**options[0], **node}
    if "allOf" in node and len(node["allOf"]) == 1:
        node = {**node.pop("allOf")[0], **node}
    if "$ref" in node:
        target = definitions[node.pop("$ref").rsplit("/", 1)[1]]
        return _resolve({**target, **node}, definitions)
    return node


def _attach(schema: Schema, model: type[Model]) -> None:
    """Add what pydantic's schema does not carry: CEL rules, defaults in words, and the demand for a description."""
    if model.rules:
        schema["x-kubernetes-validations"] = [*schema.get("x-kubernetes-validations", []), *cel(model.rules)]
    for name, info in model.model_fields.items():
        child = schema["properties"][info.alias or name]
        nested = _nested_model(info.annotation)
        if not info.description and not nested:
            raise ValueError(f"{model.__name__}.{name} has no description; write a docstring under the field")
        if info.description:
            child["description"] = " ".join(info.description.split())
        default = info.get_default(call_default_factory=True, validated_data={})
        if default not in (None, PydanticUndefined, "", [], {}) and not isinstance(default, BaseModel):
            child["description"] += f" Defaults to {default if isinstance(default, str) else json.dumps(default)}."
        if nested:
            _attach(child["items"] if child["type"] == "array" else child, nested)


def _nested_model(annotation: Any) -> type[Model] | None:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _nested_model(arg))), None)
