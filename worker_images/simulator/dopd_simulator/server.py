"""One server process: start, health, role switch, and the way it stops, as SGLang does these.

Stopping is the part that surprises people (tokenizer_manager.sigterm_watchdog): on SIGTERM /health and /ready fail at
once, while requests that still arrive are served, and the process leaves only when a look every five seconds finds it
empty. There is no upper bound, so the grace period of the pod must be longer than the longest generation.
"""

import asyncio
import contextlib
import enum
import logging
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass

from dopd.api.profile import EngineProfileSpec
from dopd.perf import EngineModel
from dopd_simulator.engine import Engine
from dopd_simulator.metrics import GRAPH_PHASES
from dopd_simulator.options import Options
from dopd_simulator.request import FAKE_BOOTSTRAP_HOST, HEALTH_CHECK_PREFIX, Rendezvous, Request, Stage

log = logging.getLogger(__name__)

HEALTH_POLL_SECONDS = 1.0
"""A health check takes at least this long, even of an idle engine: probes with a time-out of one second fail."""

SWITCHABLE_BACKENDS = ("mooncake", "mooncake_tcp", "mori")


class Status(enum.Enum):
    """SGLang's ServerStatus."""

    STARTING = "Starting"
    UP = "Up"
    UNHEALTHY = "UnHealthy"


@dataclass(frozen=True)
class RoleSwitch:
    """Outcome of /pd_role_switch. `safe_to_restore`: the engine still serves in its old role."""

    success: bool
    message: str
    old_role: str
    new_role: str
    safe_to_restore: bool = False

    def as_json(self) -> dict[str, object]:
        """The answer's body."""
        return {"rid": None, "http_worker_ipc": None, **asdict(self)}


class Server:
    """An engine and what its process knows about itself.

    Attributes:
        status: Starting until the first health check passed.
        draining: SIGTERM has come.
        died: an id outside the vocabulary has ended it.
        recorded_role: the role that /model_info tells; follows switches.
        startup_time: phases of the start, wall seconds.
    """

    def __init__(self, options: Options, profile: EngineProfileSpec) -> None:
        self.options = options
        self.gpu = profile.gpu
        self.engine = Engine(options, EngineModel.from_profile(profile))
        self.status = Status.STARTING
        self.draining = asyncio.Event()
        self.died = asyncio.Event()
        self.recorded_role = options.disaggregation_mode
        self.startup_time: dict[str, object] = {}
        self._cpu_seconds = 0.0

    @property
    def healthy(self) -> bool:
        """Up and not stopping."""
        return self.status is Status.UP and not self.draining.is_set()

    @property
    def ready(self) -> bool:
        """Healthy and not paused."""
        return self.healthy and not self.engine.paused

    async def start(self) -> None:
        """Spend the start-up time, then start the engine. Nothing listens before, as with SGLang.

        Raises:
            OSError: the bootstrap port is taken.
        """
        engine, options = self.engine, self.options
        seconds = options.sim_startup_seconds
        if seconds is None:
            role = "prefill" if options.disaggregation_mode == "prefill" else "decode"
            seconds = engine.model.startup_seconds[role]
        began = time.monotonic()
        await engine.clock.sleep(seconds)
        await engine.start()
        took = time.monotonic() - began
        phases = {"load_weight": 0.6, "kv_cache_allocation": 0.1, "scheduler_e2e": 1.0, "tokenizer_e2e": 1.0}
        graphs = dict.fromkeys(GRAPH_PHASES, 0.0) | ({"decode": 0.2 * took} if engine.graphs_captured else {})
        seconds_of = {phase: share * took for phase, share in phases.items()}
        self.startup_time = {**seconds_of, "cuda_graph": graphs}
        for phase, length in seconds_of.items():
            engine.metrics.requests.startup_seconds.set(length, phase)
        for phase, length in graphs.items():
            engine.metrics.requests.startup_graph_seconds.set(length, phase)

    async def warm_up(self) -> None:
        """Serve one request of its own; only then is the server up."""
        await self._probe()
        self.status = Status.UP

    async def die(self) -> None:
        """End for good, as a real engine whose forward pass has failed: nothing is answered any more."""
        log.error("Scheduler hit an exception: index out of range in self")
        self.status = Status.UNHEALTHY
        self.died.set()
        await asyncio.get_running_loop().create_future()

    def check_new(self, request: Request) -> Request:
        """Refuse a request whose id is in use.

        Raises:
            ValueError: it is.
        """
        if request.rid in self.engine.requests:
            raise ValueError(f"Duplicate request ID detected: {request.rid}")
        return request

    @contextlib.asynccontextmanager
    async def admitted(self, request: Request) -> AsyncIterator[None]:
        """Run a request for as long as its HTTP handler lives: a client that leaves aborts it."""
        request.created = self.engine.clock.now()
        try:
            await self.engine.submit(request)
            yield
        finally:
            if request.finish is None:
                self.engine.metrics.requests.aborted.inc()
                self.engine.abort(request)

    async def check_health(self) -> bool:
        """/health: any output since the question counts; an idle engine is given one token to generate.

        Sets the status: an engine that does not answer is unhealthy until a later check passes.
        """
        if self.draining.is_set() or self.status is Status.STARTING:
            return False
        asked = time.monotonic()
        probe = asyncio.create_task(self._probe())
        clock = self.engine.clock
        deadline = clock.now() + self.options.timeouts.health_seconds
        try:
            while clock.now() < deadline:
                await clock.sleep(HEALTH_POLL_SECONDS)
                if self.engine.last_output > asked:
                    self.status = Status.UP
                    return True
        finally:
            probe.cancel()
            await asyncio.gather(probe, return_exceptions=True)
        log.error("Health check failed: no output for %s seconds", self.options.timeouts.health_seconds)
        self.status = Status.UNHEALTHY
        return False

    async def _probe(self) -> None:
        if self.engine.scheduler.running or self.engine.scheduler.waiting:
            return  # its output tells as much
        fake = Rendezvous(FAKE_BOOTSTRAP_HOST, 0, 0) if self.engine.role != "null" else None
        rid = f"{HEALTH_CHECK_PREFIX}_{uuid.uuid4().hex}"
        request = Request(rid, prompt_tokens=1, max_new_tokens=1, length=1, rendezvous=fake, log_metrics=False)
        try:
            await self.engine.submit(request)
            await request.done()
        finally:
            self.engine.abort(request)

    def abort(self, rid: str, *, everything: bool) -> None:
        """/abort_request: a request and all whose ids begin with its id (as SGLang compares them), or all.

        What waits for the end of a pause is not with the scheduler yet, which the abort goes to: it is lost.
        """
        requests = self.engine.requests
        if everything:
            chosen = [request for request in requests.values() if not request.is_health_check]
        else:
            chosen = [each for name, each in requests.items() if name.startswith(rid)] if rid in requests else []
        if not chosen and not everything:
            return
        self.engine.metrics.requests.aborted.inc()
        for request in chosen:
            if request.stage is not Stage.ARRIVED:
                self.engine.abort(request)

    async def switch_role(self, new_role: str, *, graph_memory_gb: float | None, prepare_only: bool) -> RoleSwitch:
        """/pd_role_switch, with SGLang's refusals (disaggregation/role_switch.py)."""
        engine = self.engine
        old_role = engine.role
        refusal = self._refusal(new_role, graph_memory_gb)
        if refusal is not None:
            message, safe = refusal
            log.warning("PD role switch rejected (%s -> %s): %s", old_role, new_role, message)
            return RoleSwitch(False, message, old_role, new_role, safe_to_restore=safe)
        if prepare_only or new_role == old_role:
            message = "ready" if prepare_only else "ok"
            return RoleSwitch(True, message, old_role, new_role, safe_to_restore=new_role != old_role)
        await engine.switch_role(new_role)
        self.recorded_role = new_role
        log.info("PD role switch succeeded: %s -> %s", old_role, new_role)
        return RoleSwitch(True, "ok", old_role, new_role)

    def _refusal(self, new_role: str, graph_memory_gb: float | None) -> tuple[str, bool] | None:
        engine, options = self.engine, self.options
        backend = options.disaggregation_transfer_backend
        if not options.enable_pd_role_switch:
            return "--enable-pd-role-switch is not set on this server", True
        if engine.flipping:
            return "another role switch is already in progress", False
        if new_role not in ("prefill", "decode"):
            return f"invalid new_role={new_role!r}", True
        if engine.role == "null":
            return "instance is not running in PD disaggregation mode", True
        if backend not in SWITCHABLE_BACKENDS:
            return f"transfer backend {backend!r} does not support runtime role switch", True
        if new_role == engine.role:
            return None
        if not engine.idle:
            return "instance is not idle; drain all requests before switching", True
        if new_role == "decode" and not engine.graph_batches:
            available = options.sim_free_memory_gb
            if graph_memory_gb is None:
                return "decode_cuda_graph_memory_gb is required before capturing decode graphs", True
            if graph_memory_gb < 0:
                return "decode_cuda_graph_memory_gb must be non-negative", True
            if graph_memory_gb > available:
                needed = f"required={graph_memory_gb:.3f} GB, available={available:.3f} GB"
                return f"insufficient decode CUDA graph headroom: {needed}", True
        return None

    def count_cpu(self) -> None:
        """Bring the CPU counter up to date."""
        used = time.process_time()
        self.engine.metrics.http.cpu_seconds.inc(used - self._cpu_seconds, "tokenizer")
        self._cpu_seconds = used

    async def drained(self) -> None:
        """Wait for SIGTERM, then until a look finds no request left."""
        clock, poll = self.engine.clock, self.options.sim_sigterm_poll_seconds
        await self.draining.wait()
        # The watchdog sleeps when the signal comes and looks again at the end of its period.
        await clock.sleep(poll - clock.now() % poll if poll > 0 else 0)
        while self.engine.requests:
            if self.status is Status.UNHEALTHY or self.options.force_shutdown:
                log.error("SIGTERM while unhealthy or forced: leaving with %d requests", len(self.engine.requests))
                return
            log.info("Gracefully exiting... Remaining number of requests %d.", len(self.engine.requests))
            await clock.sleep(poll)
        await clock.sleep(self.options.sim_exit_seconds)
