"""What an exchange of operators falls into: nothing, or a move that has begun and is not over."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from dopd.api.names import FLIP_TO, ROLE_LABEL
from e2e.endurance.field import Field
from e2e.endurance.plan import Pair


@dataclass(frozen=True)
class Middle:
    """A move that operators hand over to each other.

    Attributes:
        title: in words; names its rows.
        start: workers that serve before.
        end: workers that serve afterwards.
        begin: begins it.
        under_way: whether it has begun and is not over; is told the workers of before.
        leaves: of the workers of before, how many must be gone when it is over.
        changes: of the resource, see `resources.changed`.
    """

    title: str
    start: Pair
    end: Pair
    begin: Callable[[Field], None]
    under_way: Callable[[Field, AbstractSet[str]], bool]
    leaves: int
    changes: Mapping[str, Any] = field(default_factory=dict)


def _draining(field: Field, _: AbstractSet[str]) -> bool:
    return any(ROLE_LABEL not in pod["metadata"]["labels"] for pod in field.pods())


def _changing_role(field: Field, _: AbstractSet[str]) -> bool:
    return any(FLIP_TO in pod["metadata"].get("annotations", {}) for pod in field.pods())


def _half_replaced(field: Field, before: AbstractSet[str]) -> bool:
    there = field.uids()
    return bool(there & before) and bool(there - before)


MIDDLES = {
    "rest": Middle(
        "nothing: all serve", (2, 2), (2, 2),
        begin=lambda field: None, under_way=lambda field, before: True, leaves=0,
    ),
    "drain": Middle(
        "a scale-down: workers drain", (3, 3), (2, 2),
        begin=lambda field: field.scale((2, 2)), under_way=_draining, leaves=2,
    ),
    "flip": Middle(
        "a change of role", (2, 2), (3, 1),
        begin=lambda field: field.scale((3, 1)), under_way=_changing_role, leaves=0,
        changes={"roleSwitching__enabled": True, "scaling__mode": "External", "scaling__gpuBudget": {"max": 4}},
    ),
    "rollout": Middle(
        "a rollout with no GPU to spare", (3, 3), (3, 3),
        begin=Field.new_revision, under_way=_half_replaced, leaves=6,
    ),
}  # fmt: skip
"""By the name that the command line takes."""
