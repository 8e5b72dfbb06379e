"""One scheduler under dopd's order: a pass from its plan to its admission.

SGLang composes a pass in four steps, and the plugin has a say in each:

1. it sorts the waiting queue: here the plan is made, and what it names goes to the front;
2. the prompt that is computed in part goes on, with at most `chunk_limit` tokens;
3. waiting prompts are admitted from the front while they fit: the plan's, and then no more (`may_add`);
4. the pass is launched: what was admitted is counted.

Memory stays SGLang's own decision, with one addition: what unfinished prompts still need of the KV pool is reserved, so
that shorter ones that pass them can not take it.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from dopd_sglang.prefill_order.decision import OWN_ORDER, Decision, Ranks
from dopd_sglang.prefill_order.guard import Guard
from dopd_sglang.prefill_order.metrics import Metrics
from dopd_sglang.prefill_order.planner import Planner
from dopd_sglang.prefill_order.refusal import refuse
from dopd_sglang.prefill_order.requests import Known, Requests, whole_pages
from dopd_sglang.prefill_order.settings import ENGINE_DEFAULT, SettingsFile

log = logging.getLogger(__name__)


@dataclass
class Pass:
    """The plan of the pass that is being composed.

    Attributes:
        pieces: tokens of each waiting request that is to go into it, by identity.
        chunk_limit: tokens for the unfinished prompt at most; None without one.
        reserve_tokens: of the KV pool, for the rest of the unfinished prompts.
        queue: the waiting requests as they stood before the plan's were put first.
    """

    pieces: dict[int, int] = field(default_factory=dict)
    chunk_limit: int | None = None
    reserve_tokens: int = 0
    reserved: bool = False
    queue: list[Any] = field(default_factory=list)


class Control:
    """The plugin's state in one scheduler process.

    Args:
        scheduler: SGLang's.
        ranks: its tensor parallel group.
        metrics: None on all ranks but the first.
        match: looks a request up in the prefix cache; None without one.
        clock: seconds, the same as that of the requests' arrival.
    """

    def __init__(
        self,
        scheduler: Any,
        ranks: Ranks,
        metrics: Metrics | None,
        match: Callable[[Any], None] | None,
        clock: Callable[[], float] = time.perf_counter,
        file: SettingsFile | None = None,
    ) -> None:
        self.scheduler, self.ranks, self.metrics = scheduler, ranks, metrics
        self.guard = Guard()
        self.requests = Requests(scheduler.page_size, match)
        self.planner = Planner(file or SettingsFile(), self._settings_changed)
        self._clock = clock
        self._pass: Pass | None = None
        self._follows = True  # whether the last decision was a plan; so all ranks look up prefixes, or none
        self.planner.refresh(clock())
        self._report()

    def plan(self, waiting: list[Any], running: int) -> bool:
        """Decide about the pass, and put what goes into it to the front of the queue.

        Args:
            waiting: the scheduler's queue; changed in place.
            running: requests that decode in the same pass.

        Returns:
            False where the engine's own order decides.
        """
        self._pass = None
        unfinished = self._unfinished()
        if len(waiting) + len(unfinished) < 2:
            return False
        known = self._refresh(waiting)
        decision = self.ranks.agree(lambda: self._decide(waiting, unfinished, running) if known else OWN_ORDER)
        self._follows = decision.planned
        if not decision.planned:
            return False
        try:
            self._pass = self._apply(decision, waiting, unfinished)
        except Exception as error:
            self._failed("applying the plan", error)
            return False
        return True

    def chunk_limit(self) -> int | None:
        """Tokens for the unfinished prompt at most; None if it may take all."""
        return self._pass.chunk_limit if self._pass else None

    def planned(self) -> bool:
        """Whether a plan is in force for the pass that is being composed."""
        return self._pass is not None

    def may_add(self, adder: Any, request: Any, has_unfinished: bool) -> bool:
        """Whether a waiting request may join the pass; if not, the pass is complete.

        A pass is never left empty by this: where the plan's requests can not be admitted, others are.
        """
        plan = self._pass
        assert plan is not None
        if not plan.reserved:
            plan.reserved = True
            adder.memory_budget.total_offset += plan.reserve_tokens
        tokens = len(request.full_untruncated_fill_ids) - request.prefix_len
        fits = adder.rem_chunk_tokens is None or whole_pages(tokens, adder.page_size) <= adder.rem_chunk_tokens
        if has_unfinished and not fits:
            return False  # SGLang can cut one prompt at a time
        if not adder.can_run_list:
            return True
        piece = plan.pieces.get(id(request))
        return piece is not None and (fits or piece < self.requests.know(request).prompt.tokens)

    def composed(self, batch: Any) -> None:
        """Take note of the pass that was composed; None if none was."""
        plan, self._pass = self._pass, None
        try:
            if plan is not None:
                self._restore_queue(plan, batch)
            if batch is not None:
                self._count_begun(plan, batch)
        except Exception as error:
            self._failed("counting a pass", error)

    def measured(self, batch: Any, busy_seconds: float) -> None:
        """Learn from a pass that is done, and count the prompts that it completed."""
        try:
            if self.ranks.rank:
                return
            if busy_seconds > 0 and batch.prefix_lens is not None:
                pieces = list(zip(batch.extend_lens, batch.prefix_lens, strict=True))
                self.planner.learned.observe(pieces, busy_seconds)
            for request in batch.reqs:
                self._count_done(request)
        except Exception as error:
            self._failed("measuring a pass", error)

    def _unfinished(self) -> list[Any]:
        return [] if self.scheduler.chunked_req is None else [self.scheduler.chunked_req]

    def _room_tokens(self, running: int) -> int:
        scheduler = self.scheduler
        room = min(scheduler.chunked_prefill_size, scheduler.max_prefill_tokens)
        if scheduler.is_mixed_chunk:
            room -= running
        return int(room // self.requests.page_tokens * self.requests.page_tokens)

    def _refresh(self, waiting: Sequence[Any]) -> bool:
        """On all ranks alike, so before they agree: whether it went well."""
        try:
            if self._follows:
                self.requests.refresh(waiting)
            return True
        except Exception as error:
            self._failed("looking up prefixes", error)
            return False

    def _decide(self, waiting: Sequence[Any], unfinished: Sequence[Any], running: int) -> Decision:
        """Of rank 0; never raises, since the other ranks wait for it."""
        try:
            now_seconds = self._clock()
            self.planner.refresh(now_seconds)
            if self.guard.off:
                return OWN_ORDER
            page = self.requests.page_tokens
            room = self._room_tokens(running) - (page if unfinished else 0)
            if room < page:
                return OWN_ORDER
            return self.planner.decide(now_seconds, self.requests, waiting, unfinished, room, 1)
        except Exception as error:
            self._failed("planning a pass", error)
            return OWN_ORDER

    def _apply(self, decision: Decision, waiting: list[Any], unfinished: Sequence[Any]) -> Pass:
        page, count = self.requests.page_tokens, len(waiting)
        chosen = [(waiting[position], tokens) for position, tokens in decision.pieces if position < count]
        continued = {position - count: tokens for position, tokens in decision.pieces if position >= count}
        refused = [waiting[position] for position in decision.refused]
        if refused:
            gone = {id(request) for request in refused}
            waiting[:] = [request for request in waiting if id(request) not in gone]
            for request in refused:
                refuse(self.scheduler, request)
            if self.metrics:
                self.metrics.refused.inc(len(refused))
        plan = Pass({id(request): tokens for request, tokens in chosen}, queue=list(waiting))
        for place, request in enumerate(unfinished):
            rest = self.requests.unfinished(request).tokens
            # SGLang computes a page of it, at least: the room for that was not given to others.
            plan.chunk_limit = min(rest, continued.get(place, 0) + page)
            plan.reserve_tokens += rest - plan.chunk_limit + page
        waiting[:] = [request for request, _ in chosen] + [r for r in waiting if id(r) not in plan.pieces]
        return plan

    def _restore_queue(self, plan: Pass, batch: Any) -> None:
        """Put those that the plan named and SGLang did not admit back to their places."""
        admitted = {id(request) for request in batch.reqs} if batch is not None else set()
        if plan.pieces.keys() <= admitted:
            return
        still = {id(request) for request in self.scheduler.waiting_queue}
        before = [request for request in plan.queue if id(request) in still]
        if len(before) == len(still):
            self.scheduler.waiting_queue[:] = before

    def _count_begun(self, plan: Pass | None, batch: Any) -> None:
        self.requests.computing(batch.reqs)
        if self.metrics is None:
            return
        now_seconds, waited, begun = self._clock(), [], set()
        for request in batch.reqs:
            known = self.requests.know(request)
            if known.long is None and not _is_health_check(request):
                known.long = known.prompt.tokens > self.planner.file.current.predicted_tokens
                waited.append((_length(known), now_seconds - known.prompt.arrived_seconds))
                begun.add(id(request))
        overtakings = 0
        if plan is not None:
            before = sum(1 for _ in takewhile(lambda request: id(request) in begun, plan.queue))
            overtakings = len(begun) - before if before < len(plan.queue) else 0
        self.metrics.began(waited, overtakings, len(self._unfinished()))

    def _count_done(self, request: Any) -> None:
        known: Known | None = getattr(request, "dopd_known", None)
        done_seconds = request.time_stats.prefill_finished_time
        if known is None or known.done or not done_seconds or known.long is None or self.metrics is None:
            return
        known.done = True
        late = done_seconds - known.prompt.arrived_seconds > self.planner.file.current.ttft_seconds
        self.metrics.finished(_length(known), late)

    def _settings_changed(self, error: str | None) -> None:
        if error and self.metrics:
            self.metrics.fallbacks.labels("settings").inc()
        self._report()

    def _report(self) -> None:
        if self.metrics:
            policy = ENGINE_DEFAULT if self.guard.off else self.planner.policy
            self.metrics.set_policy(policy, policy != ENGINE_DEFAULT)

    def _failed(self, where: str, error: Exception) -> None:
        self._pass = None
        switched_off = self.guard.failed(where, error, self._clock())
        if self.metrics:
            self.metrics.fallbacks.labels("error").inc()
            if switched_off:
                self.metrics.fallbacks.labels("switched-off").inc()
                self._report()

    def failed(self, where: str, error: Exception) -> None:
        """An error in a hook itself."""
        self._failed(where, error)


def _length(known: Known) -> str:
    return "long" if known.long else "short"


def _is_health_check(request: Any) -> bool:
    return str(request.rid).startswith("HEALTH_CHECK")
