"""The workers of a simulated cluster: they start, serve, drain, come back, change their role, fail, and cost GPU time.

What they do with requests is the cluster's (`dopd.replay.cluster`), which this is a base of.
"""

import math
from collections import deque
from heapq import heappush
from statistics import quantiles

from dopd.api.names import Role
from dopd.replay.workers import DecodeWorker, Phase, PrefillWorker, Settings, Worker

READY, FAILED = "ready", "failed"
"""Events of workers, beside those of requests."""
NEWEST = 20
"""Drains that are remembered."""
_LIVE = (Phase.PENDING, Phase.STARTING, Phase.SERVING)


class Fleet:
    """Workers of both roles, over time.

    Attributes:
        now: simulated time, seconds.
        target: workers asked for, by role.
        gpu_seconds: GPU time so far, from the decision to start a worker until it has drained.
        worker_seconds: the same in workers, by role.
        changes: how often a target changed.
        failures: workers that failed.
        flips: workers that went on in the other role.
    """

    def __init__(self, settings: Settings, end_seconds: float) -> None:
        self.settings = settings
        self.now = 0.0
        self.target = {Role.PREFILL: 0, Role.DECODE: 0}
        self.workers: dict[Role, list[Worker]] = {Role.PREFILL: [], Role.DECODE: []}
        self.serving: dict[Role, list[Worker]] = {Role.PREFILL: [], Role.DECODE: []}
        self.gpu_seconds = 0.0
        self.worker_seconds = {Role.PREFILL: 0.0, Role.DECODE: 0.0}
        self.changes, self.failures, self.flips = 0, 0, 0
        self._drains: dict[Role, deque[float]] = {role: deque(maxlen=NEWEST) for role in Role}
        self._paid = {Role.PREFILL: 0, Role.DECODE: 0}
        self._charged_until, self._end_seconds = settings.counted_from_seconds, end_seconds
        self._heap: list[tuple[float, int, int | str, Worker | None, int]] = []
        self._sequence = 0
        self._draws = settings.disturbances.draws(settings.seed)

    def _begin(self, role: Role, number: int) -> None:
        """Workers that serve from the start."""
        self.target[role] = number
        for _ in range(number):
            worker = self._add(role)
            worker.phase = Phase.STARTING
            self._ready(worker, worker.epoch)

    def _push(self, at: float, kind: int | str, worker: Worker | None, epoch: int) -> None:
        self._sequence += 1
        heappush(self._heap, (at, self._sequence, kind, worker, epoch))

    @property
    def gpus_held(self) -> int:
        """GPUs of all workers that are paid for: from the decision to start one until it has drained."""
        return sum(self.settings.gpus[role] * number for role, number in self._paid.items())

    def _charge(self, until: float) -> None:
        """Count GPU time up to the end of the trace; what runs out after it is the same for every policy."""
        until = min(until, self._end_seconds)
        seconds = until - self._charged_until
        if seconds > 0:
            for role, number in self._paid.items():
                self.worker_seconds[role] += number * seconds
            self.gpu_seconds += self.gpus_held * seconds
            self._charged_until = until

    # --- up and down --------------------------------------------------------------------------------------------

    def scale_to(self, role: Role, target: int) -> None:
        """Start, bring back, cancel or drain workers until as many serve or will."""
        if target != self.target[role]:
            self.changes += 1
            self.target[role] = target
        live = [w for w in self.workers[role] if w.phase in _LIVE]
        if target > len(live):
            self._grow(role, target - len(live))
        elif target < len(live):
            self._shrink(live, len(live) - target)

    def flip(self, role: Role, number: int) -> None:
        """Let workers of a role drain and go on in the other one.

        Those that drain already go first, since they serve nobody, then those with the least to finish; the role goes
        on serving with one at least.
        """
        other = role.other
        leaving = [w for w in self.workers[role] if w.phase is Phase.DRAINING and not w.becomes]
        spared = max(0, len(self.serving[role]) - 1)
        serving = sorted(self.serving[role], key=lambda w: w.assigned)[:spared]
        for worker in [*sorted(leaving, key=lambda w: w.assigned), *serving][: max(0, number)]:
            worker.becomes = self._new(other)
            worker.becomes.was = worker
            if worker.phase is Phase.SERVING:
                self.serving[role].remove(worker)
                self._drain(worker)

    def drain_seconds(self) -> dict[str, float]:
        """How long drains of each role took of late, P90; a role without any is absent."""
        return {role.value: _p90(list(seconds)) for role, seconds in self._drains.items() if seconds}

    def count(self, role: Role, *phases: Phase) -> int:
        """Workers of a role in any of the phases."""
        return sum(1 for worker in self.workers[role] if worker.phase in phases)

    def _new(self, role: Role) -> Worker:
        worker: Worker = self._new_prefill() if role is Role.PREFILL else DecodeWorker()
        worker.slowness = self._draws.slowness()
        self.workers[role].append(worker)
        return worker

    def _new_prefill(self) -> PrefillWorker:
        raise NotImplementedError

    def _add(self, role: Role) -> Worker:
        worker = self._new(role)
        self._charge(self.now)
        self._paid[role] += 1
        return worker

    def _grow(self, role: Role, number: int) -> None:
        settings = self.settings
        if settings.return_seconds is not None:
            draining = [w for w in self.workers[role] if w.phase is Phase.DRAINING and not w.becomes]
            for worker in draining[:number]:
                worker.phase, worker.draining_since = Phase.STARTING, math.nan
                worker.epoch += 1
                self._push(self.now + settings.return_seconds, READY, worker, worker.epoch)
                number -= 1
        for _ in range(number):
            worker = self._add(role)
            if self.gpus_held > settings.gpu_limit:
                self._paid[role] -= 1
                worker.phase = Phase.PENDING
            else:
                self._start(worker)

    def _start(self, worker: Worker) -> None:
        worker.phase = Phase.STARTING
        seconds = self.settings.startup_seconds[worker.role] * self._draws.startup_factor()
        self._push(self.now + seconds, READY, worker, worker.epoch)

    def _shrink(self, live: list[Worker], number: int) -> None:
        order = sorted(live, key=lambda w: (w.phase, w.assigned))
        for worker in order[:number]:
            worker.epoch += 1
            if worker.phase is Phase.SERVING:
                self.serving[worker.role].remove(worker)
                self._drain(worker)
            elif worker.phase is Phase.PENDING or worker.was:
                if worker.was:
                    worker.was.becomes = None
                worker.phase = Phase.GONE
                self.workers[worker.role].remove(worker)
            else:
                worker.phase = Phase.DRAINING
                self._release_if_idle(worker)

    def _drain(self, worker: Worker) -> None:
        worker.phase, worker.draining_since = Phase.DRAINING, self.now
        self._release_if_idle(worker)

    def _release_if_idle(self, worker: Worker) -> None:
        if worker.phase is Phase.DRAINING and not worker.assigned:
            self._release(worker)

    def _release(self, worker: Worker) -> None:
        worker.phase = Phase.GONE
        self._charge(self.now)
        self.workers[worker.role].remove(worker)
        self._paid[worker.role] -= 1
        if not math.isnan(worker.draining_since):
            unlisted = max(self.now, worker.draining_since + self.settings.unlisted_seconds)
            self._drains[worker.role].append(unlisted - worker.draining_since)
        if worker.becomes:  # its GPUs go on in the other role
            self.flips += 1
            worker.becomes.was = None
            self._paid[worker.becomes.role] += 1
            self._push(unlisted + self.settings.flip_seconds, READY, worker.becomes, worker.becomes.epoch)
            return
        for role in Role:
            for pending in [w for w in self.workers[role] if w.phase is Phase.PENDING]:
                if self.gpus_held + self.settings.gpus[role] <= self.settings.gpu_limit:
                    self._paid[role] += 1
                    self._start(pending)

    def _ready(self, worker: Worker, epoch: int) -> None:
        if worker.phase is not Phase.STARTING or worker.epoch != epoch:
            return
        worker.phase = Phase.SERVING
        self.serving[worker.role].append(worker)
        until_failure = self._draws.until_failure()
        if math.isfinite(until_failure):
            self._push(self.now + until_failure, FAILED, worker, worker.epoch)
        self._let_held_in()

    def _let_held_in(self) -> None:
        raise NotImplementedError

    # --- failures -----------------------------------------------------------------------------------------------

    def _fail(self, worker: Worker, epoch: int) -> None:
        """A worker is gone at once; a new one is started in its place if it is still wanted."""
        if worker.phase is not Phase.SERVING or worker.epoch != epoch:
            return
        self.failures += 1
        self.serving[worker.role].remove(worker)
        self._release(worker)
        live = self.count(worker.role, *_LIVE)
        if live < self.target[worker.role]:
            self._grow(worker.role, self.target[worker.role] - live)
        self._abandon(worker)

    def _abandon(self, worker: Worker) -> None:
        """Send again or give up what a failed worker had."""
        raise NotImplementedError


def _p90(measured: list[float]) -> float:
    return quantiles(measured, n=10, method="inclusive")[-1] if len(measured) > 1 else measured[0]
