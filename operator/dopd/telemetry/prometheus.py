"""Asking Prometheus: one question to one server, and an answer that several may share.

A question has two outcomes here: series, or `QueryFailed` with the reason that a condition gives. What series mean is
read in `loads`.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from requests import RequestException

from dopd.api.conditions import ConditionReason
from dopd.cluster.backoff import Backoff
from dopd.cluster.fairness import FairGate
from dopd.telemetry.connection import Answer, Connector, NoAnswer, Prometheus

QUERIES_AT_ONCE = 4
"""To one server; to one that fails, or has not answered yet, one."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0
"""After a server failed twice in a row; its own `Retry-After` counts up to twice the longest."""
ROUND_SECONDS = 1.0
"""Queries that fail within this time of each other count as one failure."""
UNUSED_SECONDS = 120.0
"""What nobody asked for so long is given up: connections, and answers, which may be too old sooner."""

Found = TypeVar("Found")

_ASKER: ContextVar[Hashable] = ContextVar("asker", default=None)
"""On whose behalf a server is asked; of several, each has its turn."""


class QueryFailed(Exception):
    """The load can not be read.

    Attributes:
        reason: why, as the condition says it.
    """

    def __init__(self, reason: ConditionReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class _Failure:
    """Instead of the exception, whose traceback would hold a body for as long as it is shared."""

    words: str
    retry_after_seconds: float = 0.0
    overloaded: bool = False


@dataclass
class _Server:
    """One that is asked, or was a short time ago.

    Attributes:
        client: asks it.
        gate: limits the queries under way.
        probe: held by the only query to a server that is not known to be well.
        well: the last that was heard of it is an answer.
        asking: queries that wait or are under way.
        forgetting: gives it up once nobody has asked for a while.
        failed_seconds: when it failed last, monotonic.
        failure: what it failed with last.
    """

    client: Prometheus
    gate: FairGate = field(default_factory=lambda: FairGate(QUERIES_AT_ONCE, QUERIES_AT_ONCE))
    probe: asyncio.Lock = field(default_factory=asyncio.Lock)
    well: bool = False
    asking: int = 0
    forgetting: asyncio.TimerHandle | None = None
    failed_seconds: float = float("-inf")
    failure: str = ""


class Servers:
    """The servers that are asked, by URL; nothing is kept of one that nobody asks any more.

    Each has a few queries under way, in threads that end with them: one that a resource names and that never answers
    keeps no other waiting. One that fails is left alone for growing pauses, whoever asks, and then tried by one query.
    A query that would wait for a place is given up with its task; one that is under way keeps its place until it ends.

    Args:
        connect: makes a client for a URL.
        now: monotonic clock, seconds.
    """

    def __init__(
        self, connect: Callable[[str], Prometheus] | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._connect = connect or Connector()
        self._now = now
        self._servers: dict[str, _Server] = {}
        self._pauses = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, now, free_failures=1)

    async def instant(self, url: str, query: str, at_seconds: float) -> Answer:
        """Series at one time, seconds since the epoch.

        Raises:
            QueryFailed: no answer.
        """
        return await self.ask(url, query, lambda client: client.custom_query(query, params={"time": str(at_seconds)}))

    async def range(self, url: str, query: str, start: float, end: float, step_seconds: float) -> Answer:
        """Series over [start, end], seconds since the epoch.

        Raises:
            QueryFailed: no answer.
        """
        first, last = datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC)
        step = duration(step_seconds)
        return await self.ask(url, query, lambda client: client.custom_query_range(query, first, last, step))

    async def ask(self, url: str, query: str, call: Callable[[Prometheus], Found]) -> Found:
        """What a call of the client returns, made off the event loop.

        Raises:
            QueryFailed: no answer, or the server failed a moment ago.
        """
        try:
            server = self._server(url)
        except NoAnswer as error:
            raise _query_failed(url, query, str(error)) from None
        server.asking += 1
        asker = (_ASKER.get(), None)
        try:
            await server.gate.enter(asker)
        except BaseException:
            self._leave(url, server)
            raise
        under_way: asyncio.Future[Found | _Failure] | None = None
        try:
            async with server.probe if not server.well else contextlib.nullcontext():
                if self._pauses.seconds_left(url):
                    raise _query_failed(url, query, f"{server.failure}. It is left alone for a moment")
                under_way = self._begin(url, server, asker, call)
                # Whoever gives up waiting does not free the thread: the place is held until it ends.
                found = await asyncio.shield(under_way)
        finally:
            if under_way is None:
                server.gate.leave(asker)
                self._leave(url, server)
        if isinstance(found, _Failure):
            raise _query_failed(url, query, found.words)
        return found

    def _server(self, url: str) -> _Server:
        if url not in self._servers:
            self._servers[url] = _Server(self._connect(url))
        server = self._servers[url]
        if server.forgetting:
            server.forgetting.cancel()
            server.forgetting = None
        return server

    def _begin(
        self, url: str, server: _Server, asker: tuple[Hashable, None], call: Callable[[Prometheus], Found]
    ) -> "asyncio.Future[Found | _Failure]":
        began_seconds = self._now()

        def make() -> Found | _Failure:
            try:
                return call(server.client)
            except NoAnswer as error:
                return _Failure(str(error), error.retry_after_seconds, error.overloaded)
            except RequestException as error:
                return _Failure(str(error))

        def ended(done: "asyncio.Future[Found | _Failure]") -> None:
            server.gate.leave(asker)
            self._leave(url, server)
            if done.cancelled() or done.exception():
                return
            result = done.result()
            if isinstance(result, _Failure):
                server.well = False
                self._note_failure(url, server, began_seconds, result)
            elif began_seconds >= server.failed_seconds:
                server.well = True
                self._pauses.succeeded(url)

        future = _in_thread(make)
        future.add_done_callback(ended)
        return future

    def _note_failure(self, url: str, server: _Server, began_seconds: float, failure: _Failure) -> None:
        server.failure = failure.words
        if began_seconds < server.failed_seconds + ROUND_SECONDS and not failure.overloaded:
            return
        server.failed_seconds = self._now()
        asked_seconds = max(failure.retry_after_seconds, FIRST_PAUSE_SECONDS) if failure.overloaded else 0.0
        self._pauses.failed(url, asked_seconds)

    def _leave(self, url: str, server: _Server) -> None:
        server.asking -= 1
        if server.asking == 0:
            loop = asyncio.get_running_loop()
            server.forgetting = loop.call_later(UNUSED_SECONDS, self._forget, url)

    def _forget(self, url: str) -> None:
        if server := self._servers.pop(url, None):  # else a query outlived `close`
            server.client.close()

    def close(self) -> None:
        """Give all connections up."""
        for url, server in list(self._servers.items()):
            if server.forgetting:
                server.forgetting.cancel()
            self._forget(url)

    def __len__(self) -> int:
        return len(self._servers)


def _query_failed(url: str, query: str, words: str) -> QueryFailed:
    return QueryFailed(ConditionReason.QUERY_FAILED, f"{url} did not answer {query}: {words}")


def _in_thread(make: Callable[[], Found]) -> "asyncio.Future[Found]":
    """The result of a function that blocks. Its thread keeps neither others waiting nor the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Found] = loop.create_future()

    def settle(result: Found | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def run() -> None:
        result: Found | None = None
        failure: BaseException | None = None
        try:
            result = make()
        except Exception as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, failure)

    # With the context of who asks: the thread knows on whose behalf it takes room.
    threading.Thread(target=copy_context().run, args=(run,), name="prometheus", daemon=True).start()
    return future


@dataclass
class _Shared:
    asked_seconds: float
    task: "asyncio.Task[Any]"
    forgetting: asyncio.TimerHandle | None = None


class SharedAnswers:
    """Answers by question, so that resources that ask the same within a short time cause one round of queries."""

    def __init__(self) -> None:
        self._shared: dict[Hashable, _Shared] = {}

    async def get(
        self,
        question: Hashable,
        now_seconds: float,
        ask: Callable[[], Awaitable[Found]],
        *,
        fresh_seconds: float,
        failure_seconds: float,
    ) -> Found:
        """The answer to a question that was asked a short time ago, else a new one.

        Args:
            question: names it.
            now_seconds: seconds since the epoch.
            ask: gets a new answer.
            fresh_seconds: an answer may be this old.
            failure_seconds: a failure may be this old.
        """
        shared = self._shared.get(question)
        allowed = failure_seconds if shared and _failed(shared.task) else fresh_seconds
        if shared is None or not 0 <= now_seconds - shared.asked_seconds <= allowed:
            self._forget(question)
            shared = self._shared[question] = _Shared(now_seconds, asyncio.ensure_future(on_behalf_of(question, ask)))
        if shared.forgetting:
            shared.forgetting.cancel()
        kept_seconds = min(UNUSED_SECONDS, max(fresh_seconds, failure_seconds))  # an old one helps nobody, and is large
        shared.forgetting = asyncio.get_running_loop().call_later(kept_seconds, self._forget, question)
        # Whoever gives up waiting does not take the answer from the others.
        found: Found = await asyncio.shield(shared.task)
        return found

    def _forget(self, question: Hashable) -> None:
        shared = self._shared.pop(question, None)
        if shared and shared.forgetting:
            shared.forgetting.cancel()

    def __len__(self) -> int:
        return len(self._shared)


def _failed(task: "asyncio.Task[Any]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


async def together(*asked: Coroutine[Any, Any, Any]) -> list[Any]:
    """All answers, in the order of the questions; the first failure gives up those that still wait for a thread."""
    tasks = [asyncio.ensure_future(one) for one in asked]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def on_behalf_of(asker: Hashable, ask: Callable[[], Awaitable[Found]]) -> Found:
    """What `ask` gives; to be a task of its own. Its questions take turns with those of other askers."""
    _ASKER.set(asker)
    return await ask()


def duration(seconds: float) -> str:
    """A duration as PromQL writes it."""
    return f"{round(seconds * 1000)}ms"


def series_by_key(answer: Answer, labels: tuple[str, ...]) -> Mapping[tuple[str, ...], list[dict[str, Any]]]:
    """Series of an answer by the values of some labels."""
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for item in answer:
        found.setdefault(tuple(item["metric"].get(label, "") for label in labels), []).append(item)
    return found
