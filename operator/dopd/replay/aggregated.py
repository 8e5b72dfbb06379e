"""Engines that do prefill and decode both, in simulated time: what the GPUs of a split would do without one.

Each engine runs one forward pass at a time, as SGLang's scheduler does (`get_next_batch_to_run` of 0.5.23). By default
a pass over prompts goes first: while a prompt waits and fits, no answer gets a token. With `--enable-mixed-chunk` such
a pass makes one token for each running answer, too, and takes that many prompt tokens fewer. Nothing is transferred,
and both halves share one KV cache and one limit on requests.

The queue of prompts is that of a prefill worker (`dopd.replay.prefill_queue`), in any order that is known there. As in
`dopd.replay.cluster`, a request is admitted to it when its whole answer fits the KV cache, and where the trace tells
prefixes a cache of them may fill the KV cache of its engine. That is kind to these engines, whose answers need the
room. The number of engines does not change.

Steps of decode between two events are one event: the batch is the same, and its time grows along a line with the
context. So every pass begins and ends when it would if each step were simulated, and an arrival waits for the step
that runs.
"""

import math
import random
from collections import deque
from dataclasses import replace
from heapq import heappop, heappush

from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.perf.prefill_times import service_times
from dopd.replay.pass_times import PassTimes
from dopd.replay.prefill_queue import FirstCome, Ordered, PrefillQueue, Prompts
from dopd.replay.prefix_cache import PrefixCache, PrefixIndex
from dopd.replay.trace import Trace
from dopd.replay.workers import FIRST_COME, Routing, Settings
from dopd_scheduling import Settings as OrderSettings
from dopd_scheduling import make

_ROUNDING = 1e-9


class Engine:
    """What one engine holds and what it does now.

    Attributes:
        assigned: requests that it has not finished.
        waiting: requests that are not admitted.
        held: requests admitted and not finished.
        reserved: KV tokens that they will need.
        queue: prompts of those that are not computed whole.
        cache: prefixes that it holds.
        batch: prompts that the pass completes.
        n: answers that run.
        kv: tokens of their contexts.
        steps: tokens that each answer that never left would have.
        leaving: (steps at its end, request) of the running answers.
        busy: whether it runs anything.
        due: when the steps of decode that run now end; infinite if a pass over prompts runs, or nothing.
        since: when they began.
        planned: how many they are.
        line: seconds of the first of them, and what each further one adds.
    """

    __slots__ = (
        "assigned", "batch", "busy", "cache", "due", "held", "kv", "leaving", "line", "n", "planned", "queue",
        "reserved", "since", "steps", "waiting",
    )  # fmt: skip

    def __init__(self, queue: PrefillQueue, cache: PrefixCache) -> None:
        self.assigned, self.held, self.reserved = 0, 0, 0
        self.waiting: deque[int] = deque()
        self.queue, self.cache = queue, cache
        self.batch: list[int] = []
        self.n, self.kv, self.steps = 0, 0, 0
        self.leaving: list[tuple[int, int]] = []
        self.busy, self.due, self.since, self.planned = False, math.inf, 0.0, 0
        self.line = (0.0, 0.0)

    def seconds_of(self, steps: int) -> float:
        """Time of the first `steps` of the steps that run."""
        first, growth = self.line
        return steps * first + growth * steps * (steps - 1) / 2

    def steps_within(self, seconds: float) -> int:
        """The fewest of the steps that run, at least one, that take so long."""
        first, growth = self.line
        linear = first - growth / 2
        root = 2 * seconds / (linear + math.sqrt(linear * linear + 2 * growth * seconds))
        return max(1, math.ceil(root - _ROUNDING))


class AggregatedCluster:
    """Serves a trace on a fixed number of engines.

    Args:
        model: the engine.
        times: of its passes; they have the chunk that is used.
        trace: the requests.
        engines: how many.
        settings: gateway, GPUs of an engine (those of a prefill worker), order of prompts, what is counted.
        mixed: whether a pass over prompts makes tokens for the running answers, too.

    Attributes:
        ttft_seconds: of each request; NaN until its first token.
        itl_seconds: mean of each request; NaN until it has finished, 0 for answers of one token.
        gpu_seconds: of all engines, for the part of the trace that counts.
        changes: 0, for the count is fixed.
        prefilled_tokens: prompt tokens whose prefill has ended; stays 0 where the trace tells no prefixes.
        computed_tokens: those of them that were computed.
    """

    def __init__(
        self, model: EngineModel, times: PassTimes, trace: Trace, engines: int, settings: Settings, mixed: bool
    ) -> None:
        self.trace, self.settings, self.now, self.changes = trace, settings, 0.0, 0
        counted = max(0.0, trace.duration_seconds - settings.counted_from_seconds)
        self.gpu_seconds = engines * settings.gpus[Role.PREFILL] * counted
        self.prefilled_tokens, self.computed_tokens = 0, 0
        self.ttft_seconds = [math.nan] * len(trace)
        self.itl_seconds = [math.nan] * len(trace)
        self._joined = [0.0] * len(trace)
        self._model, self._times, self._mixed = model, times, mixed
        self._arrivals: list[float] = trace.arrival_seconds.tolist()
        self._inputs: list[int] = trace.input_tokens.tolist()
        self._outputs: list[int] = trace.output_tokens.tolist()
        self._uncached = list(self._inputs)
        self._engines = self._new_engines(engines)
        self._heap: list[tuple[float, int, bool, Engine]] = []
        self._sequence, self._turn = 0, 0
        self._random = random.Random(settings.seed).random
        self._index = PrefixIndex() if settings.routing is Routing.CACHE_AWARE else None

    def _new_engines(self, number: int) -> list[Engine]:
        model, settings = self._model, self.settings
        prompts = Prompts(self._arrivals, self._inputs, self.trace.prefixes, self._uncached)
        order = OrderSettings(
            settings.objectives.ttft_seconds,
            replace(service_times(model), transfer_seconds=0.0, transfer_token_seconds=0.0),
            late_share=settings.late_share,
            predicted_tokens=sum(self._inputs) / max(1, len(self._inputs)),
            most_unfinished=settings.most_unfinished,
        )
        engines = []
        for _ in range(number):
            cache = PrefixCache(model.kv_tokens)
            queue: PrefillQueue = FirstCome(prompts, cache)
            if settings.order != FIRST_COME:
                queue = Ordered(prompts, cache, make(settings.order, order))
            engines.append(Engine(queue, cache))
        return engines

    def run(self) -> None:
        """Serve the whole trace."""
        heap, arrivals = self._heap, self._arrivals
        count, index = len(arrivals), 0
        while index < count or heap:
            if index < count and (not heap or arrivals[index] <= heap[0][0]):
                self.now = arrivals[index]
                self._arrive(index)
                index += 1
                continue
            self.now, _, decoded, engine = heappop(heap)
            if not decoded:
                self._pass_done(engine)
            elif self.now == engine.due:
                engine.due = math.inf
                self._steps_done(engine, engine.planned)
                self._admit(engine)
                self._go_on(engine)

    def _push(self, at: float, decoded: bool, engine: Engine) -> None:
        self._sequence += 1
        heappush(self._heap, (at, self._sequence, decoded, engine))

    # --- the gateway --------------------------------------------------------------------------------------------

    def _choose(self, request: int) -> Engine:
        engines, routing = self._engines, self.settings.routing
        if self._index is not None:
            blocks = self.trace.prefixes.of(request) if self.trace.prefixes is not None else ()
            return self._index.choose(blocks, self._inputs[request], engines)  # type: ignore[arg-type, return-value]
        if routing is Routing.ROUND_ROBIN:
            self._turn += 1
            return engines[self._turn % len(engines)]
        if routing is Routing.POWER_OF_TWO and len(engines) > 1:
            first = int(self._random() * len(engines))
            second = (first + 1 + int(self._random() * (len(engines) - 1))) % len(engines)
            return min(engines[first], engines[second], key=lambda engine: engine.assigned)
        return min(engines, key=lambda engine: engine.assigned)

    def _arrive(self, request: int) -> None:
        engine = self._choose(request)
        engine.assigned += 1
        engine.waiting.append(request)
        self._admit(engine)
        if not engine.busy:
            self._go_on(engine)
        elif engine.queue and math.isfinite(engine.due):
            steps = engine.steps_within(self.now - engine.since)  # the step that runs is the last before its prefill
            if steps < engine.planned:
                engine.planned, engine.due = steps, engine.since + engine.seconds_of(steps)
                self._push(engine.due, True, engine)

    def _admit(self, engine: Engine) -> None:
        """Let in what fits, in order of arrival: a place and room for its whole answer; anything if it is empty."""
        waiting, model = engine.waiting, self._model
        while waiting and engine.held < model.max_running_requests:
            needed = self._inputs[waiting[0]] + self._outputs[waiting[0]]
            if engine.held and engine.reserved + needed > model.kv_tokens:
                break
            engine.held += 1
            engine.reserved += needed
            engine.queue.append(waiting.popleft())

    # --- the engine ---------------------------------------------------------------------------------------------

    def _go_on(self, engine: Engine) -> None:
        """Begin what comes next: prompts if any can, else steps of decode until something changes."""
        running = engine.n if self._mixed else 0
        room = self._times.chunk_tokens - running
        engine.busy = True
        if engine.queue and room > 0:
            taken = engine.queue.next_pass(self.now, room)
            engine.batch = taken.completed
            if running:
                seconds = self._times.mixed_seconds(taken.tokens, taken.attended, running, engine.kv / engine.n)
            else:
                seconds = self._times.prefill_seconds(taken.tokens, taken.attended)
            self._push(self.now + seconds, False, engine)
        elif engine.n:
            context = engine.kv / engine.n
            first, growth, until = self._times.decode_line(engine.n, context)
            left = engine.leaving[0][0] - engine.steps
            engine.planned = left if until - context >= left else max(1, math.ceil(until - context))
            engine.line, engine.since = (first, growth), self.now
            engine.due = self.now + engine.seconds_of(engine.planned)
            self._push(engine.due, True, engine)
        else:
            engine.busy = False

    def _pass_done(self, engine: Engine) -> None:
        if self._mixed:
            self._steps_done(engine, 1)
        batch, engine.batch = engine.batch, []
        for request in batch:
            if self.trace.prefixes is not None:
                engine.cache.use(self.trace.prefixes.of(request))
                self.prefilled_tokens += self._inputs[request]
                self.computed_tokens += self._uncached[request]
            self.ttft_seconds[request] = self.now - self._arrivals[request]
            steps = self._outputs[request] - 1
            if not steps:
                self.itl_seconds[request] = 0.0
                self._finish(engine, request)
                continue
            self._joined[request] = self.now
            heappush(engine.leaving, (engine.steps + steps, request))
            engine.n += 1
            engine.kv += self._inputs[request]
        self._admit(engine)
        self._go_on(engine)

    def _steps_done(self, engine: Engine, steps: int) -> None:
        """Give each running answer so many tokens, and let go those that are whole."""
        engine.steps += steps
        engine.kv += steps * engine.n
        leaving = engine.leaving
        while leaving and leaving[0][0] <= engine.steps:
            _, request = heappop(leaving)
            made = self._outputs[request] - 1
            self.itl_seconds[request] = (self.now - self._joined[request]) / made
            engine.n -= 1
            engine.kv -= self._inputs[request] + made
            self._finish(engine, request)

    def _finish(self, engine: Engine, request: int) -> None:
        engine.held -= 1
        engine.reserved -= self._inputs[request] + self._outputs[request]
        engine.assigned -= 1
