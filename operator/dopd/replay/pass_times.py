"""How long a forward pass of an engine takes: prompts alone, answers alone, or both in one pass.

A pass over prompts and a step of decode are read from the profile, as the replay of prefill and decode workers does. A
pass that mixes them is composed as NVIDIA's aiconfigurator composes it (`mixed_step_latency`): everything but attention
depends on how many tokens pass, prompt tokens and one for each answer alike; attention of the prompts and attention
of the answers are added. From the points of a profile:

    mixed(C, n, k) = P(C + n) + [ITL(n, k) - ITL(n, 0)]

with P(C + n) the pass over C prompt tokens and n answers, of which only the prompts pay the attention of prefill, and
the bracket what decode of n answers pays for k tokens of context each. It is never less than the longer of its two
halves alone and never more than their sum (`docs/when-to-disaggregate.md` compares the three).
"""

from bisect import bisect_right
from enum import StrEnum
from itertools import pairwise

from dopd.perf import EngineModel


class Mixing(StrEnum):
    """What a pass over prompts and answers takes."""

    COMPOSED = "composed"
    """The formula of this module."""
    LONGER = "longer"
    """As long as the longer of its halves would take alone: no engine is better."""
    SUM = "sum"
    """As long as both, one after the other: nothing is gained by one pass, but no answer waits for more than that."""


class PassTimes:
    """Times of the passes of one engine, in seconds, as tables over tokens and running answers.

    Args:
        model: the engine.
        chunk_tokens: tokens of one pass at most, in place of the engine's own; None for that.
        mixing: what a pass over prompts and answers takes.
    """

    def __init__(self, model: EngineModel, chunk_tokens: int | None = None, mixing: Mixing = Mixing.COMPOSED) -> None:
        self._mixing = mixing
        self.chunk_tokens = chunk_tokens or model.chunk_tokens
        attention = self._attention = model.attention_seconds
        self._prefill = [model.prefill_seconds(t) - attention * t * t for t in range(self.chunk_tokens + 1)]
        contexts = self._contexts = [context for context, _ in model.itl_curves]
        self._itl, self._slope = [], []
        for n in range(model.max_running_requests + 1):
            row = [model.itl_seconds(n, context) for context in contexts]
            slopes = [(right - left) / (contexts[j + 1] - contexts[j]) for j, (left, right) in enumerate(pairwise(row))]
            self._itl.append(row)
            self._slope.append([*slopes, slopes[-1]] if slopes else [0.0])

    def prefill_seconds(self, tokens: int, attended: float) -> float:
        """Time of a pass over prompts alone: see `EngineModel.prefill_pass_seconds`."""
        return self._prefill[tokens] + self._attention * attended

    def decode_seconds(self, running: int, context_tokens: float) -> float:
        """Time of one step of decode alone."""
        return self.decode_line(running, context_tokens)[0]

    def decode_line(self, running: int, context_tokens: float) -> tuple[float, float, float]:
        """Time of one step, what each further token of mean context adds, and up to which context that holds."""
        contexts = self._contexts
        j = bisect_right(contexts, context_tokens) - 1
        if j < 0:
            return self._itl[running][0], 0.0, contexts[0]
        slope = self._slope[running][j]
        until = contexts[j + 1] if j + 1 < len(contexts) else float("inf")
        return self._itl[running][j] + slope * (context_tokens - contexts[j]), slope, until

    def mixed_seconds(self, tokens: int, attended: float, running: int, context_tokens: float) -> float:
        """Time of a pass over prompts that also makes one token for each of the running answers.

        Args:
            tokens: prompt tokens of the pass; with `running` at most `chunk_tokens`.
            attended: of the prompts, as for `prefill_seconds`.
            running: answers that run.
            context_tokens: mean context of those.
        """
        prompts, answers = self.prefill_seconds(tokens, attended), self.decode_seconds(running, context_tokens)
        if self._mixing is not Mixing.COMPOSED:
            return max(prompts, answers) if self._mixing is Mixing.LONGER else prompts + answers
        without_context = self._itl[running][0] - self._slope[running][0] * self._contexts[0]
        attention = max(0.0, answers - without_context)
        together = self._prefill[tokens + running] + self._attention * attended + attention
        return min(max(together, prompts, answers), prompts + answers)
