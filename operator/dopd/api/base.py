"""What every part of the custom resources shares: strict pydantic models that know their CEL rules.

A model is read from a manifest (camelCase), is immutable, and refuses unknown fields. The docstring under a field is
its description in the CRD, so `kubectl explain` and the code can not disagree.
"""

import re
from enum import StrEnum
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "dopd.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class Rule(NamedTuple):
    """One CEL rule of the CRD schema (`x-kubernetes-validations`).

    The API server evaluates it where a webhook would be needed otherwise; the message names the field and the fix.

    Attributes:
        rule: CEL expression that must hold; `self` is the object.
        message: what is said when it does not.
        field_path: the one field below the object that is at fault, such as `.max`; the object itself if empty.
    """

    rule: str
    message: str
    field_path: str = ""


class Model(BaseModel):
    """Base of all resource models."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    rules: ClassVar[tuple[Rule, ...]] = ()


_PART = "[0-9]+(ms|s|m|h|d)"
_PART_ABOVE_ZERO = "[0-9]*[1-9][0-9]*(ms|s|m|h|d)"
DURATION_PATTERN = f"^({_PART})*{_PART_ABOVE_ZERO}({_PART})*$"
_DURATION_PART = re.compile(r"([0-9]+)(ms|s|m|h|d)")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(duration: str) -> float:
    """Length of a duration such as `90s`, `1h30m` or `500ms`, in seconds.

    Raises:
        ValueError: the text is not a duration, or one of no length.
    """
    if not re.match(DURATION_PATTERN, duration):
        raise ValueError(f"{duration!r} is not a duration above zero; expected for example 90s, 1h30m or 500ms")
    return sum(int(number) * _UNIT_SECONDS[unit] for number, unit in _DURATION_PART.findall(duration))


# For a pattern alone the API server's answer is the regular expression: `expected` is what it says instead (schema.py).

Duration = Annotated[
    str,
    Field(
        pattern=DURATION_PATTERN,
        max_length=32,
        json_schema_extra={"expected": "a length of time above zero, such as 90s, 1h30m or 500ms"},
    ),
]
"""A positive length of time as Kubernetes and Prometheus users write it."""

Name = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        max_length=253,
        json_schema_extra={
            "expected": "the name of an object (lower-case letters, digits, '-' and '.'), such as llama-3.1-8b-h100"
        },
    ),
]
"""The name of another object in the same namespace."""

Image = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][^\s]*$",
        max_length=512,
        json_schema_extra={"expected": "an image without blanks, such as lmsysorg/sglang:v0.5.23"},
    ),
]
"""A container image reference."""

Quantity = Annotated[
    str,
    Field(
        pattern=r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$",
        max_length=32,
        json_schema_extra={"expected": "an amount of memory without blanks, such as 16Gi or 512Mi"},
    ),
]
"""An amount of memory as Kubernetes writes it, such as 16Gi."""

PodTemplateOverlay = Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]
"""Part of a pod, as Kubernetes writes it, that is merged over the operator's."""


class PullPolicy(StrEnum):
    """When the kubelet pulls an image."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"
