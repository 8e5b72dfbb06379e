"""Orders that engines ship, to compare with and to fall back to."""

from abc import abstractmethod
from collections.abc import Sequence

from dopd_scheduling.order import Order, Settings, fill
from dopd_scheduling.prompts import Piece, Prompt


class Ranked(Order):
    """An order in which each prompt has a rank of its own, and passes are filled to the brim."""

    @abstractmethod
    def rank(self, prompt: Prompt, now_seconds: float) -> float:
        """The lower, the earlier; of equal ones the first that came."""

    def next_pass(  # noqa: D102
        self, now_seconds: float, waiting: Sequence[Prompt], unfinished: Sequence[Prompt], room_tokens: int
    ) -> list[Piece]:
        ranked = sorted([*unfinished, *waiting], key=lambda prompt: self.rank(prompt, now_seconds))
        return fill(ranked, unfinished, room_tokens, self.settings.most_unfinished)

    def _work(self, prompt: Prompt) -> float:
        return self.settings.times.work_seconds(prompt.tokens, prompt.context_tokens)


class FirstCome(Ranked):
    """SGLang's default, fcfs; a prompt that has begun goes on first."""

    def next_pass(  # noqa: D102
        self, now_seconds: float, waiting: Sequence[Prompt], unfinished: Sequence[Prompt], room_tokens: int
    ) -> list[Piece]:
        ranked = [*unfinished, *sorted(waiting, key=lambda prompt: prompt.arrived_seconds)]
        return fill(ranked, unfinished, room_tokens, self.settings.most_unfinished)

    def rank(self, prompt: Prompt, now_seconds: float) -> float:  # noqa: D102
        return prompt.arrived_seconds


class ShortestFirst(Ranked):
    """The least work that is left first; SGLang's shortest-prefill-first with one unfinished prompt."""

    def rank(self, prompt: Prompt, now_seconds: float) -> float:  # noqa: D102
        return self._work(prompt)


class ResponseRatio(Ranked):
    """Highest response ratio next (SGLang's hrrn): the wait in units of the work."""

    def rank(self, prompt: Prompt, now_seconds: float) -> float:  # noqa: D102
        return -(now_seconds - prompt.arrived_seconds) / max(self._work(prompt), 1e-9)


class LongestPrefix(Ranked):
    """SGLang's lpm: what the prefix cache holds most of first."""

    def rank(self, prompt: Prompt, now_seconds: float) -> float:  # noqa: D102
        return -prompt.context_tokens


class CanMakeItFirst(Ranked):
    """The shortest of those that can still meet the objective; of the others the first that came, one pass in ten."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._passes = 0

    def next_pass(  # noqa: D102
        self, now_seconds: float, waiting: Sequence[Prompt], unfinished: Sequence[Prompt], room_tokens: int
    ) -> list[Piece]:
        self._passes += 1
        return super().next_pass(now_seconds, waiting, unfinished, room_tokens)

    def rank(self, prompt: Prompt, now_seconds: float) -> float:  # noqa: D102
        work = self._work(prompt)
        if now_seconds + work <= self.settings.deadline_seconds(prompt):
            return work
        far = 1e12 if self._passes % 10 else -1e12
        return far + prompt.arrived_seconds
