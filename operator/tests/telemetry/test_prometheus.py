"""Asking servers: failures are told apart from faults of ours, and no server waits for another."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from dopd.api.conditions import ConditionReason
from dopd.cluster.room import NAMESPACE
from dopd.telemetry import prometheus
from dopd.telemetry.connection import NoAnswer
from dopd.telemetry.prometheus import (
    LONGEST_PAUSE_SECONDS,
    QUERIES_AT_ONCE,
    QueryFailed,
    Servers,
    SharedAnswers,
)

from .server import Reply, Server

UP = {"metric": {}, "value": [0, "1"]}


class Waiting:
    """A server that does not answer until it may."""

    def __init__(self, may_answer: threading.Event) -> None:
        self.may_answer = may_answer

    def custom_query(self, query: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        assert self.may_answer.wait(10)
        return [UP]

    def custom_query_range(self, *_: Any) -> list[dict[str, Any]]:
        raise AssertionError

    def close(self) -> None:
        pass


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Failing(Waiting):
    """A server that fails as it is told, and counts."""

    def __init__(self) -> None:
        self.failure: Exception | None = NoAnswer("out of order")
        self.asked = self.closed = 0

    def custom_query(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
        self.asked += 1
        if self.failure:
            raise self.failure
        return [UP]

    def close(self) -> None:
        self.closed += 1


async def outcome(servers: Servers, url: str = "http://a") -> str:
    try:
        await servers.instant(url, "up", 0.0)
    except QueryFailed as error:
        return str(error)
    return "answered"


async def test_who_fails_is_left_alone_for_growing_pauses_whoever_asks():
    server, clock = Failing(), Clock()
    servers = Servers(lambda _: server, clock)
    asked = []
    for _ in range(600):
        clock.seconds += 0.5
        told = await outcome(servers)
        assert "out of order" in told
        asked.append(server.asked)
    assert server.asked < 20, "in five minutes"
    assert "left alone" in told
    server.failure = None
    clock.seconds += LONGEST_PAUSE_SECONDS
    assert await outcome(servers) == "answered"
    assert await outcome(servers) == "answered"


async def test_many_resources_that_fail_at_one_server_make_one_pause():
    server, clock = Failing(), Clock()
    servers = Servers(lambda _: server, clock)
    for _ in range(60):
        clock.seconds += 1.0
        await asyncio.gather(*(outcome(servers) for _ in range(8)))
    alone = Failing()
    clock, servers = Clock(), Servers(lambda _: alone, clock)
    for _ in range(60):
        clock.seconds += 1.0
        await outcome(servers)
    assert server.asked <= 2 * alone.asked + 8


@pytest.mark.parametrize(("asks_for", "pause"), [(7.0, 7.0), (0.0, 1.0), (1e9, 2 * LONGEST_PAUSE_SECONDS)])
async def test_retry_after_counts_within_bounds(asks_for: float, pause: float):
    server, clock = Failing(), Clock()
    server.failure = NoAnswer("status 429", retry_after_seconds=asks_for, overloaded=True)
    servers = Servers(lambda _: server, clock)
    await outcome(servers)
    clock.seconds = pause - 0.1
    assert "left alone" in await outcome(servers)
    assert server.asked == 1
    clock.seconds = pause
    server.failure = None
    assert await outcome(servers) == "answered"


async def test_other_servers_are_asked_while_one_is_left_alone():
    bad, good = Failing(), Failing()
    good.failure = None
    servers = Servers(lambda url: bad if url == "http://bad" else good, Clock())
    for _ in range(5):
        await outcome(servers, "http://bad")
        assert await outcome(servers, "http://good") == "answered"


async def test_nothing_is_kept_of_servers_that_nobody_asks_any_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prometheus, "UNUSED_SECONDS", 0.05)
    server, threads = Failing(), threading.active_count()
    server.failure = None
    servers = Servers(lambda _: server)
    await asyncio.gather(*(outcome(servers, f"http://{n}") for n in range(60)))
    assert len(servers) == 60
    for _ in range(100):
        await asyncio.sleep(0.02)
        await outcome(servers, "http://0")
        if server.closed == 59:
            break
    assert (len(servers), server.closed) == (1, 59)
    for thread in threading.enumerate():
        if thread.name == "prometheus":
            thread.join(5)
    assert threading.active_count() <= threads


async def test_a_server_that_never_answered_has_one_thread():
    may_answer, threads = threading.Event(), threading.active_count()
    servers = Servers(lambda _: Waiting(may_answer))
    asking = [asyncio.create_task(servers.instant("http://hangs", "up", 0.0)) for _ in range(20)]
    await asyncio.sleep(0.05)
    assert threading.active_count() <= threads + 1
    may_answer.set()
    assert await asyncio.gather(*asking) == [[UP]] * 20


async def test_of_several_who_ask_one_server_each_has_its_turn():
    may_answer = threading.Event()
    server = Waiting(may_answer)
    servers, answers, order = Servers(lambda _: server), SharedAnswers(), []

    async def reading(name: str, queries: int) -> None:
        async def one() -> None:
            await servers.instant("http://shared", "up", 0.0)
            order.append(name)

        async def ask() -> None:
            await asyncio.gather(*(one() for _ in range(queries)))

        await answers.get(name, 0.0, ask, fresh_seconds=1.0, failure_seconds=1.0)

    greedy = asyncio.create_task(reading("greedy", 200))
    await asyncio.sleep(0.01)
    modest = asyncio.create_task(reading("modest", 2))
    await asyncio.sleep(0.01)
    may_answer.set()
    await asyncio.gather(greedy, modest)
    assert order.index("modest") < 3 * QUERIES_AT_ONCE


async def test_answers_that_nobody_asks_for_any_more_are_dropped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prometheus, "UNUSED_SECONDS", 0.05)
    answers = SharedAnswers()

    async def ask() -> int:
        return 1

    async def get(question: int) -> None:
        await answers.get(question, 0.0, ask, fresh_seconds=10.0, failure_seconds=1.0)

    for question in range(60):
        await get(question)
    for _ in range(100):
        await asyncio.sleep(0.02)
        await get(0)
        if len(answers) == 1:
            break
    assert len(answers) == 1


async def test_a_server_that_hangs_keeps_no_other_waiting():
    may_answer, free = threading.Event(), threading.Event()
    free.set()
    servers = Servers(lambda url: Waiting(may_answer if url == "http://hangs" else free))
    hanging = [asyncio.create_task(servers.instant("http://hangs", "up", 0.0)) for _ in range(20 * QUERIES_AT_ONCE)]
    try:
        assert await servers.instant("http://answers", "up", 0.0) == [UP]
        assert not any(task.done() for task in hanging)
    finally:
        may_answer.set()
    assert await asyncio.gather(*hanging) == [[UP]] * len(hanging)


async def test_a_server_is_connected_to_once():
    connected: list[str] = []
    free = threading.Event()
    free.set()

    def connect(url: str) -> Waiting:
        connected.append(url)
        return Waiting(free)

    servers = Servers(connect)
    for url in ("http://a", "http://b", "http://a"):
        await servers.instant(url, "up", 0.0)
    assert connected == ["http://a", "http://b"]


async def test_a_refusal_names_server_and_query(http: Server):
    http.reply = lambda _: Reply({"status": "error", "errorType": "bad_data", "error": "no such function"}, 400)
    with pytest.raises(QueryFailed, match=rf"{http.url} did not answer up: status 400: bad_data: no such") as failure:
        await Servers().instant(http.url, "up", 0.0)
    assert failure.value.reason is ConditionReason.QUERY_FAILED


async def test_a_url_that_is_none_fails_like_a_server():
    with pytest.raises(QueryFailed, match="do not belong into a URL"):
        await Servers().instant("http://me:secret@here", "up", 0.0)


async def test_a_fault_of_ours_is_no_failure_of_the_server(http: Server):
    def faulty(_: Any) -> None:
        raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        await Servers().ask(http.url, "up", faulty)


async def test_the_thread_that_asks_knows_on_whose_behalf():
    """So that room for large answers is shared by namespaces, and not by URLs of which a tenant may have many."""
    seen: list[object] = []

    class Telling(Failing):
        def custom_query(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
            seen.append(NAMESPACE.get())
            return [UP]

    servers, shared = Servers(lambda _: Telling()), SharedAnswers()

    async def ask(namespace: str) -> None:
        NAMESPACE.set(namespace)
        question = f"http://{namespace}"
        await shared.get(
            question, 0.0, lambda: servers.instant(question, "up", 0.0), fresh_seconds=1.0, failure_seconds=1.0
        )

    await asyncio.gather(*(asyncio.create_task(ask(name)) for name in ("a", "b")))
    assert sorted(map(str, seen)) == ["a", "b"]
    servers.close()


async def test_a_query_that_outlives_its_servers_ends_quietly(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prometheus, "UNUSED_SECONDS", 0.0)
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    released = threading.Event()
    servers = Servers(lambda _: SimpleNamespace(close=lambda: None))  # type: ignore[arg-type,return-value]
    asked = asyncio.create_task(servers.ask("http://p", "up", lambda _: released.wait(10)))
    await asyncio.sleep(0.05)
    servers.close()
    released.set()
    assert await asked
    await asyncio.sleep(0.05)
    assert not complaints
