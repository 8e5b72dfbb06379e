"""What a fault is to the driver."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from e2e.endurance.plan import Pair
from e2e.faults.trial import Trial

Json = dict[str, Any]


class Loses(StrEnum):
    """Requests that a fault may cost."""

    NONE = "none"
    """No request at all."""
    OWN = "own"
    """Those that ran on what was killed, and what was sent there until that was noticed."""


@dataclass(frozen=True)
class Outcome:
    """What a fault showed, beside what the trial itself notices.

    Attributes:
        recovery: after how long all was well again, and since when that counts.
        problems: what should not have been.
        saw: what is to be said of the users beside the requests.
        lost_gpus: of a node that is lost: the audit log counts its pods until it is back, and nobody else can use them.
    """

    recovery: str
    problems: tuple[str, ...] = ()
    saw: str = ""
    lost_gpus: int = 0


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        title: in words.
        does: what dopd does about it, in words.
        cause: makes it happen, watches, and mends it.
        loses: what it may cost.
        workers: that serve at first.
        changes: fields of the resource beside the usual, see `resources.changed`.
        gateways: of the resource.
        answer_tokens: shortest and longest answer.
        needs: prepares the cluster; called before the resource is applied.
    """

    title: str
    does: str
    cause: Callable[[Trial], Outcome]
    loses: Loses = Loses.NONE
    workers: Pair = (3, 3)
    changes: Mapping[str, Any] = field(default_factory=dict)
    gateways: int = 2
    answer_tokens: tuple[int, int] = (20, 500)
    needs: tuple[Json, ...] = ()
