"""What every part of the custom resources shares: strict pydantic models that know their CEL rules.

A model is read from a manifest (camelCase), is immutable, and refuses unknown fields. The docstring under a field is
its description in the CRD, so `kubectl explain` and the code can not disagree.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, core_schema

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
        named: CEL for the part of the object that is at fault; the message then begins with it. For lists, of which the
            API server shows no value.
    """

    rule: str
    message: str
    field_path: str = ""
    named: str = ""


def cel(rules: Iterable[Rule]) -> list[dict[str, str]]:
    """Rules as a schema holds them."""
    return [
        {
            "rule": r.rule,
            "message": r.message,
            **({"messageExpression": f"{r.named} + {json.dumps(f' {r.message}')}"} if r.named else {}),
            **({"fieldPath": r.field_path} if r.field_path else {}),
        }
        for r in rules
    ]


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


_PART = "[0-9]{1,9}(ms|s|m|h|d)"  # nine digits: a sum of them in milliseconds fits 64 bits
_PART_ABOVE_ZERO = "[0-9]{0,8}[1-9][0-9]{0,8}(ms|s|m|h|d)"
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
"""A positive length of time as Kubernetes and Prometheus users write it. Give each field its bounds by `Within`."""


@dataclass(frozen=True)
class Within:
    """Bounds of a Duration, for the model and for the schema (`least`, `most`).

    Each field has both. What paces work needs the lower one: a period of a millisecond would keep the operator busy
    with one resource. The upper one refuses what was meant in another unit.
    """

    least: str
    most: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the bounds after the form."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Hand the bounds to the CRD's schema."""
        return {**handler(schema), "least": self.least, "most": self.most}

    def _check(self, duration: str) -> str:
        if not seconds(self.least) <= seconds(duration) <= seconds(self.most):
            raise ValueError(f"must be {self.least} to {self.most}")
        return duration


def cel_milliseconds(duration: str) -> str:
    """CEL for the length of a Duration in milliseconds; CEL's own `duration()` knows no days.

    Args:
        duration: CEL for the text.
    """
    unit = " : ".join(
        f"p.endsWith('{unit}') ? {round(1000 * length)}" for unit, length in _UNIT_SECONDS.items() if unit != "d"
    )
    parts = f"{duration}.findAll('[0-9]+(ms|s|m|h|d)')"
    return f"{parts}.map(p, int(p.find('[0-9]+')) * ({unit} : {round(1000 * _UNIT_SECONDS['d'])})).sum()"


_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
DOMAIN = rf"{_LABEL}(\.{_LABEL})*"
"""A name of DNS labels: what Kubernetes takes for names of objects and for the domain of a resource."""

Name = Annotated[
    str,
    Field(
        pattern=f"^{DOMAIN}$",
        max_length=253,
        json_schema_extra={
            "expected": "the name of an object (lower-case letters, digits, '-' and single '.' between them), such as"
            " llama-3.1-8b-h100"
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

_QUANTITY_UNITS = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip


def _sensible_memory(quantity: str) -> str:
    unit = quantity.lstrip("0123456789.")
    if not 2**20 <= float(quantity.removesuffix(unit)) * _QUANTITY_UNITS[unit] <= 2**44:
        raise ValueError("must be 1Mi to 16Ti, such as 16Gi; a number without a unit counts bytes")
    return quantity


Quantity = Annotated[
    str,
    Field(
        pattern=r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$",
        max_length=32,
        json_schema_extra={
            "expected": "an amount of memory without blanks, such as 16Gi or 512Mi",
            "x-kubernetes-validations": cel(
                [
                    Rule(
                        "!isQuantity(self) || quantity(self).compareTo(quantity('1Mi')) >= 0"
                        " && quantity(self).compareTo(quantity('16Ti')) <= 0",
                        "must be 1Mi to 16Ti, such as 16Gi; a number without a unit counts bytes",
                    )
                ]
            ),
        },
    ),
    AfterValidator(_sensible_memory),
]
"""An amount of memory as Kubernetes writes it, such as 16Gi."""


class PullPolicy(StrEnum):
    """When the kubelet pulls an image."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"
