"""What outside answers have in common once they are JSON: how they are validated, and how a bad part is named. Pure.

Sums and squares of what is let through stay finite, so nothing behind the doors has to look for infinities.
"""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

LARGEST_COUNT = 10**9
"""Requests or tokens in one queue: beyond what any engine holds, and far from where sums lose digits."""
LARGEST_TOTAL = 1e18
"""Of a counter that only grows."""
LONGEST_WORDS = 200

Model = TypeVar("Model", bound=BaseModel)


class BadAnswer(ValueError):
    """An answer, or a part of it, that is not what was asked for. The message names the field and what is expected."""


class Answer(BaseModel):
    """Fields that are read; an answer may have others, and null stands for absent."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def _absent(value: Any) -> Any:
    return 0 if value is None else value


Count = Annotated[int, Field(ge=0, le=LARGEST_COUNT)]
OptionalCount = Annotated[Count, BeforeValidator(_absent)]
OptionalShare = Annotated[float, Field(ge=0, le=LARGEST_COUNT, allow_inf_nan=False), BeforeValidator(_absent)]
Total = Annotated[float, Field(ge=0, le=LARGEST_TOTAL, allow_inf_nan=False)]
OptionalTotal = Annotated[Total, BeforeValidator(_absent)]


def validated(model: type[Model], answer: Any) -> Model:
    """An answer as the rest trusts it.

    Raises:
        BadAnswer: it is none.
    """
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        raise BadAnswer(first_problem(error)) from None


def first_problem(error: ValidationError, within: str = "") -> str:
    """The first of the problems: where it is and what is expected. Never what was there, which is an outsider's."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join([*([within] if within else []), *map(str, first["loc"])])
    words = f"{where}: {first['msg']}" if where else str(first["msg"])
    return printable(words)


def printable(text: str, longest: int = LONGEST_WORDS) -> str:
    """Text of an outsider as it may be shown: cut, and without control characters."""
    shown = "".join(c if c.isprintable() else " " for c in text[: longest + 1])
    return shown if len(shown) <= longest else f"{shown[:longest]}..."
