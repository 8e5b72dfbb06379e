"""One simulated engine: takes requests in, lets the scheduler decide, and spends the time that the profile says.

Token times are computed, not waited for one by one: a decode pass covers all steps until somebody must hear of it.
A late wake-up catches up in engine time without drift, so the scheduler need not wake more than once in
`--sim-tick-seconds`.
"""

import asyncio
import logging
import math
import time

from dopd.perf import EngineModel
from dopd_simulator.bootstrap import BootstrapServer
from dopd_simulator.clock import Alarm, Clock
from dopd_simulator.intake import Intake
from dopd_simulator.metrics import Metrics
from dopd_simulator.options import Options
from dopd_simulator.ordering import Ordering
from dopd_simulator.report import Reporter
from dopd_simulator.request import Finish, Request, Stage
from dopd_simulator.scheduler import DecodePass, Limits, PrefillPass, Scheduler
from dopd_simulator.stages import Bookkeeper

log = logging.getLogger(__name__)

GRAPH_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
GRAPH_MEMORY_GB = 1.0


class Engine:
    """The part of an engine behind its HTTP surface.

    Attributes:
        role: null, prefill or decode; what the engine does now.
        requests: all that are in the engine, by id.
        paused: generation is paused; new requests wait outside.
        graphs_captured: decode graphs exist (kept over role switches).
        last_output: wall time (monotonic) of the last output, for health checks.
        in_pass: a forward pass runs.
    """

    def __init__(self, options: Options, model: EngineModel) -> None:
        self.options = options
        self.model = model
        self.clock = Clock(options.sim_speedup)
        self.metrics = Metrics(options)
        self.scheduler = Scheduler(model, limits(options, model), options.disaggregation_mode)
        self.ordering = Ordering(options, model, self.clock, self.metrics.families)
        self.books = Bookkeeper(self.metrics, self.clock)
        self.report = Reporter(self)
        self.requests: dict[str, Request] = {}
        self.paused = False
        self.flipping = False
        self._open = asyncio.Event()
        self._open.set()
        self.graphs_captured = options.disaggregation_mode != "prefill" and not options.disable_cuda_graph
        self.last_output = -math.inf
        self.in_pass = False
        self.alarm = Alarm()
        self.intake = Intake(self)
        self.bootstrap: BootstrapServer | None = None
        self._loop_task: asyncio.Task[None] | None = None

    @property
    def graph_batches(self) -> tuple[int, ...]:
        """Batch sizes for which decode graphs are captured."""
        largest = self.scheduler.limits.max_running_requests
        return tuple(batch for batch in GRAPH_BATCHES if batch <= largest) if self.graphs_captured else ()

    @property
    def graph_memory_gb(self) -> float:
        """Memory of captured decode graphs."""
        return GRAPH_MEMORY_GB if self.graphs_captured else 0.0

    @property
    def role(self) -> str:
        """null, prefill or decode."""
        return self.scheduler.role

    async def start(self) -> None:
        """Open the bootstrap server and the transfer ports, and begin to run passes.

        Raises:
            OSError: the bootstrap port is taken.
        """
        options = self.options
        if self.role == "prefill" or (options.enable_pd_role_switch and self.role != "null"):
            self.bootstrap = BootstrapServer(
                options.host, options.disaggregation_bootstrap_port, http_port=options.port, page_size=options.page_size
            )
            await self.bootstrap.start()
        await self.intake.open_role()
        self.report.constants()
        self._loop_task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End all work at once."""
        if self._loop_task is not None:
            self._loop_task.cancel()
            await asyncio.gather(self._loop_task, return_exceptions=True)
        for request in list(self.requests.values()):
            self.abort(request)
        await self.intake.close_role()
        if self.bootstrap is not None:
            await self.bootstrap.stop()

    async def submit(self, request: Request) -> None:
        """Take a request in; waits while generation is paused or the role is being switched."""
        self.requests[request.rid] = request
        try:
            await self._open.wait()
        except asyncio.CancelledError:
            self.requests.pop(request.rid, None)
            raise
        if request.finish is None:
            self.intake.accept(request)

    def abort(self, request: Request) -> None:
        """End a request wherever it is. In the middle of a hand-over that is an error, as SGLang reports it."""
        if request.finish is not None:
            return
        if request.task is not None:
            request.task.cancel()
        self.finish(request, self.intake.aborted(request))

    def finish(self, request: Request, finish: Finish) -> None:
        """Set the outcome of a request, free what it holds, and tell its client."""
        request.finish = finish
        self.intake.leave(request)
        self.scheduler.remove(request)
        self.emit(request, self.clock.now())
        self.alarm.ring()

    def emit(self, request: Request, now: float) -> None:
        """Hand the new tokens of a request, or its end, to its client."""
        self.last_output = time.monotonic()
        self.books.emission(request, request.emit(), self.role, now)
        if request.finish is not None:
            request.enter(Stage.FINISHED, now)
            self.requests.pop(request.rid, None)

    def queue(self, request: Request) -> None:
        """Put a request into the waiting queue."""
        self.scheduler.waiting.append(request)
        request.enter(Stage.WAITING, self.clock.now())
        self.alarm.ring()

    def count(self, stage: Stage) -> int:
        """Requests in one stage."""
        return sum(1 for request in self.requests.values() if request.stage is stage)

    @property
    def idle(self) -> bool:
        """Whether nothing at all is left to do (Scheduler.is_fully_idle); requests held back outside do not count."""
        return not self.intake.releasing and self.count(Stage.ARRIVED) == len(self.requests)

    def pause(self, mode: str) -> None:
        """Stop running passes; `abort` ends what is there, `retract` puts the batch back, `in_place` leaves it."""
        self.paused = True
        self._open.clear()
        if mode == "abort":
            for request in list(self.requests.values()):
                self.abort(request)
        elif mode == "retract":
            for request in list(self.scheduler.running):
                self.scheduler.remove(request)
                self._requeue(request)
        self.alarm.ring()

    def resume(self) -> None:
        """Run passes again."""
        self.paused = False
        self._gate()
        self.alarm.ring()

    async def switch_role(self, new_role: str) -> None:
        """Become prefill or decode. The engine must be idle; requests that arrive meanwhile wait."""
        self.flipping = True
        self._open.clear()
        try:
            await self.intake.close_role()
            await self.clock.sleep(self.model.flip_seconds)
            self.scheduler.role = new_role
            await self.intake.open_role()
            if new_role == "decode" and not self.options.disable_cuda_graph:
                self.graphs_captured = True
                self.report.graph_memory()
        finally:
            self.flipping = False
            self._gate()

    def _gate(self) -> None:
        if not self.paused and not self.flipping:
            self._open.set()

    # The forward loop

    async def _run(self) -> None:
        start = self.clock.now()
        while True:
            self._prepare(start)
            self.scheduler.order = self.ordering.refresh()
            self._refuse_late(start)
            self.scheduler.most_steps = self.report.steps_to_snapshot
            planned = None if self.paused else self.scheduler.plan(start)
            if planned is None:
                self.in_pass = False
                self.report.idle()
                idle_since = self.clock.now()
                await self.alarm.wait(self.clock.wall(self.report.next_idle_report()))
                start = self.clock.now()
                idle_seconds = self.clock.wall(start - idle_since)
                self.metrics.scheduler.idle_seconds.inc(idle_seconds)
                self.metrics.scheduler.category_seconds.inc(idle_seconds, "idle", "none")
                continue
            self.in_pass = True
            self._enter(planned, start)
            steps = await self._spend(planned, start)
            if isinstance(planned, PrefillPass):
                start += planned.seconds
                self._book_prefill(planned, start)
            else:
                self._book_decode(planned, steps, start)
                start += planned.step_seconds * steps

    def _refuse_late(self, now: float) -> None:
        """End what can not be on time, as dopd's plugin does before it plans a pass."""
        scheduler = self.scheduler
        if self.paused or scheduler.role == "decode":
            return
        for request in self.ordering.hopeless(now, scheduler.waiting, len(scheduler.unfinished)):
            self.intake.refuse(request)
            self.ordering.refused()

    def _prepare(self, now: float) -> None:
        """Bring queues and batch up to date between two passes."""
        scheduler = self.scheduler
        if self.paused:
            return
        if scheduler.role == "decode":
            for request in scheduler.preallocate():
                request.enter(Stage.TRANSFER, now)
                self.books.stage("decode_bootstrap", now - request.times[Stage.PREALLOC])
                request.allocated.set()
            for request in scheduler.join():
                self._join(request, now)
        if scheduler.running:
            retracted, aborted = scheduler.make_room()
            for request in retracted:
                self._requeue(request)
                self.report.retracted(request)
            for request in aborted:
                self.emit(request, now)

    def _join(self, request: Request, now: float) -> None:
        resumed = request.stage is Stage.RETRACTED
        if not resumed:
            self.books.first_pass(request, self.role, now)
        request.enter(Stage.RUNNING, now)
        if resumed:
            return
        self.books.stage("fake_output", 0.0)
        self._first_token(request, now)

    def _first_token(self, request: Request, now: float) -> None:
        if request.output_tokens >= request.length:
            self.scheduler.end(request)
        if request.emission_due():
            self.emit(request, now)

    def _requeue(self, request: Request) -> None:
        self.scheduler.requeue(request)
        request.enter(Stage.RETRACTED if self.role == "decode" else Stage.WAITING, self.clock.now())

    def _enter(self, planned: PrefillPass | DecodePass, now: float) -> None:
        if isinstance(planned, PrefillPass):
            beginning = [request for request, _ in planned.pieces if request.stage is Stage.WAITING]
            self.ordering.began(beginning, self.scheduler.waiting, now)
            for request in beginning:
                if request.retractions == 0:
                    self.books.first_pass(request, self.role, now)
                request.enter(Stage.PREFILLING, now)
            self.report.prefill_started(planned)

    async def _spend(self, planned: PrefillPass | DecodePass, start: float) -> int:
        """Let the time of a pass go by; return how many steps it had. New work cuts a decode pass at the next step."""
        steps = planned.steps if isinstance(planned, DecodePass) else 1
        end = start + planned.seconds
        if end <= self.clock.now():
            await asyncio.sleep(0)
            return steps
        tick = self.options.sim_tick_seconds
        while (left := end - self.clock.now()) > 0:
            if not await self.alarm.wait(max(self.clock.wall(left), tick)) or isinstance(planned, PrefillPass):
                continue
            done = math.ceil((self.clock.now() - start) / planned.step_seconds)
            steps = max(1, min(steps, done))
            end = start + planned.step_seconds * steps
        return steps

    def _book_prefill(self, done: PrefillPass, now: float) -> None:
        self.report.publish()
        for request, _ in done.pieces:
            request.passes += 1
        for request in self.scheduler.complete_prefill(done):
            if request.passes > 1:
                self.books.stage("chunked_prefill", now - request.times[Stage.PREFILLING])
            self.books.stage("prefill_forward", now - request.times[Stage.PREFILLING])
            self.ordering.done(request, now, len(self.scheduler.unfinished))
            if self.role == "prefill":
                request.enter(Stage.INFLIGHT, now)
                request.prefilled.set()
                continue
            request.enter(Stage.RUNNING, now)
            self._first_token(request, now)
        self.report.prefill_done(done)

    def _book_decode(self, done: DecodePass, steps: int, start: float) -> None:
        end = start + done.step_seconds * steps
        self.report.decode_stepped(steps)
        ended = 0
        for request in self.scheduler.complete_decode(done, steps):
            ended += request.finish is not None
            if request.emission_due():
                self.emit(request, end)
        self.report.decode_done(done, steps, ended)


def limits(options: Options, model: EngineModel) -> Limits:
    """Sizes of the engine: the flags where given, else the profile."""
    running = options.max_running_requests or model.max_running_requests
    extra = options.disaggregation_decode_extra_slots
    if extra is None:
        extra = 2 * running if options.max_running_requests and running <= 32 else 0
    chunk = options.chunked_prefill_size
    return Limits(
        kv_tokens=options.max_total_tokens or model.kv_tokens,
        max_running_requests=running,
        transfer_slots=extra,
        chunk_tokens=model.chunk_tokens if chunk is None else (None if chunk == -1 else chunk),
        reserved_decode_tokens=options.num_reserved_decode_tokens,
        conservativeness=options.schedule_conservativeness,
        by_priority=options.enable_priority_scheduling,
        retract_by_priority=options.retraction_policy == "priority",
    )
