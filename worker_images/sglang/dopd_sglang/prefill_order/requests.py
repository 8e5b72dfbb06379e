"""Requests of SGLang as prompts: when they arrived, what of them the prefix cache holds, who shares a prefix."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from dopd_scheduling import Prompt

NEW_MATCHES = 64
"""Requests looked up in the prefix cache for the first time in one pass; SGLang stops at 128 in all."""

OLD_MATCHES = 16
"""Requests looked up again in one pass, in turn: what others computed since may serve them, or was evicted."""

DUPLICATE_TOKENS = 32
"""Prompts that begin with the same so many tokens, of which the cache holds no more, are duplicates. SGLang's value."""


@dataclass(slots=True, eq=False)
class Known:
    """What the plugin knows of one request; kept on the request itself, so that it goes with it.

    Attributes:
        prompt: as the order sees it; tokens in whole pages, since that is what a pass is charged.
        start: its first tokens, if it has as many as duplicates share.
        matched: whether it was looked up in the prefix cache.
        long: whether it counted as long when it began; None before.
        done: whether its end was counted.
    """

    prompt: Prompt
    start: Hashable | None
    matched: bool = False
    long: bool | None = None
    done: bool = False


def arrived_seconds(request: Any) -> float:
    """When the request reached the engine, on `time.perf_counter`'s clock.

    The tokenizer's process stamps it, and sends it along where the plugin is loaded there, too; else it is when the
    scheduler read it, which may be a pass later.
    """
    stats = request.time_stats
    return float(stats.created_time or stats.scheduler_recv_time or stats.wait_queue_entry_time)


def is_batch(request: Any) -> bool:
    """Whether its client has no deadline for it, and says so by a priority below 0."""
    priority = request.priority
    return priority is not None and priority < 0


def token_count(request: Any) -> int:
    """Of the prompt, and of what was generated before a retraction."""
    return len(request.origin_input_ids) + len(request.output_ids)


def whole_pages(tokens: int, page_tokens: int) -> int:
    """Rounded up."""
    return -(-tokens // page_tokens) * page_tokens


class Requests:
    """The requests of one scheduler.

    Args:
        page_tokens: of its KV pool.
        match: looks a request up in the prefix cache, which sets `num_matched_prefix_tokens`; None without a cache.

    Attributes:
        tells_batch: whether prompts of a batch are told apart; of no matter on other ranks than the first.
    """

    def __init__(self, page_tokens: int, match: Callable[[Any], None] | None) -> None:
        self.page_tokens = page_tokens
        self.tells_batch = False
        self._match = match
        self._turn = 0
        self._just_computed: set[Hashable] = set()
        self._computed_before: set[Hashable] = set()
        self._not_held_back: set[Hashable] = set()
        self._held_back: dict[Hashable, int] = {}

    def know(self, request: Any) -> Known:
        """What is known of a request; made up when it is seen first."""
        known: Known | None = getattr(request, "dopd_known", None)
        if known is None:
            prompt = Prompt(request.rid, arrived_seconds(request), 0, batch=self.tells_batch and is_batch(request))
            known = request.dopd_known = Known(prompt, self._start(request))
            self._measure(request, known)
        return known

    def refresh(self, waiting: Sequence[Any]) -> None:
        """Look up requests in the prefix cache: a bounded number, the same ones on every rank.

        A lookup moves entries up in the cache's order of eviction, so that ranks must not differ in it.
        """
        if self._match is None or not waiting:
            return
        left = NEW_MATCHES
        fresh = self._just_computed | self._computed_before
        for request in waiting:
            known = self.know(request)
            if not known.matched or (known.start in fresh and known.prompt.context_tokens <= DUPLICATE_TOKENS):
                self._look_up(request, known)
                left -= 1
                if left == 0:
                    break
        count = len(waiting)
        for offset in range(min(OLD_MATCHES, count)):
            request = waiting[(self._turn + offset) % count]
            self._look_up(request, self.know(request))
        self._turn = (self._turn + OLD_MATCHES) % count

    def unfinished(self, request: Any) -> Prompt:
        """The rest of a request of which a part is computed."""
        prompt = self.know(request).prompt
        prompt.tokens = whole_pages(max(1, token_count(request) - request.prefix_len), self.page_tokens)
        prompt.context_tokens = request.prefix_len
        return prompt

    def waiting(self, waiting: Sequence[Any]) -> list[tuple[int, Prompt]]:
        """Position and prompt of those that may go now, in order of arrival; of duplicates only the shortest.

        A duplicate that waits for a pass finds its prefix in the cache. Where the shortest was not chosen in the last
        pass, its duplicates are offered, too: they may not have to wait for one that is late.
        """
        prompts = [(position, self.know(request).prompt) for position, request in enumerate(waiting)]
        self._held_back = {}
        if self._match is not None:
            held = self._duplicates(waiting)
            if held:
                prompts = [item for item in prompts if item[0] not in held]
        prompts.sort(key=lambda item: item[1].arrived_seconds)
        return prompts

    def _duplicates(self, waiting: Sequence[Any]) -> set[int]:
        shortest: dict[Hashable, int] = {}
        held: set[int] = set()
        for position, request in enumerate(waiting):
            known: Known = request.dopd_known
            start = known.start
            if start is None or known.prompt.context_tokens > DUPLICATE_TOKENS or start in self._not_held_back:
                continue
            other = shortest.setdefault(start, position)
            if other == position:
                continue
            if known.prompt.tokens < waiting[other].dopd_known.prompt.tokens:
                shortest[start], other = position, other
                held.add(other)
            else:
                held.add(position)
            self._held_back[start] = shortest[start]
        return held

    def chosen(self, positions: set[int]) -> None:
        """Take note which waiting requests rank 0 chose for this pass."""
        self._not_held_back = {start for start, position in self._held_back.items() if position not in positions}

    def computing(self, requests: Sequence[Any]) -> None:
        """Take note of what goes into a pass: afterwards the cache holds the start of these."""
        self._computed_before = self._just_computed
        self._just_computed = {self.know(request).start for request in requests} - {None}

    def _look_up(self, request: Any, known: Known) -> None:
        assert self._match is not None
        self._match(request)
        known.matched = True
        self._measure(request, known)

    def _measure(self, request: Any, known: Known) -> None:
        cached = request.num_matched_prefix_tokens
        known.prompt.tokens = whole_pages(max(1, token_count(request) - cached), self.page_tokens)
        known.prompt.context_tokens = cached

    def _start(self, request: Any) -> Hashable | None:
        if self._match is None or len(request.origin_input_ids) < DUPLICATE_TOKENS:
            return None
        beginning = tuple(request.origin_input_ids[:DUPLICATE_TOKENS])
        # Nobody who has a deadline waits for the prefix of one that has none.
        return request.extra_key, request.cache_salt, is_batch(request), beginning
