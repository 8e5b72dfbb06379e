"""Which requests run together, for how long, and what happens when the KV cache is full. Pure: no clock, no I/O.

In the large as SGLang 0.5.23 schedules (managers/scheduler.py, schedule_policy.py, disaggregation/decode.py): first
come first served, unless an order is given; prefill before decode; prefill passes of at most `chunk_tokens`, long
prompts in chunks; decode as one continuous batch; in a decode worker, KV cache reserved before the transfer; when the
cache is full, the requests with the least output are retracted first. There is no prefix cache: every prompt token is
computed.
"""

import math
import sys
from collections import deque
from dataclasses import dataclass, field

from dopd.perf import EngineModel
from dopd_simulator.prefill_order import PrefillOrder
from dopd_simulator.request import Finish, Request

CLIP_NEW_TOKENS = 4096
"""No more output than that is reserved for one request (SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION)."""

RETRACT_STEPS = 20
"""Decode steps of head-room assumed when the new-token ratio is estimated after a retraction."""


@dataclass(frozen=True)
class Limits:
    """Size of one engine, tokens and requests."""

    kv_tokens: int
    max_running_requests: int
    transfer_slots: int
    chunk_tokens: int | None
    reserved_decode_tokens: int = 512
    conservativeness: float = 1.0
    by_priority: bool = False
    retract_by_priority: bool = False


@dataclass(frozen=True)
class PrefillPass:
    """One forward pass over new prompt tokens: (request, tokens) pieces."""

    seconds: float
    pieces: tuple[tuple[Request, int], ...]

    @property
    def tokens(self) -> int:
        """Prompt tokens computed."""
        return sum(tokens for _, tokens in self.pieces)


@dataclass(frozen=True)
class DecodePass:
    """`steps` decode steps of one unchanged batch, which nobody needs to hear of in between."""

    step_seconds: float
    steps: int
    batch: tuple[Request, ...]

    @property
    def seconds(self) -> float:
        """Time of all steps."""
        return self.step_seconds * self.steps


@dataclass
class Scheduler:
    """The queues and the batch of one engine.

    Attributes:
        role: null, prefill or decode.
        prealloc: decode only: requests without KV cache, in order of arrival.
        waiting: requests that wait for a place in a batch.
        running: the decode batch.
        retracted: decode only: requests put aside while the KV cache is full.
        unfinished: requests whose prompt is computed in part; one at most, unless an order allows more.
        transferring: requests that own KV cache while it is sent or received.
        slow_down_seconds: added to each forward pass (`/slow_down`).
        new_token_ratio: share of the allowed output that admission reserves.
        order: of waiting prompts; first come, first served if None.
        most_steps: of one decode pass; who renews what an engine tells of itself need hear of it.
    """

    model: EngineModel
    limits: Limits
    role: str
    prealloc: list[Request] = field(default_factory=list)
    waiting: deque[Request] = field(default_factory=deque)
    running: list[Request] = field(default_factory=list)
    retracted: deque[Request] = field(default_factory=deque)
    unfinished: list[Request] = field(default_factory=list)
    kv_used: int = 0
    transferring: set[Request] = field(default_factory=set)
    slow_down_seconds: float = 0.0
    order: PrefillOrder | None = None
    most_steps: int = sys.maxsize

    def __post_init__(self) -> None:
        self.initial_ratio = min(1.0, 0.7 * self.limits.conservativeness)
        self.new_token_ratio = self.initial_ratio

    @property
    def kv_free(self) -> int:
        """Tokens that the KV cache has left."""
        return self.limits.kv_tokens - self.kv_used

    def hold(self, request: Request, tokens: int) -> None:
        """Give a request that many more tokens of KV cache."""
        request.kv_tokens += tokens
        self.kv_used += tokens

    def release(self, request: Request) -> None:
        """Take back all KV cache of a request."""
        self.kv_used -= request.kv_tokens
        request.kv_tokens = 0

    def remove(self, request: Request) -> None:
        """Forget a request, wherever it is."""
        self.transferring.discard(request)
        for queue in (self.prealloc, self.waiting, self.retracted, self.running, self.unfinished):
            if request in queue:
                queue.remove(request)
        self.release(request)

    # Decode workers: KV cache before the transfer

    def preallocate(self) -> list[Request]:
        """Reserve KV cache for requests whose prefill side is known, in order, while it fits; return those that got it.

        The room that running requests may still grow into is left alone (DecodePreallocQueue.pop_preallocated).
        """
        reserved = self.limits.reserved_decode_tokens
        active = len(self.running) + len(self.waiting) + len(self.transferring)
        budget = self.kv_free - reserved * active
        budget -= sum(request.context_tokens + reserved for request in self.retracted)
        retractable = sum(request.context_tokens for request in self.running)
        slots = self.limits.max_running_requests + self.limits.transfer_slots - active - len(self.retracted)
        granted: list[Request] = []
        if self.limits.by_priority:
            self.prealloc.sort(key=lambda request: -request.urgency)
        for request in [each for each in self.prealloc if each.handshaken]:
            worst = request.prompt_tokens + min(request.max_new_tokens, CLIP_NEW_TOKENS) - retractable
            needed = max(request.prompt_tokens + reserved, worst)
            if needed > budget or slots <= 0:
                break
            self.hold(request, request.prompt_tokens)
            budget -= request.prompt_tokens + reserved
            slots -= 1
            self.transferring.add(request)
            granted.append(request)
        for request in granted:
            self.prealloc.remove(request)
        return granted

    def transferred(self, request: Request) -> None:
        """The KV cache has come, with the first token: the request may decode."""
        self.transferring.discard(request)
        self.waiting.append(request)

    # What runs next

    def make_room(self) -> tuple[list[Request], list[Request]]:
        """Retract requests until the batch can grow by one token each; return (retracted, aborted)."""
        retracted: list[Request] = []
        by_priority = self.limits.retract_by_priority

        def kept(request: Request) -> tuple[float, int, int]:
            return request.urgency if by_priority else 0.0, request.output_tokens, -request.prompt_tokens

        order = sorted(self.running, key=kept, reverse=True)
        while len(order) > 1 and self.kv_free < len(order):
            request = order.pop()
            self.running.remove(request)
            self.release(request)
            request.retractions += 1
            retracted.append(request)
        if retracted:
            self.new_token_ratio = self._ratio_after_retraction(order)
        if order and self.kv_free < len(order):
            last = order.pop()
            last.finish = Finish(
                "abort", status=500,
                message="Out of memory even after retracting all other requests in the decode batch. "
                "Aborting the last request.",
            )  # fmt: skip
            self.remove(last)
            return retracted, [last]
        return retracted, []

    def requeue(self, request: Request) -> None:
        """Queue a retracted request again: decode keeps its KV cache in host memory, others compute it anew."""
        if self.role == "decode":
            self.retracted.append(request)
        else:
            request.prefilled_tokens = 0
            self.waiting.append(request)

    def join(self) -> list[Request]:
        """Decode workers: take retracted, then transferred requests into the batch; return those that joined."""
        joined: list[Request] = []
        reserved = self.limits.reserved_decode_tokens
        while self.retracted and len(self.running) < self.limits.max_running_requests:
            request = self.retracted[0]
            if request.context_tokens + reserved > self.kv_free - reserved * len(self.running):
                break
            self.hold(request, request.context_tokens)
            self.running.append(self.retracted.popleft())
            joined.append(request)
        if self.limits.by_priority and self.waiting:
            self.waiting = deque(sorted(self.waiting, key=lambda request: -request.urgency))
        while self.waiting and len(self.running) < self.limits.max_running_requests:
            request = self.waiting.popleft()
            self.running.append(request)
            joined.append(request)
        return joined

    def plan(self, now: float = 0.0) -> PrefillPass | DecodePass | None:
        """The next forward pass, or None when there is nothing to run. Prefill goes first, except in decode workers.

        Args:
            now: engine seconds, by which an order tells who is late.
        """
        if self.role != "decode":
            prefill = self._plan_prefill(now)
            if prefill is not None:
                return prefill
        return self._plan_decode()

    def _plan_prefill(self, now: float) -> PrefillPass | None:
        pieces = self._admit(self._in_order_of_arrival() if self.order is None else self._in_order(self.order, now))
        if not pieces:  # nothing that was chosen fits; those that have begun hold their KV cache, and go on
            pieces = self._admit([(request, _left(request)) for request in self.unfinished])
        if not pieces:
            return None
        finished = {request for request, tokens in pieces if tokens == _left(request)}
        begun = dict.fromkeys([*self.unfinished, *(request for request, _ in pieces)])
        self.unfinished = [request for request in begun if request not in finished]
        new_tokens = sum(tokens for _, tokens in pieces)
        # Prompts that share a pass pay no attention to each other; a piece does to what is computed of its prompt.
        spans = [(request.prefilled_tokens, request.prefilled_tokens + tokens) for request, tokens in pieces]
        attended = sum(end * end - start * start for start, end in spans)
        seconds = self.model.prefill_pass_seconds(new_tokens, attended) + self.slow_down_seconds
        return PrefillPass(seconds, tuple(pieces))

    def _in_order_of_arrival(self) -> list[tuple[Request, int]]:
        return [(request, _left(request)) for request in (*self.unfinished, *self.waiting)]

    def _in_order(self, order: PrefillOrder, now: float) -> list[tuple[Request, int]]:
        if not (self.waiting or self.unfinished):
            return []
        room = self.limits.chunk_tokens or sum(map(_left, (*self.waiting, *self.unfinished)))
        return order.next_pieces(now, self.waiting, self.unfinished, room)

    def _admit(self, wanted: list[tuple[Request, int]]) -> list[tuple[Request, int]]:
        """Take pieces into a pass while there is room for their tokens, their requests and their KV cache."""
        room: float = math.inf if self.limits.chunk_tokens is None else self.limits.chunk_tokens
        pieces: list[tuple[Request, int]] = []
        reserve = sum(self._growth(request) for request in self.running)
        begun = set(self.unfinished)
        for request, tokens in wanted:
            if room <= 0:
                break
            if request not in begun:
                occupied = len(self.running) + len(self.transferring) + len(pieces)
                if occupied >= self.limits.max_running_requests:
                    break
                if request.context_tokens + self._growth(request) + reserve > self.kv_free and (pieces or self.kv_used):
                    break
                self.waiting.remove(request)
                self.hold(request, request.context_tokens)
                reserve += self._growth(request)
            taken = int(min(room, tokens))
            pieces.append((request, taken))
            room -= taken
        return pieces

    def _growth(self, request: Request) -> int:
        """Output tokens to reserve for a request: none in a prefill worker, which generates one."""
        if self.role == "prefill":
            return 0
        left = min(request.max_new_tokens - request.output_tokens, CLIP_NEW_TOKENS)
        return int(max(0, left) * self.new_token_ratio)

    def _plan_decode(self) -> DecodePass | None:
        if not self.running:
            return None
        batch = len(self.running)
        steps = min(min(r.length - r.output_tokens, max(1, r.steps_to_emission())) for r in self.running)
        steps = max(1, min(steps, self.most_steps, self.kv_free // batch))
        context = sum(request.context_tokens for request in self.running) / batch + (steps - 1) / 2
        return DecodePass(self.model.itl_seconds(batch, context) + self.slow_down_seconds, steps, tuple(self.running))

    # What has run

    def complete_prefill(self, done: PrefillPass) -> list[Request]:
        """Book a prefill pass; return the requests whose prompt is now complete and that have their first token."""
        complete: list[Request] = []
        for request, tokens in done.pieces:
            request.prefilled_tokens += tokens
            if request.finish is None and request.prefilled_tokens >= request.context_tokens:
                complete.append(request)
                if request.output_tokens == 0:
                    request.output_tokens = min(1, request.length)
                if self.role == "prefill":
                    self.transferring.add(request)
                else:
                    self.running.append(request)
        return complete

    def complete_decode(self, done: DecodePass, steps: int) -> list[Request]:
        """Book `steps` decode steps; return the requests that got tokens. Those that have all leave the batch."""
        still_running = set(self.running)
        advanced = [request for request in done.batch if request in still_running]
        for request in advanced:
            request.output_tokens += steps
            self.hold(request, steps)
            if request.output_tokens >= request.length:
                self.end(request)
        floor = self.initial_ratio * 0.14
        decay = (self.initial_ratio - floor) / 600
        self.new_token_ratio = max(floor, self.new_token_ratio - decay * steps)
        return advanced

    def end(self, request: Request) -> None:
        """Finish a request that has all its tokens."""
        by_length = request.length >= request.max_new_tokens
        request.finish = Finish("length", length=request.length) if by_length else Finish("stop")
        self.remove(request)

    @staticmethod
    def _ratio_after_retraction(kept: list[Request]) -> float:
        decoded = sum(request.output_tokens for request in kept)
        allowed = sum(request.max_new_tokens for request in kept)
        return min(1.0, (decoded + RETRACT_STEPS * len(kept)) / (allowed + 1))


def _left(request: Request) -> int:
    """Tokens that are still to be computed."""
    return request.context_tokens - request.prefilled_tokens
