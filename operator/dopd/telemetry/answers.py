"""The door for what Prometheus answers: series that can be trusted, or a named failure of that one query. Pure.

What is let through has the labels as text and each value as a number, which may be NaN or infinite: that is a matter
of the one series. A series without a value (a native histogram, say), an answer of another kind than asked for and
what is no number at all are failures of the query, since it can not be told whose they are.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError
from pydantic.types import FailFast
from typing_extensions import TypedDict

from dopd.telemetry.doors import BadAnswer, first_problem

Point = tuple[FiniteFloat, float]
"""(seconds since the epoch, value)."""

Kind = Literal["vector", "matrix"]

LARGEST_RATE = 1e15
"""No load is larger: whatever says so is broken. Sums and squares of what is smaller stay finite."""


class _Series(TypedDict):
    metric: dict[str, str]


class _Instant(_Series):
    value: Point


class _Range(_Series):
    values: Annotated[list[Point], FailFast()]


class _Vector(TypedDict):
    resultType: Literal["vector"]
    result: Annotated[list[_Instant], FailFast()]


class _Matrix(TypedDict):
    resultType: Literal["matrix"]
    result: Annotated[list[_Range], FailFast()]


class _OfInstant(TypedDict, total=False):
    status: str
    data: _Vector
    warnings: Annotated[list[str], Field(max_length=1000)] | None
    isPartial: bool | None


class _OfRange(TypedDict, total=False):
    status: str
    data: _Matrix
    warnings: Annotated[list[str], Field(max_length=1000)] | None
    isPartial: bool | None


_DOORS: dict[Kind, TypeAdapter[Any]] = {"vector": TypeAdapter(_OfInstant), "matrix": TypeAdapter(_OfRange)}


def parse_answer(kind: Kind, body: bytes | bytearray) -> dict[str, Any]:
    """An answer of Prometheus' API with status 200; has a key "data" if it is a success.

    Args:
        kind: of the result as asked for.
        body: JSON.

    Raises:
        BadAnswer: it is none, or of another kind, or one of its series can not be read.
    """
    try:
        answer: dict[str, Any] = _DOORS[kind].validate_json(body)
    except ValidationError as error:
        raise BadAnswer(first_problem(error)) from None
    return answer


def buckets(series: Iterable[Mapping[str, Any]]) -> dict[float, float]:
    """A cumulative histogram, of series with an upper bound in label `le`; `1` and `1.0` are one bound.

    A bucket whose value is no rate is not known.

    Raises:
        BadAnswer: a series has no number in that label.
    """
    found: dict[float, float] = {}
    for item in series:
        try:
            bound = float(item["metric"].get("le", ""))
        except ValueError:
            bound = math.nan
        if math.isnan(bound):
            raise BadAnswer("a bucket has no number in label le; look at what relabels it")
        value = float(item["value"][1])
        if abs(value) <= LARGEST_RATE:
            found[bound] = found.get(bound, 0.0) + value
    return found
