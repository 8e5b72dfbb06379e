"""The rules of the DOPD paper (arXiv 2511.20982), as far as they are known: its scheduler is not public.

A prompt above the predicted mean length is long: it is never batched and goes at once, before the short ones. Short
ones go together under a cap on tokens; where more wait than fit, the most valuable for their length: all have the same
value here, so the shortest. A short one that has waited a quarter of the objective goes before everything, which is
the cap on waiting. The values of both caps in the paper are unknown.
"""

from collections.abc import Sequence

from dopd_scheduling.order import Order, fill
from dopd_scheduling.prompts import Piece, Prompt

WAITING_CAP = 0.25
"""Of the objective; our choice."""


class PaperRules(Order):
    """See the module."""

    def next_pass(  # noqa: D102
        self, now_seconds: float, waiting: Sequence[Prompt], unfinished: Sequence[Prompt], room_tokens: int
    ) -> list[Piece]:
        settings = self.settings
        oldest = now_seconds - WAITING_CAP * settings.ttft_seconds
        long = [*unfinished, *(prompt for prompt in waiting if prompt.tokens > settings.predicted_tokens)]
        short = [prompt for prompt in waiting if prompt.tokens <= settings.predicted_tokens]
        due = [prompt for prompt in short if prompt.arrived_seconds <= oldest]
        if long and not due:
            return fill(long[:1], unfinished, room_tokens, settings.most_unfinished)
        short.sort(key=lambda prompt: (prompt.arrived_seconds > oldest, prompt.tokens))
        return fill([*short, *unfinished], unfinished, room_tokens, settings.most_unfinished)
