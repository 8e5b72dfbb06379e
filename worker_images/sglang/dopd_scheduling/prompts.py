"""What an order is given: waiting prompts, and how long prefill takes."""

from bisect import bisect_right
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property
from math import inf


@dataclass(slots=True, eq=False)
class Prompt:
    """One prompt that waits for prefill, or of which a part is computed.

    Attributes:
        key: what the caller knows it by.
        arrived_seconds: when the wait for its first token began; any clock, the same for all.
        tokens: prompt tokens that are still to be computed: without what the prefix cache holds or passes have done.
        context_tokens: tokens before them, cached or computed, to which they attend.
        batch: it has no deadline, and takes the time that the others leave.
    """

    key: Hashable
    arrived_seconds: float
    tokens: int
    context_tokens: int = 0
    batch: bool = False


Piece = tuple[Prompt, int]
"""A prompt, and how many of its tokens a pass computes."""


Points = tuple[tuple[float, float], ...]
"""(tokens, seconds), tokens strictly ascending."""


@dataclass(frozen=True)
class ServiceTimes:
    """How long a forward pass takes: a curve over its tokens, and attention.

    Attributes:
        pass_points: (tokens, seconds) of a pass without attention. Linear in between, as before the first point as at
            it. The last one is a full pass: beyond it each token takes its share of that one.
        attention_seconds: of each squared token: end^2 - start^2 of a piece.
        transfer_seconds: of each prompt, from its last pass until decode has its KV cache.
        transfer_token_seconds: of each token of it, cached ones, too.
    """

    pass_points: Points
    attention_seconds: float = 0.0
    transfer_seconds: float = 0.0
    transfer_token_seconds: float = 0.0

    @cached_property
    def token_seconds(self) -> float:
        """Of each token of a full pass, without attention."""
        tokens, seconds = self.pass_points[-1]
        return seconds / tokens

    def piece_attention_seconds(self, tokens: int, context_tokens: int = 0) -> float:
        """The attention of `tokens` tokens after `context_tokens`, in whatever pass."""
        return self.attention_seconds * tokens * (tokens + 2 * context_tokens)

    def work_seconds(self, tokens: int, context_tokens: int = 0) -> float:
        """What `tokens` tokens after `context_tokens` take of full passes."""
        return tokens * self.token_seconds + self.piece_attention_seconds(tokens, context_tokens)

    def handover_seconds(self, prompt: Prompt) -> float:
        """Time from the last pass of a prompt to its first token."""
        return self.transfer_seconds + self.transfer_token_seconds * (prompt.tokens + prompt.context_tokens)

    def seconds_of(self, pieces: Iterable[tuple[int, int]]) -> float:
        """Time of a pass over so many (tokens, tokens before them)."""
        pieces = list(pieces)
        attention = sum(self.piece_attention_seconds(tokens, context) for tokens, context in pieces)
        return self.pass_seconds(sum(tokens for tokens, _ in pieces), attention)

    def pass_seconds(self, tokens: int, attention_seconds: float = 0.0) -> float:
        """Time of a pass over so many tokens, all pieces together, whose attention takes so long."""
        points = self.pass_points
        right = bisect_right(points, (tokens, inf))
        if right == 0:
            return points[0][1] + attention_seconds
        x0, y0 = points[right - 1]
        if right == len(points):
            return y0 + (tokens - x0) * self.token_seconds + attention_seconds
        x1, y1 = points[right]
        return y0 + (y1 - y0) * (tokens - x0) / (x1 - x0) + attention_seconds
