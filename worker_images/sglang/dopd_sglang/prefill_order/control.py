"""One scheduler under dopd's order: a pass from its plan to its admission.

SGLang composes a pass in four steps, and the plugin has a say in each:

1. it sorts the waiting queue: here the plan is made, and what it names goes to the front;
2. prompts that are computed in part go on, the first with at most `chunk_limit` tokens (`go_on`);
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
from dopd_sglang.prefill_order.requests import Known, Requests, is_batch, token_count, whole_pages
from dopd_sglang.prefill_order.settings import ENGINE_DEFAULT, SettingsFile
from dopd_sglang.prefill_order.unfinished import Unfinished, can_be_parked

log = logging.getLogger(__name__)


@dataclass
class Ready:
    """What a plan comes to on this rank; to do it can not fail any more.

    Attributes:
        plan: of the pass.
        chosen: waiting requests that go to the front.
        refused: waiting requests that are ended early.
        going_on: unfinished prompts with their tokens, where those that are left out are parked; else None.
    """

    plan: "Pass"
    chosen: list[Any]
    refused: list[Any]
    going_on: list[tuple[Any, int]] | None


class NotReady(Exception):
    """Another rank of the group could not make the plan ready."""


@dataclass
class Pass:
    """The plan of the pass that is being composed.

    Attributes:
        pieces: tokens of each waiting request that is to go into it, by identity.
        chunk_limit: tokens for the unfinished prompt at most; None without one.
        reserve_tokens: of the KV pool, for the rest of the unfinished prompts after this pass.
        queue: the waiting requests as they stood before the plan's were put first.
        room_tokens: for waiting requests, of a pass of a batch, which is short; None where SGLang's own room holds.
    """

    pieces: dict[int, int] = field(default_factory=dict)
    chunk_limit: int | None = None
    reserve_tokens: int = 0
    reserved: bool = False
    queue: list[Any] = field(default_factory=list)
    room_tokens: int | None = None


class Control:
    """The plugin's state in one scheduler process.

    Args:
        scheduler: SGLang's.
        ranks: its tensor parallel group.
        metrics: None on all ranks but the first.
        match: looks a request up in the prefix cache; None without one.
        clock: seconds, the same as that of the requests' arrival.
        file: the operator's settings.
        can_park: whether several prompts may be computed in part.
    """

    def __init__(
        self,
        scheduler: Any,
        ranks: Ranks,
        metrics: Metrics | None,
        match: Callable[[Any], None] | None,
        clock: Callable[[], float] = time.perf_counter,
        file: SettingsFile | None = None,
        can_park: bool = False,
    ) -> None:
        self.scheduler, self.ranks, self.metrics = scheduler, ranks, metrics
        self.unfinished = Unfinished(scheduler, can_park)
        self.guard = Guard()
        self.requests = Requests(scheduler.page_size, match)
        self.planner = Planner(file or SettingsFile(), self._settings_changed)
        self._clock = clock
        self._pass: Pass | None = None
        self._again = False  # the pass is composed a second time, without a plan
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
        if self._again:
            return False
        if self.ranks.rank == 0:  # here, so that a worker with little to do takes settings over, and says so
            self._refresh_settings()
        unfinished = self.unfinished.choices()
        alone = [*waiting, *unfinished]
        if len(alone) < 2 and not any(is_batch(request) for request in alone):  # the same on all ranks
            return False
        known = self._refresh(waiting)
        decision = self.ranks.agree(lambda: self._decide(waiting, unfinished, running) if known else OWN_ORDER)
        ready = self._make_ready(decision, waiting, unfinished) if decision.planned and known else None
        self._follows = decision.planned and self._all_ready(ready)
        if ready is not None and self._follows:
            self._pass = self._carry_out(ready, waiting)
        else:
            self._take_turns()
        return self._pass is not None

    def chunk_limit(self) -> int | None:
        """Tokens for the unfinished prompt at most; None if it may take all."""
        return self._pass.chunk_limit if self._pass else None

    def planned(self) -> bool:
        """Whether a plan is in force for the pass that is being composed."""
        return self._pass is not None

    def go_on(self, adder: Any, add: Callable[[Any], Any], first: Any) -> Any:
        """SGLang adds its unfinished prompt to the pass: add it, and the others that the plan goes on with.

        Returns:
            The one that remains unfinished; None if none does.
        """

        def add_next(request: Any, limit: int) -> Any:
            request.init_next_round_input()
            adder.chunked_req_limit = limit
            return add(request)

        return self.unfinished.go_on(add_next, add(first))

    def reserve(self, adder: Any) -> None:
        """Keep what unfinished prompts still need of the KV pool from those that wait; before the first is admitted."""
        if getattr(adder, "dopd_reserved", False):
            return
        adder.dopd_reserved = True
        if self._pass is not None:
            adder.memory_budget.total_offset += self._pass.reserve_tokens
            if self._pass.room_tokens is not None and adder.rem_chunk_tokens is not None:
                adder.rem_chunk_tokens = min(adder.rem_chunk_tokens, self._pass.room_tokens)
        elif self.unfinished.parked:  # SGLang does without for its own one
            adder.memory_budget.total_offset += sum(self._rest_tokens(request) for request in self.unfinished.all())

    def may_add(self, adder: Any, request: Any, has_unfinished: bool) -> bool:
        """Whether a waiting request may join the pass; if not, the pass is complete.

        A pass is never left empty by this: where the plan's requests can not be admitted, others are.
        """
        tokens = len(request.full_untruncated_fill_ids) - request.prefix_len
        fits = adder.rem_chunk_tokens is None or whole_pages(tokens, adder.page_size) <= adder.rem_chunk_tokens
        plan = self._pass
        if plan is None:
            return True
        piece = plan.pieces.get(id(request))
        if not fits and (has_unfinished or (self.unfinished.parked and not self._is_cut(piece, request))):
            return False  # SGLang can cut one prompt at a time
        if not adder.can_run_list:
            return True
        return piece is not None and (fits or self._is_cut(piece, request))

    def composed(self, batch: Any) -> bool:
        """Take note of the pass that was composed; None if none was.

        Returns:
            False if none was though an unfinished prompt can go on: it has to be composed again, without a plan.
        """
        plan, self._pass = self._pass, None
        try:
            if plan is not None:
                self._restore_queue(plan, batch)
            if batch is not None:
                self._count_begun(plan, batch)
        except Exception as error:
            self._failed("counting a pass", error)
        complete = self.unfinished.composed(batch)
        self._again = not complete and not self._again
        try:
            if self.metrics:
                self.metrics.set_unfinished(len(self.unfinished.all()))
        except Exception as error:
            self._failed("counting unfinished prompts", error)
        return complete

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

    def _rest_tokens(self, request: Any) -> int:
        page = self.requests.page_tokens
        return whole_pages(token_count(request) - request.prefix_len, page) + page

    def _is_cut(self, piece: int | None, request: Any) -> bool:
        return piece is not None and piece < self.requests.know(request).prompt.tokens

    def _room_tokens(self, running: int) -> int:
        scheduler = self.scheduler
        room = min(scheduler.chunked_prefill_size, scheduler.max_prefill_tokens)
        if scheduler.is_mixed_chunk:
            room -= running
        return int(room // self.requests.page_tokens * self.requests.page_tokens)

    def _free_tokens(self) -> float:
        """What SGLang will find free for waiting prompts, less what is reserved for unfinished ones."""
        scheduler = self.scheduler
        budget = scheduler.token_to_kv_pool_allocator.create_prefill_budget(scheduler.tree_cache)
        reserved = sum(self._rest_tokens(request) for request in self.unfinished.all())
        page = self.requests.page_tokens
        return float(budget.remaining_total - reserved - page - 1)

    def _take_turns(self) -> None:
        try:
            self.unfinished.take_turns()
        except Exception as error:
            self._failed("giving unfinished prompts their turns", error)

    def _refresh_settings(self) -> None:
        try:
            self.planner.refresh(self._clock())
            self.requests.tells_batch = self.planner.file.current.batch
        except Exception as error:
            self._failed("reading the settings", error)

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
            if self.guard.off:
                return OWN_ORDER
            page = self.requests.page_tokens
            room = self._room_tokens(running)
            if unfinished and not self._may_leave_out(unfinished):
                room -= page
            if room < page:
                return OWN_ORDER
            most = self.planner.file.current.most_unfinished if self.unfinished.can_park else 1
            if not self._may_leave_out(unfinished):
                most = 1
            free = self._free_tokens()
            return self.planner.decide(now_seconds, self.requests, waiting, unfinished, room, free, most)
        except Exception as error:
            self._failed("planning a pass", error)
            return OWN_ORDER

    def _make_ready(self, decision: Decision, waiting: Sequence[Any], unfinished: Sequence[Any]) -> Ready | None:
        """Changes nothing, so that it can be dropped; None where it fails."""
        try:
            return self._ready(decision, waiting, unfinished)
        except Exception as error:
            self._failed("making the plan ready", error)
            return None

    def _ready(self, decision: Decision, waiting: Sequence[Any], unfinished: Sequence[Any]) -> Ready:
        page, count = self.requests.page_tokens, len(waiting)
        chosen = [(waiting[position], tokens) for position, tokens in decision.pieces if position < count]
        continued = {position - count: tokens for position, tokens in decision.pieces if position >= count}
        plan = Pass({id(request): tokens for request, tokens in chosen})
        if chosen and decision.short:
            plan.room_tokens = max(page, sum(tokens for _, tokens in chosen) // page * page)
        going_on: list[tuple[Any, int]] | None = None
        if self._may_leave_out(unfinished):
            going_on = [(unfinished[place], tokens) for place, tokens in continued.items()]
            plan.chunk_limit = going_on[0][1] if going_on else None
        elif unfinished:
            # SGLang computes a page of it, at least: the room for that was not given to others.
            rest = self.requests.unfinished(unfinished[0]).tokens
            plan.chunk_limit = min(rest, continued.get(0, 0) + page)
            continued = {0: plan.chunk_limit}
        plan.reserve_tokens = sum(self._rest_tokens(request) for request in self.unfinished.all())
        plan.reserve_tokens -= sum(continued.values())
        refused = [waiting[position] for position in decision.refused]
        return Ready(plan, [request for request, _ in chosen], refused, going_on)

    def _all_ready(self, ready: Ready | None) -> bool:
        """Whether all ranks can do what rank 0 decided; where one can not, all leave the pass to SGLang's own order."""
        if self.ranks.all_ready(ready is not None):
            return True
        if ready is not None:  # so that rank 0, which decides, gives up after several, too
            self._failed("a plan", NotReady("another rank of the group could not make it ready: see its log"))
        return False

    def _carry_out(self, ready: Ready, waiting: list[Any]) -> Pass:
        """On all ranks or none, so nothing here may fail on one alone."""
        plan = ready.plan
        if ready.refused:
            self._refuse(ready.refused, waiting)
        plan.queue = list(waiting)
        if ready.going_on is not None:
            self.unfinished.lend(ready.going_on)
        waiting[:] = ready.chosen + [request for request in waiting if id(request) not in plan.pieces]
        return plan

    def _refuse(self, refused: Sequence[Any], waiting: list[Any]) -> None:
        """End requests; one that no rank could end is served late, so that none is lost."""
        gone = {id(request) for request in refused}
        waiting[:] = [request for request in waiting if id(request) not in gone]
        ended = []
        for request in refused:
            try:
                refuse(self.scheduler, request)
                ended.append(True)
            except Exception as error:
                self._failed("refusing a prompt", error)
                ended.append(False)
        for request, on_any in zip(refused, self.ranks.on_any(ended), strict=True):
            if not on_any:
                waiting.append(request)
            else:
                self._count_refused()

    def _count_refused(self) -> None:
        try:
            if self.metrics:
                self.metrics.refused.inc()
        except Exception as error:
            self._failed("counting a refused prompt", error)

    def _may_leave_out(self, unfinished: Sequence[Any]) -> bool:
        """Whether these unfinished prompts may be left out of a pass; SGLang alone goes on with its own in each."""
        return self.unfinished.can_park and all(can_be_parked(request) for request in unfinished)

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
            if known.prompt.batch:
                known.long = False
                begun.add(id(request))
            elif known.long is None and not _is_health_check(request):
                known.long = known.prompt.tokens > self.planner.file.current.predicted_tokens
                waited.append((_length(known), now_seconds - known.prompt.arrived_seconds))
                begun.add(id(request))
        overtakings = 0
        if plan is not None:
            online = [request for request in plan.queue if not self.requests.know(request).prompt.batch]
            began = sum(id(request) in begun for request in online)
            before = sum(1 for _ in takewhile(lambda request: id(request) in begun, online))
            overtakings = began - before if before < len(online) else 0
        self.metrics.began(waited, overtakings)

    def _count_done(self, request: Any) -> None:
        known: Known | None = getattr(request, "dopd_known", None)
        done_seconds = request.time_stats.prefill_finished_time
        if known is None or known.done or not done_seconds or known.long is None or self.metrics is None:
            return
        known.done = True
        if known.prompt.batch:
            self.metrics.batch_finished(len(request.origin_input_ids))  # its first token is there already
            return
        self.metrics.finished(_length(known), self.planner.is_late(known.prompt, done_seconds))

    def _settings_changed(self, error: str | None) -> None:
        if error and self.metrics:
            self.metrics.fallbacks.labels("settings").inc()
        self._report()

    def _report(self) -> None:
        if self.metrics:
            policy = ENGINE_DEFAULT if self.guard.off else self.planner.policy
            self.metrics.set_policy(policy, policy != ENGINE_DEFAULT)

    def _failed(self, where: str, error: Exception) -> None:
        """On one rank, perhaps, so it changes nothing of what is decided or under way."""
        switched_off = self.guard.failed(where, error, self._clock())
        try:
            if self.metrics:
                self.metrics.fallbacks.labels("error").inc()
                if switched_off:
                    self.metrics.fallbacks.labels("switched-off").inc()
                    self._report()
        except Exception:
            log.exception("dopd: an error could not be counted")

    def failed(self, where: str, error: Exception) -> None:
        """An error in a hook itself."""
        self._failed(where, error)


def _length(known: Known) -> str:
    return "long" if known.long else "short"


def _is_health_check(request: Any) -> bool:
    return str(request.rid).startswith("HEALTH_CHECK")
