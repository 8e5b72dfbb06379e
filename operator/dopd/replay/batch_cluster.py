"""A cluster that serves a batch beside the online requests: who is let in when, and what is counted of whom.

As dopd sets engines and gateway up (docs/batch.md): the gateway lets in a share of the request slots of all workers at
most, as SMG counts them, and what has no place waits there; a prefill worker computes batch prompts while no other
waits (`dopd_scheduling`); at decode they wait behind the others for a slot, and keep the slot that they have.
"""

from collections import deque
from itertools import takewhile

from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.replay.cluster import Cluster
from dopd.replay.trace import Trace
from dopd.replay.workers import DecodeWorker, Settings


class BatchCluster(Cluster):
    """Serves a trace of which `Trace.batch` tells which requests have no deadline.

    The counters of `Cluster` are those of the online requests, and it ends with the last of them.

    Args:
        model: the engines.
        trace: with `batch`.
        prefill: workers at the beginning.
        decode: workers at the beginning.
        settings: of the cluster.
        slot_share: of the request slots of all workers, how many the batch may hold at a time.

    Attributes:
        batch_finished: of the batch.
        batch_prompt_tokens: of those.
        batch_answer_tokens: of those.
    """

    def __init__(
        self, model: EngineModel, trace: Trace, prefill: int, decode: int, settings: Settings, slot_share: float
    ) -> None:
        assert trace.batch is not None
        self._batch: list[bool] = trace.batch.tolist()
        self._slot_share = slot_share
        self._at_the_gateway: deque[int] = deque()
        self._in_flight: set[int] = set()
        self.batch_finished, self.batch_prompt_tokens, self.batch_answer_tokens = 0, 0, 0
        super().__init__(model, trace, prefill, decode, settings)
        self._awaited = len(trace) - sum(self._batch)

    @property
    def batch_waits(self) -> bool:
        """Whether anything of the batch is at the gateway or in the engines."""
        return bool(self._at_the_gateway or self._in_flight)

    def _arrive(self, request: int) -> None:
        if self._batch[request] and request not in self._in_flight:
            if self._at_the_gateway or not self._has_place():
                self._at_the_gateway.append(request)
                return
            self._in_flight.add(request)
        super()._arrive(request)

    def _has_place(self) -> bool:
        slots = self.max_running * sum(len(self.serving[role]) for role in Role)
        taken = sum(worker.assigned for worker in self.serving[Role.DECODE])
        return taken < slots and len(self._in_flight) < int(self._slot_share * slots)

    def _let_in(self) -> None:
        while self._at_the_gateway and self._has_place():
            request = self._at_the_gateway.popleft()
            self._in_flight.add(request)
            super()._arrive(request)

    def _let_held_in(self) -> None:
        super()._let_held_in()
        self._let_in()

    def _hand_over(self, worker: DecodeWorker, request: int) -> None:
        waiting = worker.waiting
        if self._batch[request] or not waiting:
            super()._hand_over(worker, request)
        elif self._batch[waiting[0]] and self._fits(worker, request):
            self._admit(worker, request)
        else:
            online = sum(1 for _ in takewhile(lambda other: not self._batch[other], waiting))
            waiting.insert(online, request)

    def _first_token(self, request: int, ttft_seconds: float) -> None:
        if self._batch[request]:
            self.ttft_seconds[request] = ttft_seconds
        else:
            super()._first_token(request, ttft_seconds)

    def _answered(self, request: int, itl_seconds: float) -> None:
        if self._batch[request]:
            self.itl_seconds[request] = itl_seconds
        else:
            super()._answered(request, itl_seconds)

    def _finish(self, worker: DecodeWorker, request: int, output_tokens: int) -> None:
        if not self._batch[request]:
            super()._finish(worker, request, output_tokens)
        else:
            self._in_flight.discard(request)
            if self.now <= self._end_seconds:
                self.batch_finished += 1
                self.batch_prompt_tokens += self._inputs[request]
                self.batch_answer_tokens += output_tokens
            worker.assigned -= 1
            self._release_if_idle(worker)
        self._let_in()
