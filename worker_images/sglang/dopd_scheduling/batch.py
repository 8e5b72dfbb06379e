"""Batch prompts, which have no deadline, in the time that an order leaves.

An order of online prompts is asked first, and sees nothing of the batch. Only a pass for which no online prompt waits
computes batch prompts, in order of arrival. Such a pass is short (`PASS_SHARE` of the objective at most), and what it
does not finish stops there: the next pass is that of an online prompt which came meanwhile. So an online prompt waits
for one such pass at most, the one that runs as it finds nobody else waiting; after that the batch is not seen until
there is nobody again.

A batch prompt of which a part is computed has a place of its own beside the `most_unfinished` of the others. An engine
that can hold only one such prompt has none to spare: there a batch prompt that was begun is computed to its end, before
any other.

What has waited longer than `Settings.batch_wait_seconds` is handed to the order of the online prompts, where it is late
for certain, and gets what the late get.
"""

from collections.abc import Sequence

from dopd_scheduling.order import Order, Settings, fill
from dopd_scheduling.prompts import Piece, Prompt

PASS_SHARE = 0.1
"""A pass of batch prompts takes at most this share of the objective, so long an online prompt may wait for it."""

LEAST_TOKENS = 256
"""But so many tokens in any case: smaller passes take no less time, as each reads the weights."""

MOST_LOOKED_AT = 128
"""Waiting batch prompts that a pass is chosen from."""

PLACES = 1
"""Batch prompts of which a part may be computed, beside the online ones."""


class BatchBehind(Order):
    """An order of online prompts, and the batch behind them.

    Args:
        online: the order; a prompt that is no batch meets this one alone.

    Passes are those of `Order.next_pass`, but that `PLACES` batch prompts may be unfinished beside
    `Settings.most_unfinished` others, where that is 2 or more.
    """

    def __init__(self, online: Order) -> None:
        self.online = online
        super().__init__(online.settings)

    @property
    def settings(self) -> Settings:
        """Of both."""
        return self.online.settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self.online.settings = settings

    def next_pass(  # noqa: D102
        self, now_seconds: float, waiting: Sequence[Prompt], unfinished: Sequence[Prompt], room_tokens: int
    ) -> list[Piece]:
        since = now_seconds - self.settings.batch_wait_seconds
        batch = [prompt for prompt in waiting if _yields(prompt, since)]
        begun = [prompt for prompt in unfinished if _yields(prompt, since)]
        if not batch and not begun:
            return self.online.next_pass(now_seconds, waiting, unfinished, room_tokens)
        others = [prompt for prompt in waiting if not _yields(prompt, since)]
        others_begun = [prompt for prompt in unfinished if not _yields(prompt, since)]
        if others or others_begun:
            if not begun or self.settings.most_unfinished > 1:
                return self.online.next_pass(now_seconds, others, others_begun, room_tokens)
            return fill(begun, begun, room_tokens, len(begun))  # nothing else can begin before it has ended
        return short_pass(self.settings, begun, batch, room_tokens)


def short_pass(settings: Settings, begun: Sequence[Prompt], waiting: Sequence[Prompt], room_tokens: int) -> list[Piece]:
    """The largest pass of batch prompts that is short enough, but no smaller than `LEAST_TOKENS`.

    Args:
        settings: objective and service times.
        begun: batch prompts of which a part is computed; they go first.
        waiting: others, in order of arrival.
        room_tokens: of a pass.
    """
    ranked, places = [*begun, *waiting[:MOST_LOOKED_AT]], max(PLACES, len(begun))
    least = min(LEAST_TOKENS, room_tokens)
    limit_seconds = PASS_SHARE * settings.ttft_seconds

    def at(tokens: int) -> list[Piece]:
        return fill(ranked, begun, tokens, places)

    def is_short(pieces: Sequence[Piece]) -> bool:
        return settings.times.seconds_of((t, prompt.context_tokens) for prompt, t in pieces) <= limit_seconds

    pieces = at(room_tokens)
    if is_short(pieces):
        return pieces
    most = room_tokens - 1
    while least < most:
        tokens = (least + most + 1) // 2
        if is_short(at(tokens)):
            least = tokens
        else:
            most = tokens - 1
    return at(least)


def _yields(prompt: Prompt, since_seconds: float) -> bool:
    """Whether a prompt stands behind the online ones: no longer where it came before then."""
    return prompt.batch and prompt.arrived_seconds >= since_seconds
