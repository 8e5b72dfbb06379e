"""Prefix caches: what a prefill worker need not compute again, and how a gateway finds the worker that holds it.

A prompt is a chain of blocks of 512 tokens, as published traces name them (`hash_ids`): an id stands for its block and
all before it, so equal ids are equal prefixes. What a prompt holds beyond its last whole block is never shared.

Both the cache of an engine (SGLang's radix tree) and the index of a gateway forget what was used least recently. A
chain is always touched from its end, so that a block is more recent than any that continues it: what goes first is a
leaf, as in a tree, and no block is left without those before it.
"""

import math
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from dopd.replay.workers import PrefillWorker

Ints = npt.NDArray[np.int64]

BLOCK_TOKENS = 512
INDEX_BLOCKS = 2**26 // (4 * BLOCK_TOKENS)
"""What the gateway's index holds: 2^26 characters (smg 1.13.0, `--max-tree-size`), four to a token."""
MATCH_SHARE = 0.3
"""Least share of a prompt that a worker must hold to be preferred (smg 1.13.0, `--cache-threshold`)."""
SPILL_FACTOR = 1.5
SPILL_REQUESTS, LEAST_SPILL_REQUESTS = 64.0, 4.0
"""A worker is passed over above this factor of the mean load and this many requests above it, or two standard
deviations of a Poisson load, at least four, where those are fewer (smg 1.13.0, `--balance-rel-threshold`,
`--balance-abs-threshold`)."""


@dataclass(frozen=True)
class Prefixes:
    """The whole blocks of many prompts.

    Attributes:
        ids: of all prompts, one after the other.
        offsets: where each prompt begins in `ids`, and after the last one where it ends; shape (prompts + 1,).
    """

    ids: Ints
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of_blocks(cls, blocks: Ints, counts: Ints, input_tokens: Ints, block_tokens: int = BLOCK_TOKENS) -> "Prefixes":
        """From the blocks of all prompts, one after the other; what lies beyond the last whole block is left out.

        Args:
            blocks: equal numbers are equal blocks.
            counts: how many each prompt has.
            input_tokens: length of each prompt.
            block_tokens: of one of `blocks`; smaller ones are put together.
        """
        group = BLOCK_TOKENS // block_tokens
        whole = np.minimum(counts // group, input_tokens // BLOCK_TOKENS)
        offsets = np.concatenate(([0], np.cumsum(whole)))
        starts = np.cumsum(counts) - counts
        if group > 1:
            return cls(_joined(blocks, starts, whole, group), offsets)
        places = np.repeat(starts - offsets[:-1], whole) + np.arange(offsets[-1])
        small = np.unique(blocks[places], return_inverse=True)[1]
        return cls(small.astype(np.int64), offsets)

    def of(self, request: int) -> list[int]:
        """Blocks of one prompt."""
        first, last = self.offsets[request : request + 2]
        blocks: list[int] = self.ids[first:last].tolist()
        return blocks

    def between(self, first: int, last: int) -> "Prefixes":
        """Those of the prompts from `first` up to `last`."""
        return Prefixes(self.ids, self.offsets[first : last + 1])

    def take(self, order: Ints) -> "Prefixes":
        """Those of the prompts in another order."""
        lengths = np.diff(self.offsets)[order]
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        places = np.repeat(self.offsets[:-1][order] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Prefixes(self.ids[places], offsets)

    def superposed(self, copies: int) -> "Prefixes":
        """Those of so many copies of the prompts, one copy after the other.

        A copy stands for other users: its blocks are its own. Only the blocks with which every prompt begins, a
        system prompt, are common to all copies.
        """
        starts, lengths = self.offsets[:-1], np.diff(self.offsets)
        common = 0
        while len(lengths) and lengths.min() > common and np.ptp(self.ids[starts + common]) == 0:
            common += 1
        own = ~np.isin(self.ids, self.ids[self.offsets[0] :][:common])
        number = int(self.ids.max(initial=-1)) + 1
        ids = [self.ids + copy * number * own for copy in range(copies)]
        offsets = [starts + copy * len(self.ids) for copy in range(copies)]
        return Prefixes(np.concatenate(ids), np.concatenate([*offsets, [copies * len(self.ids)]]))


def _joined(blocks: Ints, starts: Ints, whole: Ints, group: int) -> Ints:
    """Ids of blocks that are `group` smaller ones each: equal where all smaller ones from the prompt's begin are."""
    known: dict[tuple[int, bytes], int] = {}
    ids = array("q")
    for start, count in zip(starts.tolist(), whole.tolist(), strict=True):
        before = -1
        for first in range(start, start + count * group, group):
            before = known.setdefault((before, blocks[first : first + group].tobytes()), len(known))
            ids.append(before)
    return np.array(ids, dtype=np.int64)


class PrefixCache:
    """Blocks that one prefill worker holds, up to a number."""

    __slots__ = ("_blocks", "_most")

    def __init__(self, kv_tokens: int) -> None:
        self._blocks: OrderedDict[int, None] = OrderedDict()
        self._most = kv_tokens // BLOCK_TOKENS

    def __len__(self) -> int:
        return len(self._blocks)

    def held(self, blocks: Sequence[int]) -> int:
        """How many leading ones of a prompt's blocks it holds."""
        mine = self._blocks
        for number, block in enumerate(blocks):
            if block not in mine:
                return number
        return len(blocks)

    def use(self, blocks: Sequence[int]) -> None:
        """Hold the leading blocks of a prompt as the most recently used ones; what does not fit beside them goes."""
        mine = self._blocks
        for block in reversed(blocks):
            mine[block] = None
            mine.move_to_end(block)
        while len(mine) > self._most:
            mine.popitem(last=False)


class PrefixIndex:
    """What a gateway knows of the caches: where it sent each prefix. It does not see what engines drop.

    The rule is that of smg 1.13.0 (policy cache_aware, its defaults): the least loaded of the workers to which the
    longest known prefix went, if it is more than 30 % of the prompt and that worker is not far above the mean load;
    else the least loaded of all. Loads are outstanding requests; the last choice is smg's by the shortest expected
    wait.
    """

    def __init__(self, most_blocks: int = INDEX_BLOCKS) -> None:
        self._holders: OrderedDict[int, tuple[PrefillWorker, ...]] = OrderedDict()
        self._most = most_blocks

    def choose(self, blocks: Sequence[int], input_tokens: int, serving: Sequence["PrefillWorker"]) -> "PrefillWorker":
        """The worker for a prompt, which is then known to hold it."""
        matched, holders = self._match(blocks, serving)
        chosen = min(serving, key=_load)
        if holders and matched * BLOCK_TOKENS > MATCH_SHARE * input_tokens:
            best = min(holders, key=_load)
            if not _overloaded(best, serving):
                chosen = best
        self._remember(blocks, chosen, serving)
        return chosen

    def _match(self, blocks: Sequence[int], serving: Sequence["PrefillWorker"]) -> tuple[int, list["PrefillWorker"]]:
        """Leading blocks that any serving worker holds, and those workers."""
        known = self._holders
        depth = next((number for number, block in enumerate(blocks) if block not in known), len(blocks))
        for matched in range(depth, 0, -1):
            holders = [worker for worker in known[blocks[matched - 1]] if worker in serving]
            if holders:
                return matched, holders
        return 0, []

    def _remember(self, blocks: Sequence[int], chosen: "PrefillWorker", serving: Sequence["PrefillWorker"]) -> None:
        known = self._holders
        for block in reversed(blocks):
            holders = known.get(block, ())
            if chosen not in holders:
                known[block] = (*(worker for worker in holders if worker in serving), chosen)
            known.move_to_end(block)
        while len(known) > self._most:
            known.popitem(last=False)


def _load(worker: "PrefillWorker") -> int:
    return worker.assigned


def _overloaded(worker: "PrefillWorker", serving: Sequence["PrefillWorker"]) -> bool:
    mean = sum(map(_load, serving)) / len(serving)
    margin = min(SPILL_REQUESTS, max(LEAST_SPILL_REQUESTS, 2 * math.sqrt(mean)))
    return worker.assigned > SPILL_FACTOR * mean and worker.assigned > mean + margin
