"""Asking servers: failures are told apart from faults of ours, and no server waits for another."""

import asyncio
import threading
from typing import Any

import pytest

from dopd.api.status import ConditionReason
from dopd.telemetry.prometheus import QUERIES_AT_ONCE, QueryFailed, Servers

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
