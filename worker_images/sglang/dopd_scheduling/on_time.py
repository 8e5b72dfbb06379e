"""The order that dopd ships: what can still meet the objective goes first, the rest gets a share of the time.

Before each pass:

1. In order of their deadlines prompts are promised to be on time, if they can be behind the promises before them
   (`schedule.promised`). The others are late. What comes later breaks no promise.
2. Those that are promised are ordered so that they wait least and none becomes late (`schedule.least_waiting`): the
   shortest first, and a long one before shorter ones when its time has come.
3. The late come in order of arrival. They go first while they have had less than their share and nobody becomes late
   by it, and in any case for a fifth of their share: nobody starves, and a shortage that lasts does not make all late.
4. Prompts share a pass as long as that saves more waiting than it costs, and makes nobody late (`sharing`).
"""

from bisect import bisect_left
from collections.abc import Sequence
from math import inf

from dopd_scheduling.order import Order, Settings, fill
from dopd_scheduling.prompts import Piece, Prompt, ServiceTimes
from dopd_scheduling.schedule import Job, least_waiting, promised, slack_seconds
from dopd_scheduling.sharing import Sharing

HEADROOM = 1.25
"""Promises are made with work a quarter longer than it is: what arrives meanwhile also wants to be on time."""

CERTAIN_PART = 0.2
"""The part of the late's share that they get even when somebody else becomes late by it."""


class OnTimeFirst(Order):
    """See the module."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._owed_seconds = 0.0
        self._owed_for_certain_seconds = 0.0
        self._served = 0  # since the worker was idle
        self._busy_until_seconds = -inf

    def next_pass(  # noqa: D102
        self, now_seconds: float, waiting: Sequence[Prompt], unfinished: Sequence[Prompt], room_tokens: int
    ) -> list[Piece]:
        if not unfinished and (not waiting or waiting[0].arrived_seconds > self._busy_until_seconds):
            self._served = 0
        if len(waiting) + len(unfinished) == 1:
            pieces = fill([*unfinished, *waiting], unfinished, room_tokens, self.settings.most_unfinished)
        else:
            pieces = self._choose(now_seconds, waiting, unfinished, room_tokens)
        self._served += sum(tokens == prompt.tokens for prompt, tokens in pieces)
        self._busy_until_seconds = now_seconds + _pass_seconds(self.settings.times, pieces)
        return pieces

    def _choose(
        self, now_seconds: float, waiting: Sequence[Prompt], unfinished: Sequence[Prompt], room_tokens: int
    ) -> list[Piece]:
        prompts, late = self._without_the_expired(now_seconds, waiting, unfinished)
        on_time, given_up = self._split(now_seconds, prompts)
        late += given_up
        ranked = [prompts[job.index] for job in least_waiting(on_time, now_seconds)]
        deadlines = {id(prompts[job.index]): job.deadline_seconds for job in on_time}
        if late:
            turn = self._is_turn_of(late[0], on_time, now_seconds, room_tokens)
            ranked = [late[0], *ranked, *late[1:]] if turn else [*ranked, *late]
        sharing = Sharing(self.settings.times, now_seconds, deadlines, self._served)
        pieces = fill(ranked, unfinished, room_tokens, self.settings.most_unfinished, sharing)
        self._account(pieces, late, bool(on_time), room_tokens)
        return pieces

    def _without_the_expired(
        self, now_seconds: float, waiting: Sequence[Prompt], unfinished: Sequence[Prompt]
    ) -> tuple[list[Prompt], list[Prompt]]:
        """The prompts whose objective has not passed yet, and the others; both in order of arrival, begun ones first.

        In a shortage that lasts the others are many: they are told apart without a look at each.
        """
        since = now_seconds - self.settings.ttft_seconds
        fresh = bisect_left(waiting, since, key=_arrival)
        begun = [prompt for prompt in unfinished if prompt.arrived_seconds >= since]
        expired = [prompt for prompt in unfinished if prompt.arrived_seconds < since]
        return [*begun, *waiting[fresh:]], [*expired, *waiting[:fresh]]

    def _split(self, now_seconds: float, prompts: list[Prompt]) -> tuple[list[Job], list[Prompt]]:
        deadline, work = self.settings.deadline_seconds, self.settings.times.work_seconds
        jobs = [
            Job(HEADROOM * work(prompt.tokens, prompt.context_tokens), deadline(prompt), index)
            for index, prompt in enumerate(prompts)
        ]
        jobs.sort(key=lambda job: job.deadline_seconds)
        on_time, late = promised(jobs, now_seconds)
        return on_time, [prompts[job.index] for job in late]

    def _is_turn_of(self, prompt: Prompt, on_time: list[Job], now_seconds: float, room_tokens: int) -> bool:
        if self._owed_for_certain_seconds > 0:
            return True
        if self._owed_seconds < 0:
            return False
        times = self.settings.times
        tokens = min(prompt.tokens, room_tokens)
        return slack_seconds(on_time, now_seconds) >= _pass_seconds(times, [(prompt, tokens)])

    def _account(self, pieces: list[Piece], late: list[Prompt], contended: bool, room_tokens: int) -> None:
        """Book what the late got of a pass for which others waited, too."""
        if not late:
            self._owed_seconds = self._owed_for_certain_seconds = 0.0
            return
        if not contended:
            return
        times, late_ones = self.settings.times, {id(prompt) for prompt in late}
        work = [times.work_seconds(tokens, prompt.context_tokens) for prompt, tokens in pieces]
        spent = _pass_seconds(times, pieces)  # not the work: small passes take far more
        of_late = sum(w for w, (prompt, _) in zip(work, pieces, strict=True) if id(prompt) in late_ones)
        given = spent * of_late / sum(work) if of_late else 0.0
        most = times.pass_seconds(
            room_tokens, times.piece_attention_seconds(room_tokens)
        )  # no more is saved up than a pass
        share = self.settings.late_share
        self._owed_seconds = min(most, self._owed_seconds + share * spent - given)
        certain = CERTAIN_PART * share
        self._owed_for_certain_seconds = min(most, self._owed_for_certain_seconds + certain * spent - given)


def _pass_seconds(times: ServiceTimes, pieces: Sequence[Piece]) -> float:
    return times.seconds_of((tokens, prompt.context_tokens) for prompt, tokens in pieces)


def _arrival(prompt: Prompt) -> float:
    return prompt.arrived_seconds
