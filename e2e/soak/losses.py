"""Which requests were lost, and which failed because what served them was killed on purpose. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from e2e.load.client import Outcome, Result
from e2e.soak.plan import TRAITS, Kind

CLOCK_SECONDS = 0.5
"""That the clocks of the load and of the run may differ by."""


@dataclass(frozen=True)
class Happened:
    """A fault that was caused. Times are seconds since the load began.

    Attributes:
        kind: of it.
        at_seconds: when it began.
        well_at_seconds: when all was well again.
        hit: what it hit, in words.
    """

    kind: Kind
    at_seconds: float
    well_at_seconds: float
    hit: str = ""


@dataclass(frozen=True)
class Losses:
    """Requests that were not answered in whole.

    Attributes:
        lost: those that no fault may cost.
        own: those that a fault may cost, by its number.
    """

    lost: list[Result] = field(default_factory=list)
    own: dict[int, list[Result]] = field(default_factory=dict)


def whole(result: Result) -> bool:
    """Whether a request got all that it asked for, and no more."""
    return result.outcome is Outcome.OK and result.got_tokens == result.asked_tokens


def losses(results: Sequence[Result], faults: Sequence[Happened]) -> Losses:
    """Tell what was lost from what a fault may cost.

    A fault may cost a request that ended within the fault's seconds with a clear error of its kind: the client does not
    know which worker it was at. A stream that was cut, a wrong count of tokens and a time-out are never a fault's own.
    """
    found = Losses()
    for result in results:
        if whole(result):
            continue
        owner = next((number for number, fault in enumerate(faults) if _owns(fault, result)), None)
        if owner is None:
            found.lost.append(result)
        else:
            found.own.setdefault(owner, []).append(result)
    return found


def ended_at_seconds(result: Result) -> float:
    """When a request ended, since the load began."""
    return result.at_seconds + result.late_seconds + result.total_seconds


def _owns(fault: Happened, result: Result) -> bool:
    trait = TRAITS[fault.kind]
    if not trait.costs or result.outcome is not Outcome.FAILED or not re.search(trait.costs, result.error):
        return False
    end = fault.well_at_seconds if trait.costs_seconds is None else fault.at_seconds + trait.costs_seconds
    return fault.at_seconds - CLOCK_SECONDS <= ended_at_seconds(result) <= end + CLOCK_SECONDS
