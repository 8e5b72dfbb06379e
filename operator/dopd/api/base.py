"""What every part of the custom resources shares: strict pydantic models that know their CEL rules.

A model is read from a manifest (camelCase), is immutable, and refuses unknown fields. The docstring under a field is
its description in the CRD, so `kubectl explain` and the code can not disagree.
"""

import re
from typing import Annotated, ClassVar, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "dopd.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class Rule(NamedTuple):
    """One CEL rule of the CRD schema (`x-kubernetes-validations`).

    The API server evaluates it where a webhook would be needed otherwise; the message names the field and the fix.
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


DURATION_PATTERN = r"^([0-9]+(ms|s|m|h|d))+$"
_DURATION_PART = re.compile(r"([0-9]+)(ms|s|m|h|d)")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(duration: str) -> float:
    """Length of a duration such as `90s`, `1h30m` or `500ms`, in seconds.

    Raises:
        ValueError: the text is not a duration.
    """
    if not re.match(DURATION_PATTERN, duration):
        raise ValueError(f"{duration!r} is not a duration; expected for example 90s, 1h30m or 500ms")
    return sum(int(number) * _UNIT_SECONDS[unit] for number, unit in _DURATION_PART.findall(duration))


def _positive(duration: str) -> str:
    if seconds(duration) <= 0:
        raise ValueError("duration must be longer than zero")
    return duration


Duration = Annotated[
    str, Field(pattern=DURATION_PATTERN, max_length=32, examples=["90s", "1h30m"]), AfterValidator(_positive)
]
"""A positive length of time as Kubernetes and Prometheus users write it."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
"""The name of another object in the same namespace."""

Image = Annotated[str, Field(pattern=r"^[A-Za-z0-9][^\s]*$", max_length=512)]
"""A container image reference."""

Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$", max_length=32)]
"""An amount of memory as Kubernetes writes it, such as 16Gi."""
