"""What waits at one prefill worker, and what of it goes into the next forward pass.

`FirstCome` is what engines do unless told otherwise. `Ordered` asks an order of `dopd_scheduling`, the same object that
runs in the simulated and in the real engine; as SGLang does for its own orders that look at the prefix cache, it looks
all waiting prompts up before each pass, and holds back a prompt whose next block another one is about to compute.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol

from dopd.replay.prefix_cache import BLOCK_TOKENS, PrefixCache, Prefixes
from dopd_scheduling import Order, Piece, Prompt

LOOKED_UP = 128
"""Waiting prompts that are looked up before each pass, the oldest ones (SGLang, WAITING_QUEUE_PREFIX_MATCH_MAX)."""


@dataclass(frozen=True)
class Prompts:
    """All prompts of a trace.

    Attributes:
        arrivals: seconds.
        inputs: tokens.
        prefixes: their blocks; None where the trace tells none.
        uncached: tokens of each that its worker has to compute, as last looked up.
        batch: whether each stands behind those that have a deadline; None where none does.
    """

    arrivals: Sequence[float]
    inputs: Sequence[int]
    prefixes: Prefixes | None
    uncached: list[int]
    batch: Sequence[bool] | None = None

    def is_batch(self, request: int) -> bool:
        """Whether a prompt stands behind those that have a deadline."""
        return self.batch is not None and self.batch[request]

    def look_up(self, request: int, cache: PrefixCache) -> list[int]:
        """Set what of a prompt has to be computed, at least one token; returns the blocks that are held."""
        if self.prefixes is None:
            return []
        blocks = self.prefixes.of(request)
        held = cache.held(blocks)
        self.uncached[request] = max(1, self.inputs[request] - held * BLOCK_TOKENS)
        return blocks[:held]

    def next_block(self, request: int) -> int | None:
        """The first block of a prompt that its worker does not hold; None where there is none to share."""
        if self.prefixes is None:
            return None
        blocks = self.prefixes.of(request)
        held = (self.inputs[request] - self.uncached[request]) // BLOCK_TOKENS
        return blocks[held] if held < len(blocks) else None


class Pass(NamedTuple):
    """A forward pass: the prompts that it completes, its new tokens, and end^2 - start^2 over its pieces."""

    completed: list[int]
    tokens: int
    attended: int


class PrefillQueue(Protocol):
    """What waits at one worker.

    Attributes:
        waiting_tokens: yet to be computed, those of prompts that have begun, too; an order that tells a batch apart
            does not count it.
    """

    waiting_tokens: int

    def __len__(self) -> int:
        """Prompts that are not complete."""

    def append(self, request: int) -> None:
        """Take a prompt in."""

    def next_pass(self, now_seconds: float, room_tokens: int) -> Pass:
        """Take the next pass out."""

    def all(self) -> list[int]:
        """All prompts that are not complete."""


class FirstCome:
    """In order of arrival; the last prompt of a pass may be cut and goes on in the next one."""

    def __init__(self, prompts: Prompts, cache: PrefixCache) -> None:
        self.waiting_tokens = 0
        self._prompts, self._cache = prompts, cache
        self._queue: deque[int] = deque()
        self._done_tokens = 0  # of the first prompt, cached or computed

    def __len__(self) -> int:
        return len(self._queue)

    def append(self, request: int) -> None:
        """Take a prompt in."""
        self._prompts.look_up(request, self._cache)
        self.waiting_tokens += self._prompts.uncached[request]
        self._queue.append(request)

    def next_pass(self, now_seconds: float, room_tokens: int) -> Pass:
        """Take the next pass out."""
        queue, inputs, room, attended = self._queue, self._prompts.inputs, room_tokens, 0
        completed = []
        while queue and room:
            length = inputs[queue[0]]
            start = self._done_tokens
            if self._prompts.prefixes is not None and not start:
                start = self._take_up(queue[0])
            end = min(length, start + room)
            room -= end - start
            attended += end * end - start * start
            if end == length:
                completed.append(queue.popleft())
                self._done_tokens = 0
            else:
                self._done_tokens = end
        self.waiting_tokens -= room_tokens - room
        return Pass(completed, room_tokens - room, attended)

    def all(self) -> list[int]:
        """All prompts that are not complete."""
        return list(self._queue)

    def _take_up(self, request: int) -> int:
        """Look a prompt up again, as its prefill begins; returns the tokens that are cached."""
        uncached = self._prompts.uncached
        self.waiting_tokens -= uncached[request]
        self._cache.use(self._prompts.look_up(request, self._cache))
        self.waiting_tokens += uncached[request]
        return self._prompts.inputs[request] - uncached[request]


class Ordered:
    """As an order says."""

    def __init__(self, prompts: Prompts, cache: PrefixCache, order: Order) -> None:
        self.waiting_tokens = 0
        self._prompts, self._cache, self._order = prompts, cache, order
        self._waiting: dict[int, Prompt] = {}
        self._begun: dict[int, Prompt] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._begun)

    def append(self, request: int) -> None:
        """Take a prompt in."""
        self._prompts.look_up(request, self._cache)
        tokens, batch = self._prompts.uncached[request], self._prompts.is_batch(request)
        self.waiting_tokens += 0 if batch else tokens
        cached = self._prompts.inputs[request] - tokens
        self._waiting[request] = Prompt(request, self._prompts.arrivals[request], tokens, cached, batch)

    def next_pass(self, now_seconds: float, room_tokens: int) -> Pass:
        """Take the next pass out."""
        pieces = self._choose(now_seconds, room_tokens)
        completed, attended = [], 0
        for prompt, tokens in pieces:
            request: int = prompt.key  # type: ignore[assignment]
            self._waiting.pop(request, None)
            attended += tokens * (tokens + 2 * prompt.context_tokens)
            prompt.tokens -= tokens
            prompt.context_tokens += tokens
            if prompt.tokens:
                self._begun[request] = prompt
            else:
                self._begun.pop(request, None)
                completed.append(request)
        self.waiting_tokens -= sum(tokens for prompt, tokens in pieces if not prompt.batch)
        return Pass(completed, sum(tokens for _, tokens in pieces), attended)

    def all(self) -> list[int]:
        """All prompts that are not complete."""
        return [*self._begun, *self._waiting]

    def _choose(self, now_seconds: float, room_tokens: int) -> list[Piece]:
        begun = list(self._begun.values())
        if self._prompts.prefixes is None:
            return self._order.next_pass(now_seconds, list(self._waiting.values()), begun, room_tokens)
        for request in islice(self._waiting, LOOKED_UP):
            self._refresh(request)
        while True:
            pieces = self._order.next_pass(now_seconds, self._candidates(), begun, room_tokens)
            fresh = [prompt.key for prompt, _ in pieces if prompt.key in self._waiting]
            if not any([self._refresh(request) for request in fresh]):
                break
        for request in fresh:
            self._cache.use(self._prompts.look_up(request, self._cache))
        return pieces

    def _refresh(self, request: int) -> bool:
        """Look a waiting prompt up; whether what is held of it has changed."""
        prompt = self._waiting[request]
        self._prompts.look_up(request, self._cache)
        tokens = self._prompts.uncached[request]
        changed = tokens != prompt.tokens
        self.waiting_tokens += 0 if prompt.batch else tokens - prompt.tokens
        prompt.tokens, prompt.context_tokens = tokens, self._prompts.inputs[request] - tokens
        return changed

    def _candidates(self) -> list[Prompt]:
        """Waiting prompts, of several that lack the same block the first one alone."""
        taken = {self._prompts.next_block(request) for request in self._begun}
        candidates = []
        for request, prompt in self._waiting.items():
            block = self._prompts.next_block(request)
            if block is None or block not in taken:
                candidates.append(prompt)
                taken.add(block)
        return candidates if candidates or self._begun else list(self._waiting.values())
