"""Whether the workers that were there are those that the decisions said. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from e2e.endurance.cap import Held
from e2e.endurance.plan import Pair

STAND_SECONDS = 60.0
"""A decision that stands so long must have been done: the longest answer, a drain of a worker and the start of another
take less (docs/faults.md, endurance)."""
MARGIN_SECONDS = 3.0
"""Before the next decision: its time is cut to the second, and pods are made before it is written."""


@dataclass(frozen=True)
class Decision:
    """A change of the target, as the status tells it.

    Attributes:
        at_seconds: since the load began; less than zero for what came before.
        before: workers that were asked for before.
        to: workers that are asked for.
        reason: in one word.
    """

    at_seconds: float
    before: Pair
    to: Pair
    reason: str


@dataclass(frozen=True)
class There:
    """Workers that are there from a moment on, whatever they do.

    Attributes:
        at_seconds: since the load began.
        workers: prefill and decode.
    """

    at_seconds: float
    workers: Pair


@dataclass(frozen=True)
class Disagreement:
    """A moment at which the two were not the same."""

    at_seconds: float
    said: Pair
    there: Pair
    what: str = "stood long enough, and was not so"


@dataclass
class Agreement:
    """What the comparison found.

    Attributes:
        decisions: in all.
        checked: those that stood undisturbed for long enough at some time.
        checked_seconds: for which they were compared with the cluster.
        disagreements: what was not the same.
    """

    decisions: int = 0
    checked: int = 0
    checked_seconds: float = 0.0
    disagreements: list[Disagreement] = field(default_factory=list)


def workers_there(held: Iterable[Held], name: str, began: datetime) -> list[There]:
    """Workers of each role after each creation and each end in the audit log.

    Args:
        held: GPUs after each, from the first of the resource on; every worker has one.
        name: of the resource.
        began: when the load did.
    """
    prefill = decode = 0
    found = []
    for each in held:
        change = each.gpus - (prefill + decode)
        if each.pod.startswith(f"{name}-prefill-"):
            prefill += change
        else:
            decode += change
        found.append(There((each.at - began).total_seconds(), (prefill, decode)))
    return found


def agreement(
    decisions: Sequence[Decision],
    there: Sequence[There],
    disturbed: Sequence[tuple[float, float]],
    end_seconds: float,
    stand_seconds: float = STAND_SECONDS,
) -> Agreement:
    """Compare each decision with the workers that were there while it stood.

    Args:
        decisions: in order of time.
        there: in order of time.
        disturbed: begin and end of each fault; meanwhile nothing is compared.
        end_seconds: of the comparison.
        stand_seconds: after which a decision must have been done.
    """
    found = Agreement(decisions=len(decisions))
    for one, two in pairwise(decisions):
        if two.before != one.to:
            found.disagreements.append(Disagreement(two.at_seconds, one.to, two.before, "a decision is missing"))
    for number, decision in enumerate(decisions):
        later = decisions[number + 1 :]
        end = later[0].at_seconds - MARGIN_SECONDS if later else end_seconds
        quiet = list(_quiet(max(decision.at_seconds + stand_seconds, 0.0), min(end, end_seconds), disturbed))
        found.checked += bool(quiet)
        for left, right in quiet:
            found.checked_seconds += right - left
            other = next((seen for seen in _between(there, left, right) if seen.workers != decision.to), None)
            if other is not None:
                found.disagreements.append(Disagreement(other.at_seconds, decision.to, other.workers))
    return found


def _quiet(left: float, right: float, disturbed: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """What is left of a stretch outside of the faults."""
    for begin, end in sorted(disturbed):
        if min(begin, right) > left:
            yield left, min(begin, right)
        left = max(left, end)
    if right > left:
        yield left, right


def _between(there: Sequence[There], left: float, right: float) -> Iterator[There]:
    """What was there at the left end of a stretch, and after each change within it."""
    before = [each for each in there if each.at_seconds <= left]
    yield There(left, before[-1].workers if before else (0, 0))
    yield from (each for each in there if left < each.at_seconds < right)
