"""The parts of the simulated cluster: its settings, and workers of both roles as plain state."""

import math
from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from dopd.api.names import Role
from dopd.planning import Objectives
from dopd.replay.disturbances import NO_DISTURBANCES, Disturbances
from dopd.replay.prefill_queue import PrefillQueue
from dopd.replay.prefix_cache import PrefixCache
from dopd_scheduling import Settings as OrderSettings

FIRST_COME = "fcfs"
"""The order of engines that nobody told another one."""
ON_TIME_FIRST = "on-time-first"
"""The order that dopd ships."""


class Phase(IntEnum):
    """Where a worker stands."""

    PENDING = 0
    """No GPU to be had; costs nothing."""
    STARTING = 1
    SERVING = 2
    DRAINING = 3
    GONE = 4


class Routing(StrEnum):
    """How the gateway chooses a worker of a role (what stands for what of SMG: docs/replay.md)."""

    LEAST_REQUESTS = "least_requests"
    """The one with the fewest outstanding requests."""
    POWER_OF_TWO = "power_of_two"
    """The one with fewer outstanding requests of two drawn at random."""
    ROUND_ROBIN = "round_robin"
    CACHE_AWARE = "cache_aware"
    """Prefill: the worker to which the prefix went before (`dopd.replay.prefix_cache.PrefixIndex`); decode: the
    one with the fewest outstanding requests."""
    LEAST_WORK = "least_work"
    """Prefill: the worker that has the least to compute with the prompt, by tokens that are not cached of all its
    outstanding prompts; decode: the one with the fewest outstanding requests. SMG 1.13.0 has no such rule."""


class Dialect(StrEnum):
    """How the engines hand a prompt over; one is real, the other is another simulator's."""

    SGLANG = "sglang"
    """A prompt leaves when its pass ends; the first token needs no decode step."""
    DYNAMO = "dynamo"
    """NVIDIA Dynamo's simulator (1.4, engine type vllm): prompts leave when no prompt waits any more, a packed
    pass takes as long as one prompt of its total length, and the first token comes with the first decode step."""


@dataclass(frozen=True)
class Settings:
    """The cluster around the engines.

    Attributes:
        startup_seconds: from the decision to start a worker until it serves, by role.
        gpus: GPUs of one worker, by role.
        routing: how the gateway chooses.
        flip_seconds: from the last request of a worker to serving in the other role; used only by a policy that flips.
        unlisted_seconds: a worker that changes its role is switched no sooner after it began to drain, idle or not: the
            gateway has to forget it first (smg 1.13.0 took 6 s whatever the load).
        return_seconds: time until a draining worker that is wanted again serves; None if it can not come back.
        gpu_limit: GPUs that the cluster has.
        dialect: how the engines hand a prompt over.
        seed: of the gateway's draws.
        objectives: by which the cluster counts late requests, as histograms with an edge at the objective do.
        scrape_seconds: between two looks at the metrics of all workers.
        delay_seconds: how old the numbers are that a policy sees, all of them.
        gaps_seconds: (begin, end) of each stretch in which no metric can be had.
        counted_from_seconds: what comes before is served, and counts in no figure.
        order: of the prompts at prefill (`dopd_scheduling`).
        late_share: of that order.
        most_unfinished: prompts of which a prefill worker may have computed a part; first come, first served has one.
        disturbances: what goes otherwise than the profile says.
    """

    startup_seconds: dict[Role, float]
    gpus: dict[Role, int] = field(default_factory=lambda: {Role.PREFILL: 1, Role.DECODE: 1})
    routing: Routing = Routing.LEAST_REQUESTS
    flip_seconds: float = 5.0
    unlisted_seconds: float = 6.0
    return_seconds: float | None = None
    gpu_limit: float = math.inf
    dialect: Dialect = Dialect.SGLANG
    seed: int = 1
    objectives: Objectives = field(default_factory=Objectives)
    scrape_seconds: float = 5.0
    delay_seconds: float = 5.0
    gaps_seconds: tuple[tuple[float, float], ...] = ()
    counted_from_seconds: float = 0.0
    order: str = FIRST_COME
    late_share: float = OrderSettings.late_share
    most_unfinished: int = 3
    disturbances: Disturbances = NO_DISTURBANCES


class Worker:
    """One worker of either role.

    Attributes:
        becomes: the worker of the other role that begins once this one has drained; None if it ends.
        was: the worker that this one was, until that has drained.
        slowness: factor on the time of all that it does.
        draining_since: when it began to drain, seconds; NaN of one that does not.
    """

    __slots__ = ("assigned", "becomes", "draining_since", "epoch", "phase", "role", "slowness", "was")

    def __init__(self, role: Role) -> None:
        self.role = role
        self.phase = Phase.STARTING
        self.assigned = 0
        self.epoch = 0
        self.becomes: Worker | None = None
        self.was: Worker | None = None
        self.slowness = 1.0
        self.draining_since = math.nan


class PrefillWorker(Worker):
    """A queue of prompts and the forward pass that runs.

    Attributes:
        assigned_tokens: of its outstanding prompts, those that were not cached when the prompt came.
        queue: prompts that wait, and those of which a part is computed.
        batch: prompts that the pass completes.
        cache: prefixes that it holds; empty in a new worker.
    """

    __slots__ = ("assigned_tokens", "batch", "busy", "cache", "queue")

    def __init__(self, queue: PrefillQueue, cache: PrefixCache) -> None:
        super().__init__(Role.PREFILL)
        self.assigned_tokens = 0
        self.cache = cache
        self.queue = queue
        self.batch: list[int] = []
        self.busy = False

    @property
    def waiting_tokens(self) -> int:
        """Tokens of the queue that are yet to be computed."""
        return self.queue.waiting_tokens


class DecodeWorker(Worker):
    """Requests that run, ordered by the step at which they leave."""

    __slots__ = ("due", "kv", "last", "leaving", "n", "reserved", "step_seconds", "steps", "waiting")

    def __init__(self) -> None:
        super().__init__(Role.DECODE)
        self.leaving: list[tuple[float, int]] = []
        self.waiting: deque[int] = deque()
        self.n = 0
        self.kv = 0.0
        self.reserved = 0
        self.steps = 0.0
        self.last = 0.0
        self.step_seconds = 0.0
        self.due = math.inf
