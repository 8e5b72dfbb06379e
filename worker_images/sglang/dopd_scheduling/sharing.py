"""Which prompts share a forward pass: as long as that saves more waiting than it costs, and makes nobody late.

A piece that joins a pass makes all that the pass completes wait longer. In return it spares those behind the pass the
time that it would take in a pass of its own. Behind the pass are those that wait now and those that come before the
worker is idle again. A worker that has served n prompts since it was idle is expected to serve as many more: then a
worker that is seldom idle fills its passes, and does not lose its time to many small ones.

Only those count that can be on time: for the late it is too late to save a wait.
"""

from collections.abc import Mapping
from math import inf

from dopd_scheduling.prompts import Piece, Prompt, ServiceTimes


class Sharing:
    """Whether a piece should join the pieces of a pass; see the module.

    Args:
        times: service times of the engine.
        now_seconds: when the pass begins.
        deadlines: when the last pass of a prompt must have ended, by `id` of each that can be on time.
        served: prompts that were served since the worker was idle.
    """

    def __init__(self, times: ServiceTimes, now_seconds: float, deadlines: Mapping[int, float], served: int) -> None:
        self._times, self._now_seconds, self._deadlines = times, now_seconds, deadlines
        self._behind = len(deadlines) + served
        self._tokens, self._attention_seconds = 0, 0.0
        self._completed, self._deadline_seconds, self._seen = 0, inf, 0

    def __call__(self, pieces: list[Piece], prompt: Prompt, tokens: int) -> bool:
        """Whether `tokens` of `prompt` should join `pieces`; asked for the pieces of one pass as it grows."""
        for piece in pieces[self._seen :]:
            self._join(*piece)
        self._seen = len(pieces)
        times, attention = self._times, self._times.piece_attention_seconds(tokens, prompt.context_tokens)
        alone = times.pass_seconds(self._tokens, self._attention_seconds)
        together = times.pass_seconds(self._tokens + tokens, self._attention_seconds + attention)
        if self._now_seconds + together > self._deadline_seconds:
            return False
        delay = together - alone
        saved = times.pass_seconds(tokens, attention) - delay
        return delay * self._completed <= saved * self._behind

    def _join(self, prompt: Prompt, tokens: int) -> None:
        self._tokens += tokens
        self._attention_seconds += self._times.piece_attention_seconds(tokens, prompt.context_tokens)
        deadline_seconds = self._deadlines.get(id(prompt))
        if deadline_seconds is None:
            return
        self._behind -= 1
        if tokens == prompt.tokens:
            self._completed += 1
            self._deadline_seconds = min(self._deadline_seconds, deadline_seconds)
