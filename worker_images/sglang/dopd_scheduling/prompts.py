"""What an order is given: waiting prompts, and how long prefill takes."""

from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Prompt:
    """One prompt that waits for prefill, or of which a part is computed.

    Attributes:
        key: what the caller knows it by.
        arrived_seconds: when the wait for its first token began; any clock, the same for all.
        tokens: prompt tokens that are still to be computed: without what the prefix cache holds or passes have done.
        context_tokens: tokens before them, cached or computed, to which they attend.
    """

    key: Hashable
    arrived_seconds: float
    tokens: int
    context_tokens: int = 0


Piece = tuple[Prompt, int]
"""A prompt, and how many of its tokens a pass computes."""


@dataclass(frozen=True)
class ServiceTimes:
    """How long a forward pass takes: it reads the weights once, and computes; the longer of the two counts.

    Attributes:
        least_seconds: of any pass, however small: weights, kernel launches, the scheduler's own work.
        fixed_seconds: of a large pass, beside its tokens; negative where the time of a pass grows ever faster.
        token_seconds: of each new token of a large pass.
        attention_seconds: of each squared token: end^2 - start^2 of a piece.
        transfer_seconds: of each prompt, from its last pass until decode has its KV cache.
        transfer_token_seconds: of each token of it, cached ones, too.
    """

    least_seconds: float
    fixed_seconds: float
    token_seconds: float
    attention_seconds: float = 0.0
    transfer_seconds: float = 0.0
    transfer_token_seconds: float = 0.0

    def work_seconds(self, tokens: int, context_tokens: int = 0) -> float:
        """What `tokens` tokens after `context_tokens` add to a large pass."""
        return tokens * (self.token_seconds + self.attention_seconds * (tokens + 2 * context_tokens))

    def handover_seconds(self, prompt: Prompt) -> float:
        """Time from the last pass of a prompt to its first token."""
        return self.transfer_seconds + self.transfer_token_seconds * (prompt.tokens + prompt.context_tokens)

    def pass_seconds(self, work_seconds: float) -> float:
        """Time of a pass over pieces that add so much to it."""
        return max(self.least_seconds, self.fixed_seconds + work_seconds)
