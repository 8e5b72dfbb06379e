"""Asking Prometheus: one question to one server, and an answer that several may share.

A question has two outcomes here: series, or `QueryFailed` with the reason that a condition gives. What series mean is
read in `loads`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from requests import RequestException

from dopd.api.status import ConditionReason
from dopd.telemetry.connection import Answer, Connector, NoAnswer, Prometheus

QUERIES_AT_ONCE = 4
"""To one server."""

Found = TypeVar("Found")


class QueryFailed(Exception):
    """The load can not be read.

    Attributes:
        reason: why, as the condition says it.
    """

    def __init__(self, reason: ConditionReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass
class Servers:
    """The servers that are asked, by URL.

    Each has threads of its own: one that a resource names and that never answers keeps no other waiting.
    """

    connect: Callable[[str], Prometheus] = field(default_factory=Connector)
    _clients: dict[str, Prometheus] = field(default_factory=dict)
    _threads: dict[str, ThreadPoolExecutor] = field(default_factory=dict)

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
            QueryFailed: no answer.
        """
        try:
            if url not in self._clients:
                self._clients[url] = self.connect(url)
                self._threads[url] = ThreadPoolExecutor(QUERIES_AT_ONCE, "prometheus")
            return await asyncio.get_running_loop().run_in_executor(self._threads[url], call, self._clients[url])
        except (NoAnswer, RequestException) as error:
            message = f"{url} did not answer {query}: {error}"
            raise QueryFailed(ConditionReason.QUERY_FAILED, message) from error


class SharedAnswers:
    """Answers by question, so that resources that ask the same within a short time cause one round of queries."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, tuple[float, asyncio.Task[Any]]] = {}

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
        asked_seconds, task = self._tasks.get(question, (float("-inf"), None))
        allowed = failure_seconds if task is not None and _failed(task) else fresh_seconds
        if task is None or not 0 <= now_seconds - asked_seconds <= allowed:
            task = asyncio.ensure_future(_of(ask))
            self._tasks[question] = (now_seconds, task)
        # Whoever gives up waiting does not take the answer from the others.
        found: Found = await asyncio.shield(task)
        return found


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


async def _of(ask: Callable[[], Awaitable[Found]]) -> Found:
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
