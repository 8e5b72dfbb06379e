"""The prefill curve in the four numbers that the order of prompts goes by.

A pass takes `fixed + tokens * token + tokens^2 * attention` seconds, and never less than the least. Where a pass is
large enough to keep the GPU busy its time is linear in tokens beside attention, so the line is laid through the half
and the whole of a full pass. Below lies the floor: reading the weights once. In the knee between both the curve is
above the line, by up to half for the shipped profiles; from 1,024 tokens on they are within a fifth of each other.
"""

from dataclasses import dataclass

from dopd.perf.engine import EngineModel


@dataclass(frozen=True)
class PrefillTimes:
    """How long forward passes take; what prompts add to a pass is told apart from what it takes in any case.

    Attributes:
        least_seconds: of any pass, however small.
        fixed_seconds: of a large pass, beside its tokens.
        token_seconds: of each new token of a large pass.
        attention_seconds: of each squared token.
    """

    least_seconds: float
    fixed_seconds: float
    token_seconds: float
    attention_seconds: float

    @classmethod
    def of(cls, engine: EngineModel) -> "PrefillTimes":
        """The times of an engine."""
        chunk, attention = float(engine.chunk_tokens), engine.attention_seconds

        def without_attention(tokens: float) -> float:
            return engine.prefill_seconds(tokens) - attention * tokens * tokens

        token = (without_attention(chunk) - without_attention(chunk / 2)) / (chunk / 2)
        token = min(max(token, 0.0), without_attention(chunk) / chunk)  # no pass saves time by what it holds already
        fixed = max(0.0, without_attention(chunk) - token * chunk)
        return cls(engine.prefill_seconds(1.0), fixed, token, attention)

    def prefill_seconds(self, tokens: float) -> float:
        """Time of one prompt of `tokens` tokens, alone in a pass, with nothing cached before it."""
        work = tokens * (self.token_seconds + self.attention_seconds * tokens)
        return max(self.least_seconds, self.fixed_seconds + work)
