"""The interface of an order, and how a forward pass is filled from it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf

from dopd_scheduling.prompts import Piece, Prompt, ServiceTimes


@dataclass(frozen=True)
class Settings:
    """What an order goes by; replaced whole while an engine runs.

    Attributes:
        ttft_seconds: objective of the time to first token.
        times: service times of this engine.
        late_share: share of the prefill time, 0 to 1, that prompts which can not be on time may take from others, as
            far as that makes no other late; a fifth of it they get in any case.
        predicted_tokens: mean of the uncached prompt tokens that is predicted; where short ends and long begins.
        most_unfinished: prompts of which a part may be computed at a time; they hold KV cache.
        batch_wait_seconds: after so long a batch prompt goes as one that is late; never, if infinite.
    """

    ttft_seconds: float
    times: ServiceTimes
    late_share: float = 0.5
    predicted_tokens: float = 0.0
    most_unfinished: int = 1
    batch_wait_seconds: float = inf

    def deadline_seconds(self, prompt: Prompt) -> float:
        """When the last pass of a prompt must have ended for it to be on time."""
        return prompt.arrived_seconds + self.ttft_seconds - self.times.handover_seconds(prompt)


class Order(ABC):
    """Decides what goes into the next forward pass of one prefill worker.

    It may keep state between passes, such as what the late have been given. All inputs are passed in: with equal
    inputs equal decisions follow, so that ranks of one tensor parallel group agree.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def next_pass(
        self, now_seconds: float, waiting: Sequence[Prompt], unfinished: Sequence[Prompt], room_tokens: int
    ) -> list[Piece]:
        """Choose the pieces of the next pass.

        Args:
            now_seconds: on the clock of `Prompt.arrived_seconds`.
            waiting: prompts of which nothing is computed, in order of arrival.
            unfinished: prompts of which a part is computed; at most `Settings.most_unfinished`.
            room_tokens: tokens of one pass at most.

        Returns:
            At least one piece where anything waits; together at most `room_tokens`; each piece at least one token and
            at most what its prompt has left. After the pass at most `Settings.most_unfinished` prompts are unfinished.
            Pieces stand in the order in which they were chosen.
        """


def fill(
    ranked: Iterable[Prompt],
    unfinished: Sequence[Prompt],
    room_tokens: int,
    most_unfinished: int,
    worth_it: Callable[[list[Piece], Prompt, int], bool] | None = None,
) -> list[Piece]:
    """Fill a pass with prompts in the order given; what does not fit whole is cut, if it may be.

    Args:
        ranked: all prompts, waiting and unfinished.
        unfinished: those of them that are unfinished.
        room_tokens: tokens of the pass.
        most_unfinished: prompts that may be unfinished after it.
        worth_it: whether a piece should join those that are already in the pass; always, if absent.
    """
    pieces: list[Piece] = []
    begun = {id(prompt) for prompt in unfinished}
    cuts_left = most_unfinished - len(begun)
    for prompt in ranked:
        if room_tokens <= 0:
            break
        tokens = min(prompt.tokens, room_tokens)
        fresh_cut = tokens < prompt.tokens and id(prompt) not in begun
        if fresh_cut and cuts_left <= 0:
            continue  # a shorter one behind it may fit whole
        if pieces and worth_it is not None and not worth_it(pieces, prompt, tokens):
            break
        cuts_left -= fresh_cut
        pieces.append((prompt, tokens))
        room_tokens -= tokens
    if not pieces and unfinished:  # all that was ranked first would have to be cut, and none may be
        pieces.append((unfinished[0], min(unfinished[0].tokens, room_tokens)))
    return pieces
