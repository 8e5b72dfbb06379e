"""A prefill/decode cluster in simulated time, one event per forward pass and per finished answer.

What is modelled: the gateway's choice of a prefill and a decode worker at arrival; per prefill worker a queue whose
waiting prompts are packed, and long prompts cut, into forward passes, and a cache of prefixes, where the trace tells
them (`dopd.replay.prefix_cache`); the KV transfer; per decode worker continuous batching with a limit on requests and
on KV tokens, and a step time that depends on both; workers that start, drain, come back and wait for a GPU; the GPU
time of all of it.

A prefix is looked up when its prompt is taken up, and held when its pass ends; a token at least is computed. The cache
may fill the KV cache of its engine: prompts in progress take no room from it.

What is not: kernels, retraction (a request is admitted when its whole answer fits the KV cache), network contention,
a step granularity below the mean (steps of a constant batch are a continuous flow).

Decode is simulated in virtual time: a worker counts the steps that it has made; a request that joins at step v
leaves at step v + answer length. Between events of a worker its step time is constant, so nothing happens per
token, and a request costs four events whatever its length.
"""

import math
import random
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush

from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.perf.prefill_times import service_times
from dopd.replay.fleet import FAILED, READY, Fleet
from dopd.replay.prefill_queue import FirstCome, Ordered, PrefillQueue, Prompts
from dopd.replay.prefix_cache import PrefixCache, PrefixIndex
from dopd.replay.trace import Trace
from dopd.replay.workers import FIRST_COME, DecodeWorker, Dialect, Phase, PrefillWorker, Routing, Settings, Worker
from dopd_scheduling import Settings as OrderSettings
from dopd_scheduling import make

_PASS_DONE, _DECODE_DUE, _TICK = range(3)


class Cluster(Fleet):
    """Serves a trace with a changing number of workers.

    Attributes:
        ttft_seconds: of each request; NaN until its first token.
        itl_seconds: mean of each request; NaN until it has finished, 0 for answers of one token.
        finished: requests that have their whole answer, or lost it.
        lost: requests whose worker failed as they ran.
        late: requests that missed an objective, so far.
        prefill_busy_seconds: time that prefill workers computed.
        decode_slot_seconds: time of all answers on decode workers.
        uncached_tokens: prompt tokens of each that the prefix cache of its worker does not hold, as looked up on
            arrival and again as its prefill began.
        prefilled_tokens: prompt tokens of all prompts whose prefill has ended.
        computed_tokens: those of them that were computed; both stay 0 where the trace tells no prefixes.
    """

    def __init__(self, model: EngineModel, trace: Trace, prefill: int, decode: int, settings: Settings) -> None:
        super().__init__(settings, trace.duration_seconds)
        self.trace = trace
        self.finished, self.lost, self.late = 0, 0, 0
        self.finished_output_tokens, self.finished_output_squares = 0, 0
        self._decoded = 0.0
        self.finished_itl_seconds, self.first_tokens, self.first_ttft_seconds = 0.0, 0, 0.0
        self.prefill_busy_seconds, self.decode_slot_seconds = 0.0, 0.0
        self._arrivals: list[float] = trace.arrival_seconds.tolist()
        self._inputs: list[int] = trace.input_tokens.tolist()
        self._outputs: list[int] = trace.output_tokens.tolist()
        count = len(trace)
        self.ttft_seconds = [math.nan] * count
        self.itl_seconds = [math.nan] * count
        self._joined = [0.0] * count
        self._assigned_tokens = [0] * count
        self._decode_of: list[DecodeWorker | None] = [None] * count
        self.prefixes = trace.prefixes
        self.uncached_tokens: list[int] = list(self._inputs)
        batch = None if trace.batch is None else trace.batch.tolist()
        self._prompts = Prompts(self._arrivals, self._inputs, self.prefixes, self.uncached_tokens, batch)
        self._awaited = count
        self.prefilled_tokens, self.computed_tokens = 0, 0
        self._held: deque[int] = deque()
        self.cold = 0
        self._random = random.Random(settings.seed).random
        self._turn = {Role.PREFILL: 0, Role.DECODE: 0}
        self._pick = {
            Routing.LEAST_REQUESTS: self._least,
            Routing.POWER_OF_TWO: self._less_of_two,
            Routing.ROUND_ROBIN: self._next_in_turn,
            Routing.CACHE_AWARE: self._least,
            Routing.LEAST_WORK: self._least,
        }[settings.routing]
        self._index = PrefixIndex() if settings.routing is Routing.CACHE_AWARE else None
        self._set_model(model)
        self._begin(Role.PREFILL, prefill)
        self._begin(Role.DECODE, decode)

    def _set_model(self, model: EngineModel) -> None:
        self._chunk = model.chunk_tokens
        self._holds = self.settings.dialect is Dialect.DYNAMO
        attention = self._attention = 0.0 if self._holds else model.attention_seconds
        self._pass_seconds = [model.prefill_seconds(t) - attention * t * t for t in range(self._chunk + 1)]
        self._contexts = [context for context, _ in model.itl_curves]
        rows = [
            [model.itl_seconds(n, context) for context in self._contexts] for n in range(model.max_running_requests + 1)
        ]
        self._itl = rows
        self._itl_slope = [
            [
                (row[min(j + 1, len(row) - 1)] - row[min(j, len(row) - 2)])
                / (self._contexts[min(j + 1, len(row) - 1)] - self._contexts[min(j, len(row) - 2)])
                if len(row) > 1
                else 0.0
                for j in range(len(row))
            ]
            for row in rows
        ]
        self.max_running, self.kv_tokens = model.max_running_requests, model.kv_tokens
        self._transfer_base, self._transfer_rate = model.transfer_base_seconds, 1 / model.transfer_tokens_per_second
        mean_tokens = sum(self._inputs) / max(1, len(self._inputs))
        self._order_settings = OrderSettings(
            self.settings.objectives.ttft_seconds,
            service_times(model),
            late_share=self.settings.late_share,
            predicted_tokens=mean_tokens,
            most_unfinished=self.settings.most_unfinished,
        )

    # --- time ---------------------------------------------------------------------------------------------------

    def run(self, decide: Callable[[], float] | None = None) -> None:
        """Serve the whole trace; `decide` is called at time 0 and then as many seconds later as it returned."""
        heap, arrivals = self._heap, self._arrivals
        count, index = len(arrivals), 0
        end = arrivals[-1] if count else 0.0
        if decide is not None:
            self._push(0.0, _TICK, None, 0)
        while index < count or self.finished < self._awaited:
            if index < count and (not heap or arrivals[index] <= heap[0][0]):
                self.now = arrivals[index]
                self._arrive(index)
                index += 1
                continue
            if not heap:
                raise RuntimeError(
                    f"{self._awaited - self.finished} requests can not finish: a role has no worker and none starts"
                )
            self.now, _, kind, worker, epoch = heappop(heap)
            if kind == _DECODE_DUE:
                if self.now == worker.due:  # type: ignore[union-attr]
                    self._decode_due(worker)  # type: ignore[arg-type]
            elif kind == _PASS_DONE:
                self._pass_done(worker)  # type: ignore[arg-type]
            elif kind == READY:
                self._ready(worker, epoch)  # type: ignore[arg-type]
            elif kind == FAILED:
                self._fail(worker, epoch)  # type: ignore[arg-type]
            elif decide is not None:
                self._push(self.now + decide(), _TICK, None, 0)
            if self.now > end and self._charged_until < end:
                self._charge(end)
        self._charge(end)

    @property
    def batch_waits(self) -> bool:
        """Whether anything of a batch is at the gateway or in the engines; here there is none."""
        return False

    @property
    def decoded_tokens(self) -> float:
        """Tokens that decode has made so far, of answers that run, too; the first of each comes from prefill."""
        running = (w for w in self.workers[Role.DECODE] if isinstance(w, DecodeWorker) and w.n)
        return self._decoded + sum((self.now - w.last) / w.step_seconds * w.n for w in running)

    # --- workers ------------------------------------------------------------------------------------------------

    def _new_prefill(self) -> PrefillWorker:
        cache, settings = PrefixCache(self.kv_tokens), self._order_settings
        queue: PrefillQueue = FirstCome(self._prompts, cache)
        if self.settings.order != FIRST_COME:
            order = make(self.settings.order, settings, batch=self._prompts.batch is not None)
            queue = Ordered(self._prompts, cache, order)
        return PrefillWorker(queue, cache)

    def _let_held_in(self) -> None:
        while self._held and all(self.serving.values()):
            self._arrive(self._held.popleft())

    def _abandon(self, worker: Worker) -> None:
        """Prompts and answers without a first token go to the gateway again; answers that run are lost."""
        if isinstance(worker, PrefillWorker):
            again = [*worker.batch, *worker.queue.all()]
            for request in again:
                decode = self._decode_of[request]
                assert decode is not None
                decode.assigned -= 1
                self._release_if_idle(decode)
        else:
            assert isinstance(worker, DecodeWorker)
            self._advance(worker)
            again = list(worker.waiting)
            for _, request in worker.leaving:
                self.lost += 1
                self.finished += 1
                self.itl_seconds[request] = math.nan
                if not self.ttft_seconds[request] > self.settings.objectives.ttft_seconds:
                    self.late += 1
        for request in again:
            self._arrive(request)

    # --- the gateway --------------------------------------------------------------------------------------------

    def _less_of_two(self, role: Role) -> Worker:
        workers = self.serving[role]
        count = len(workers)
        if count == 1:
            return workers[0]
        draw = self._random
        first = int(draw() * count)
        second = int(draw() * (count - 1))
        if second >= first:
            second += 1
        one, other = workers[first], workers[second]
        return one if one.assigned <= other.assigned else other

    def _least(self, role: Role) -> Worker:
        workers = self.serving[role]
        chosen = workers[0]
        fewest = chosen.assigned
        for worker in workers:
            if worker.assigned < fewest:
                chosen, fewest = worker, worker.assigned
        return chosen

    def _next_in_turn(self, role: Role) -> Worker:
        self._turn[role] += 1
        workers = self.serving[role]
        return workers[self._turn[role] % len(workers)]

    def _arrive(self, request: int) -> None:
        if not (self.serving[Role.PREFILL] and self.serving[Role.DECODE]):
            self._held.append(request)
            self.cold += 1
            return
        prefill = self._pick_prefill(request)
        decode = self._pick(Role.DECODE)
        assert isinstance(prefill, PrefillWorker)
        assert isinstance(decode, DecodeWorker)
        decode.assigned += 1
        self._decode_of[request] = decode
        prefill.assigned += 1
        prefill.queue.append(request)
        self._assigned_tokens[request] = self.uncached_tokens[request]
        prefill.assigned_tokens += self.uncached_tokens[request]
        if not prefill.busy:
            self._start_pass(prefill)

    def _pick_prefill(self, request: int) -> Worker:
        if self._index is not None:
            blocks = self.prefixes.of(request) if self.prefixes is not None else ()
            return self._index.choose(blocks, self._inputs[request], self.serving[Role.PREFILL])  # type: ignore[arg-type]
        if self.settings.routing is Routing.LEAST_WORK:
            return min(self.serving[Role.PREFILL], key=lambda worker: self._work_with(worker, request))  # type: ignore[arg-type]
        return self._pick(Role.PREFILL)

    def _work_with(self, worker: PrefillWorker, request: int) -> int:
        """Tokens that a worker has to compute once it has taken a prompt."""
        self._prompts.look_up(request, worker.cache)
        return worker.assigned_tokens + self.uncached_tokens[request]

    # --- prefill ------------------------------------------------------------------------------------------------

    def _start_pass(self, worker: PrefillWorker) -> None:
        """Take what goes into the next forward pass out of the queue, and let it run."""
        taken = worker.queue.next_pass(self.now, self._chunk)
        worker.batch += taken.completed
        worker.busy = True
        seconds = (self._pass_seconds[taken.tokens] + self._attention * taken.attended) * worker.slowness
        if self._draws.noisy:
            seconds *= self._draws.service_factor()
        self.prefill_busy_seconds += seconds
        self._push(self.now + seconds, _PASS_DONE, worker, 0)

    def _pass_done(self, worker: PrefillWorker) -> None:
        if worker.phase is Phase.GONE:
            return
        if self._holds and worker.queue:
            self._start_pass(worker)
            return
        batch, worker.batch = worker.batch, []
        worker.assigned -= len(batch)
        worker.assigned_tokens -= sum(self._assigned_tokens[request] for request in batch)
        if self.prefixes is not None:
            self._keep(worker, batch)
        for request in batch:
            decode = self._decode_of[request]
            assert decode is not None
            if decode.phase is Phase.GONE:
                self._arrive(request)
            else:
                self._hand_over(decode, request)
        if worker.queue:
            self._start_pass(worker)
        else:
            worker.busy = False
            self._release_if_idle(worker)

    def _keep(self, worker: PrefillWorker, batch: list[int]) -> None:
        """Hold the prefixes of prompts whose prefill has ended."""
        assert self.prefixes is not None
        for request in batch:
            worker.cache.use(self.prefixes.of(request))
            self.prefilled_tokens += self._inputs[request]
            self.computed_tokens += self.uncached_tokens[request]

    # --- decode -------------------------------------------------------------------------------------------------

    def _hand_over(self, worker: DecodeWorker, request: int) -> None:
        """The prefill of a request is done."""
        if worker.waiting or not self._fits(worker, request):
            worker.waiting.append(request)
        else:
            self._admit(worker, request)

    def _fits(self, worker: DecodeWorker, request: int) -> bool:
        if worker.n >= self.max_running:
            return False
        needed = worker.reserved + self._inputs[request] + self._outputs[request]
        return needed <= self.kv_tokens or worker.n == 0

    def _admit(self, worker: DecodeWorker, request: int) -> None:
        now, tokens = self.now, self._inputs[request]
        ttft = now + self._transfer_base + tokens * self._transfer_rate - self._arrivals[request]
        self._first_token(request, ttft)
        steps = self._outputs[request] - 1
        if not steps:
            self.itl_seconds[request] = 0.0
            self._finish(worker, request, 1)
            return
        self._advance(worker)
        self._joined[request] = now
        heappush(worker.leaving, (worker.steps + steps, request))
        worker.n += 1
        worker.kv += tokens
        worker.reserved += tokens + steps + 1
        self._reschedule(worker)
        if self._holds:
            self.ttft_seconds[request] += worker.step_seconds
            self.first_ttft_seconds += worker.step_seconds

    def _advance(self, worker: DecodeWorker) -> None:
        if worker.n:
            made = (self.now - worker.last) / worker.step_seconds
            worker.steps += made
            worker.kv += made * worker.n
            self._decoded += made * worker.n
            self.decode_slot_seconds += (self.now - worker.last) * worker.n
        worker.last = self.now

    def _reschedule(self, worker: DecodeWorker) -> None:
        """Set the step time for what runs now, and look again when the first request leaves.

        A join only slows the worker down, so an earlier look that is already due stands: it finds nothing and looks
        again. That saves most of the events.
        """
        n = worker.n
        if not n:
            worker.kv = 0.0
            return
        contexts = self._contexts
        context = worker.kv / n
        j = bisect_right(contexts, context) - 1
        if j < 0:
            worker.step_seconds = self._itl[n][0]
        else:
            worker.step_seconds = self._itl[n][j] + self._itl_slope[n][j] * (context - contexts[j])
        worker.step_seconds *= worker.slowness
        if self._draws.noisy:
            worker.step_seconds *= self._draws.service_factor()
        due = self.now + max(0.0, worker.leaving[0][0] - worker.steps) * worker.step_seconds
        if due < worker.due:
            worker.due = due
            self._push(due, _DECODE_DUE, worker, 0)

    def _decode_due(self, worker: DecodeWorker) -> None:
        if worker.phase is Phase.GONE:
            return
        worker.due = math.inf
        self._advance(worker)
        leaving, done = worker.leaving, worker.steps + 1e-6
        while leaving and leaving[0][0] <= done:
            _, request = heappop(leaving)
            steps = self._outputs[request] - 1
            self._answered(request, (self.now - self._joined[request]) / steps)
            worker.n -= 1
            worker.kv -= self._inputs[request] + steps
            worker.reserved -= self._inputs[request] + steps + 1
            self._finish(worker, request, steps + 1)
        while worker.waiting and self._fits(worker, worker.waiting[0]):
            self._admit(worker, worker.waiting.popleft())
        self._reschedule(worker)

    # --- what is counted ----------------------------------------------------------------------------------------

    def _first_token(self, request: int, ttft_seconds: float) -> None:
        self.ttft_seconds[request] = ttft_seconds
        self.first_tokens += 1
        self.first_ttft_seconds += ttft_seconds
        if ttft_seconds > self.settings.objectives.ttft_seconds:
            self.late += 1

    def _answered(self, request: int, itl_seconds: float) -> None:
        self.itl_seconds[request] = itl_seconds
        self.finished_itl_seconds += itl_seconds
        objectives = self.settings.objectives
        if itl_seconds > objectives.itl_seconds and not self.ttft_seconds[request] > objectives.ttft_seconds:
            self.late += 1

    def _finish(self, worker: DecodeWorker, request: int, output_tokens: int) -> None:
        self.finished += 1
        self.finished_output_tokens += output_tokens
        self.finished_output_squares += output_tokens * output_tokens
        worker.assigned -= 1
        self._release_if_idle(worker)
