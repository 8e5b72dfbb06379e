"""How a request gets to the point where it can run, and out again: by role, with the hand-over of the KV cache.

Prefill waits for decode to announce a destination, computes, sends. Decode finds the prefill engine, reserves KV
cache, announces it, and runs once the bytes have come. Failures on the way become HTTP 500 with SGLang's texts.
"""

import asyncio
import logging
import random
from typing import TYPE_CHECKING

from dopd_sglang.prefill_order.refusal import MESSAGE, STATUS, TELL_DECODE_AFTER_SECONDS
from dopd_simulator.decode_transfer import DecodeTransfer
from dopd_simulator.prefill_transfer import PrefillTransfer
from dopd_simulator.request import Finish, Rendezvous, Request, Stage
from dopd_simulator.transfer import TransferError

if TYPE_CHECKING:
    from dopd_simulator.engine import Engine

log = logging.getLogger(__name__)


class Intake:
    """Brings requests of one engine in and out.

    Attributes:
        releasing: failed decode requests whose KV cache prefill may still write.
    """

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._sender: PrefillTransfer | None = None
        self._receiver: DecodeTransfer | None = None
        self._rooms: dict[int, Request] = {}
        self.releasing: dict[Request, asyncio.Task[None]] = {}
        self._refused: dict[Request, asyncio.Task[None]] = {}

    async def open_role(self) -> None:
        """Set up what the current role needs for transfers."""
        engine = self._engine
        timeouts = engine.options.timeouts
        if engine.role == "prefill":
            assert engine.bootstrap is not None  # started before, for every prefill engine
            self._sender = PrefillTransfer(engine.clock, timeouts, self._given_up)
            engine.bootstrap.rank = await self._sender.start(engine.options.host, engine.options.advertised_host)
        elif engine.role == "decode":
            stale = engine.options.sim_stale_rank_cache
            self._receiver = DecodeTransfer(engine.clock, timeouts, stale_rank_cache=stale)
            await self._receiver.start()

    async def close_role(self) -> None:
        """Tear down what the current role had; what peers remember of it stays wrong."""
        tasks = [*self.releasing.values(), *self._refused.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._sender is not None:
            await self._sender.stop()
        if self._receiver is not None:
            await self._receiver.stop()
        self._sender = self._receiver = None

    def accept(self, request: Request) -> None:
        """Start a request on its way."""
        engine = self._engine
        if engine.role == "null":
            engine.books.stage("request_process", 0.0)
            engine.queue(request)
        elif request.rendezvous is None and engine.options.disaggregation_transfer_backend != "fake":
            message = (
                f"Invalid request: Disaggregated request received without bootstrap room id. req.rid='{request.rid}'"
            )
            engine.finish(request, Finish("abort", message=message, status=400))
        elif engine.role == "prefill":
            request.task = asyncio.create_task(self._prefill(request))
        else:
            request.task = asyncio.create_task(self._decode(request))

    def _given_up(self, room: int) -> None:
        request = self._rooms.get(room)
        if request is not None:
            self._engine.abort(request)

    def aborted(self, request: Request) -> Finish:
        """How a request ends that is aborted now."""
        failures = {
            Stage.BOOTSTRAP: "Prefill bootstrap",
            Stage.INFLIGHT: "Prefill transfer",
            Stage.PREALLOC: "Decode handshake",
            Stage.TRANSFER: "Decode transfer",
        }
        if request.stage not in failures or request.rendezvous is None:
            return Finish("abort", message="Aborted")
        error = TransferError(request.rendezvous.room, "Aborted by AbortReq.")
        return Finish("abort", message=_failure(failures[request.stage], request, error), status=500)

    def refuse(self, request: Request) -> None:
        """End a waiting request early; decode is told a moment later than the client (the plugin's refusal.py)."""
        if request.task is not None and request.rendezvous is not None and not request.rendezvous.fake:
            self._refused[request] = request.task
            request.task.cancel()
        self._engine.finish(request, Finish("abort", message=MESSAGE, status=STATUS))

    async def _prefill(self, request: Request) -> None:
        engine, meeting = self._engine, request.rendezvous
        request.enter(Stage.BOOTSTRAP, engine.clock.now())
        if meeting is None or meeting.fake:
            engine.queue(request)
            await request.prefilled.wait()
            engine.finish(request, Finish("length", length=0))
            return
        sender = self._sender
        assert sender is not None  # opened with the role
        self._rooms[meeting.room] = request
        step = "Prefill bootstrap"
        try:
            await sender.destination(meeting.room)
            engine.books.stage("prefill_bootstrap", engine.clock.now() - request.times[Stage.BOOTSTRAP])
            engine.queue(request)
            await request.prefilled.wait()
            step = "Prefill transfer"
            await engine.clock.sleep(engine.model.transfer_seconds(request.prompt_tokens))
            if random.random() < engine.options.sim_transfer_failure_probability:
                raise TransferError(meeting.room, "Failed due to an unknown reason from another rank")
            size = request.prompt_tokens * engine.options.sim_kv_bytes_per_token
            await sender.send(meeting.room, size)
            engine.books.transfer(request, size, engine.clock.now())
            engine.finish(request, Finish("length", length=0))
        except TransferError as error:
            counters = engine.metrics.scheduler
            (counters.transfer_failed if request.prefilled.is_set() else counters.bootstrap_failed).inc()
            message = _failure(step, request, error)
            log.warning(message)
            sender.fail(meeting.room, message)
            engine.finish(request, Finish("abort", message=message, status=500))
        except asyncio.CancelledError:
            if request not in self._refused:
                sender.fail(meeting.room, "Aborted by AbortReq.")
                raise
            await engine.clock.sleep(TELL_DECODE_AFTER_SECONDS)
            sender.fail(meeting.room, MESSAGE)
        finally:
            self._refused.pop(request, None)
            sender.close(meeting.room)
            self._rooms.pop(meeting.room, None)

    async def _decode(self, request: Request) -> None:
        engine, meeting = self._engine, request.rendezvous
        request.enter(Stage.PREALLOC, engine.clock.now())
        engine.books.stage("decode_prepare", 0.0)
        engine.scheduler.prealloc.append(request)
        if meeting is None or meeting.fake or engine.options.disaggregation_transfer_backend == "fake":
            await self._reserve(request)
            self._arrived(request)
            return
        receiver = self._receiver
        assert receiver is not None  # opened with the role
        counters = engine.metrics.scheduler
        arrived = engine.clock.now()
        try:
            await receiver.handshake(meeting)
        except TransferError as error:
            counters.bootstrap_failed.inc()
            self._fail_decode(request, "Decode handshake", error)
            return
        try:
            found = engine.clock.now()
            await self._reserve(request)
            engine.books.rendezvous(found - arrived, engine.clock.now() - found)
            await receiver.receive(meeting, request.prompt_tokens)
            receiver.close(meeting)
            self._arrived(request)
        except TransferError as error:
            counters.transfer_failed.inc()
            self._fail_decode(request, "Decode transfer", error)

    async def _reserve(self, request: Request) -> None:
        request.handshaken = True
        self._engine.alarm.ring()
        await request.allocated.wait()

    def _arrived(self, request: Request) -> None:
        engine = self._engine
        engine.books.stage("decode_transferred", engine.clock.now() - request.times[Stage.TRANSFER])
        request.output_tokens = min(1, request.length)
        request.enter(Stage.WAITING, engine.clock.now())
        engine.scheduler.transferred(request)
        engine.alarm.ring()

    def _fail_decode(self, request: Request, step: str, error: TransferError) -> None:
        message = _failure(step, request, error)
        log.error(message)
        self._engine.finish(request, Finish("abort", message=message, status=500))

    def leave(self, request: Request) -> None:
        """A request ends: if it ends before its KV cache has come, tell prefill.

        Where prefill may already be writing, the KV cache is kept until it confirms the abort (deferred release).
        """
        receiver, meeting = self._receiver, request.rendezvous
        if receiver is None or meeting is None or meeting.fake:
            return
        if request.stage not in (Stage.PREALLOC, Stage.TRANSFER):
            return
        receiver.notify_abort(meeting)
        if request.stage is Stage.PREALLOC:
            receiver.close(meeting)
            return
        held, request.kv_tokens = request.kv_tokens, 0
        self.releasing[request] = asyncio.create_task(self._release(request, receiver, meeting, held))

    async def _release(self, request: Request, receiver: DecodeTransfer, meeting: Rendezvous, held: int) -> None:
        try:
            await receiver.drained(meeting)
        finally:
            receiver.close(meeting)
            self._engine.scheduler.kv_used -= held
            del self.releasing[request]
            self._engine.alarm.ring()


def _failure(step: str, request: Request, error: TransferError) -> str:
    """The text that a client gets when a hand-over fails, as SGLang words it."""
    assert request.rendezvous is not None  # only such requests are handed over
    prefix = "decode_req.req" if step.startswith("Decode") else "req"
    return (
        f"{step} failed for request rank=0 {prefix}.rid='{request.rid}' "
        f"{prefix}.bootstrap_room={request.rendezvous.room} with exception {error}"
    )
