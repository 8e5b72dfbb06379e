"""Rank 0's part: the settings, the order and the learned times, and a decision from them."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from dopd_scheduling import Order, Prompt, Settings, hopeless, make
from dopd_sglang.prefill_order.decision import MOST_PIECES, MOST_REFUSED, OWN_ORDER, Decision
from dopd_sglang.prefill_order.learned_times import LearnedTimes
from dopd_sglang.prefill_order.requests import Requests
from dopd_sglang.prefill_order.settings import ENGINE_DEFAULT, SettingsFile

PATIENCE = 4
"""Objectives that a prompt waits for room in the KV pool while smaller ones pass it."""

log = logging.getLogger(__name__)


class Planner:
    """Decides what goes into the next pass.

    Args:
        file: the operator's settings.
        changed: called after the settings were read anew, with what is wrong with them, if anything is.
    """

    def __init__(self, file: SettingsFile, changed: Callable[[str | None], None]) -> None:
        self.file = file
        self._changed = changed
        self.learned = LearnedTimes(file.current.times)
        self._order: Order | None = None
        self._made = ("", False)

    @property
    def policy(self) -> str:
        """Asked for now."""
        return self.file.current.policy

    def refresh(self, now_seconds: float) -> None:
        """Read the settings anew, if they have changed."""
        if not self.file.refresh(now_seconds):
            return
        if self.file.error:
            log.error("dopd: settings not taken over, the last good ones stay: %s", self.file.error)
        else:
            log.info("dopd: settings: %s", self.file.current)
            if self.file.current.times != self.learned.given:
                self.learned = LearnedTimes(self.file.current.times)
        self._changed(self.file.error)

    def decide(
        self,
        now_seconds: float,
        requests: Requests,
        waiting: Sequence[Any],
        unfinished: Sequence[Any],
        room_tokens: int,
        free_tokens: float,
        most_unfinished: int,
    ) -> Decision:
        """What goes into the next pass.

        Args:
            now_seconds: on the clock of the requests' arrival.
            requests: what is known of them.
            waiting: those of which nothing is computed.
            unfinished: those of which a part is.
            room_tokens: of the pass.
            free_tokens: of the KV pool, for waiting requests; one that needs more is not chosen now.
            most_unfinished: at most so many may be computed in part, whatever the settings allow.
        """
        if self.policy == ENGINE_DEFAULT:
            return OWN_ORDER
        prompts = requests.waiting(waiting)
        started = [requests.unfinished(request) for request in unfinished]
        refused: list[int] = []
        if self.file.current.refuse_late:
            waited = [prompt for _, prompt in prompts]
            late = {
                id(prompt) for prompt in hopeless(self._settings(), now_seconds, waited, len(started), MOST_REFUSED)
            }
            refused = [position for position, prompt in prompts if id(prompt) in late]
            prompts = [item for item in prompts if id(item[1]) not in late]
        since = now_seconds - PATIENCE * self.file.current.ttft_seconds
        prompts = _admissible(prompts, room_tokens, free_tokens, since) or ([] if started else prompts)
        positions = {id(prompt): position for position, prompt in prompts}
        positions |= {id(prompt): len(waiting) + place for place, prompt in enumerate(started)}
        order = self._current_order(most_unfinished)
        pieces = order.next_pass(now_seconds, [prompt for _, prompt in prompts], started, room_tokens)
        chosen = tuple((positions[id(prompt)], tokens) for prompt, tokens in pieces[:MOST_PIECES])
        requests.chosen({position for position, _ in chosen})
        return Decision(True, chosen, tuple(refused), short=all(prompt.batch for prompt, _ in pieces))

    def is_late(self, prompt: Prompt, done_seconds: float) -> bool:
        """Whether a prompt misses the objective whose prefill is done then."""
        return done_seconds > self._settings().deadline_seconds(prompt)

    def _settings(self, most_unfinished: int = 1) -> Settings:
        settings = self.file.current.for_order(self.learned.times)
        return replace(settings, most_unfinished=min(settings.most_unfinished, most_unfinished))

    def _current_order(self, most_unfinished: int) -> Order:
        wanted, settings = self.file.current, self._settings(most_unfinished)
        asked = (wanted.policy, wanted.batch)
        if self._order is None or self._made != asked:
            self._order, self._made = make(wanted.policy, settings, batch=wanted.batch), asked
        self._order.settings = settings
        return self._order


def _admissible(
    prompts: list[tuple[int, Prompt]], room_tokens: int, free_tokens: float, since_seconds: float
) -> list[tuple[int, Prompt]]:
    """Those that SGLang would admit: one that is cut takes the KV pool for all of it, beside a pass of others.

    One that has waited since then is always among them, unless it is of a batch: where it is chosen, those behind it
    wait until the pool has room for it, as they do in SGLang.
    """
    if free_tokens >= 2 * room_tokens + max((prompt.tokens for _, prompt in prompts), default=0):
        return prompts

    def fits(prompt: Prompt) -> bool:
        return prompt.tokens + room_tokens * (prompt.tokens > room_tokens) < free_tokens

    def waited(prompt: Prompt) -> bool:
        return prompt.arrived_seconds < since_seconds and not prompt.batch

    return [item for item in prompts if fits(item[1]) or waited(item[1])]
