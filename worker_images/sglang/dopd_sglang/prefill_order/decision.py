"""What rank 0 decides for a pass, as numbers that are the same on all ranks of a tensor parallel group.

Every rank runs a scheduler of its own over the same queue. Clocks, learned times and the settings file differ between
them, so the ranks do not decide alike each for itself: rank 0 decides, and the others are told. Nor do they fail alike:
each makes ready what it would do, and it is done only where all of them are ready. Ranks that compose different passes
would wait for each other for ever.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MOST_PIECES = 256
MOST_REFUSED = 64
HEAD = 4
NUMBERS = HEAD + 2 * MOST_PIECES + MOST_REFUSED


@dataclass(frozen=True)
class Decision:
    """Positions are those in the list of waiting requests, followed by the unfinished ones.

    Attributes:
        planned: False: the engine's own order decides about this pass.
        pieces: position and tokens, in the order of choice.
        refused: positions of waiting requests to be ended early.
        short: the pass is to be no larger than these pieces: others would wait for it who are not there yet.
    """

    planned: bool
    pieces: tuple[tuple[int, int], ...] = ()
    refused: tuple[int, ...] = ()
    short: bool = False

    def numbers(self) -> list[int]:
        """Always so many, whatever was decided."""
        pieces, refused = self.pieces[:MOST_PIECES], self.refused[:MOST_REFUSED]
        numbers = [int(self.planned), len(pieces), len(refused), int(self.short)]
        numbers += [number for piece in pieces for number in piece]
        numbers += refused
        return numbers + [0] * (NUMBERS - len(numbers))


OWN_ORDER = Decision(planned=False)


def from_numbers(numbers: list[int]) -> Decision:
    """The reverse of `Decision.numbers`."""
    planned, pieces, refused, short = numbers[:HEAD]
    end = HEAD + 2 * pieces
    flat = numbers[HEAD:end]
    ended = tuple(numbers[end : end + refused])
    return Decision(bool(planned), tuple(zip(flat[::2], flat[1::2], strict=True)), ended, bool(short))


class Ranks:
    """The tensor parallel group of a scheduler.

    Args:
        size: ranks.
        rank: this one.
        group: torch's group of them for CPU tensors.
        first: the global rank of its rank 0.
    """

    def __init__(self, size: int = 1, rank: int = 0, group: Any = None, first: int = 0) -> None:
        self.size, self.rank, self._group, self._first = size, rank, group, first

    def agree(self, decide: Callable[[], Decision]) -> Decision:
        """Rank 0 decides, all follow; every rank must call this for the same passes."""
        decision = decide() if self.rank == 0 else OWN_ORDER
        if self.size == 1:
            return decision
        import torch

        numbers = torch.tensor(decision.numbers(), dtype=torch.int64)
        torch.distributed.broadcast(numbers, src=self._first, group=self._group)
        return from_numbers(numbers.tolist())

    def all_ready(self, ready: bool) -> bool:
        """Whether all ranks are; every rank must call this for the same passes."""
        return not any(self.on_any([not ready]))

    def on_any(self, flags: list[bool]) -> list[bool]:
        """Which of these hold on any rank; every rank must call this for the same passes, with as many flags."""
        if self.size == 1:
            return flags
        import torch

        numbers = torch.tensor(flags, dtype=torch.int64)
        torch.distributed.all_reduce(numbers, op=torch.distributed.ReduceOp.MAX, group=self._group)
        return [bool(number) for number in numbers.tolist()]
