"""A watch goes on, whatever it is sent."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dopd.cluster import ApiError, kinds, watch

DEEP = '{"f:a":' * 5_000 + "{}" + "}" * 5_000


def event(type_: str, name: str, version: str = "2", fields: str = "{}") -> bytes:
    managed = f'"managedFields": [{{"fieldsV1": {fields}}}]'
    meta = f'{{"name": "{name}", "resourceVersion": "{version}", {managed}}}'
    return f'{{"type": "{type_}", "object": {{"metadata": {meta}}}}}'.encode()


class Server:
    """Lists one object, then sends what each round has; the rounds after the last hang."""

    def __init__(self, *rounds: list[bytes | Exception]) -> None:
        self.rounds = list(rounds)
        self.lists: list[int] = []
        self.versions: list[str] = []

    async def metadata(self, *_: Any) -> AsyncIterator[tuple[list[dict[str, Any]], str]]:
        self.lists.append(len(self.versions))
        yield [{"name": "listed"}], "1"

    async def events(
        self, kind: kinds.Kind, namespace: str, selector: str, version: str, *_: Any
    ) -> AsyncIterator[bytes]:
        self.versions.append(version)
        if not self.rounds:
            await asyncio.Event().wait()
        for line in self.rounds.pop(0):
            if isinstance(line, Exception):
                raise line
            yield line


async def seen_of(server: Server, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names that a watch tells of until it hangs."""
    monkeypatch.setattr(watch, "FIRST_PAUSE_SECONDS", 0.0)
    names: list[str] = []
    task = asyncio.create_task(
        watch.watch(server, kinds.POD, "ns", "", lambda meta: names.append(meta["name"]), lambda: None)  # type: ignore[arg-type]
    )
    while server.rounds or not server.versions:  # noqa: ASYNC110 (nothing tells)
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return names


async def test_it_tells_of_what_is_there_and_of_what_changes(monkeypatch: pytest.MonkeyPatch):
    server = Server([event("ADDED", "a"), event("BOOKMARK", "", "7")], [event("DELETED", "b", "8")])
    assert await seen_of(server, monkeypatch) == ["listed", "a", "b"]
    assert server.versions[:2] == ["1", "7"], "it goes on where it was"
    assert server.lists == [0]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"\xff",
        b"null",
        b"[]",
        b'{"type": "ADDED"}',
        b'{"type": "ADDED", "object": null}',
        b'{"type": "ADDED", "object": {"metadata": {}}}',
        b"[" * 100_000,
        json.dumps({"type": "ADDED", "object": "x" * 100_000}).encode(),
    ],
)
async def test_a_line_that_can_not_be_read_is_left_out(line: bytes, monkeypatch: pytest.MonkeyPatch):
    server = Server([event("ADDED", "a"), line, event("ADDED", "b", "3", DEEP), event("ADDED", "c", "4")])
    assert await seen_of(server, monkeypatch) == ["listed", "a", "b", "c"]


@pytest.mark.parametrize(
    "trouble",
    [
        b'{"type": "ERROR", "object": {"code": 410, "message": "too old"}}',
        b'{"type": "ERROR", "object": {"code": 500, "message": "odd"}}',
        b'{"type": "ERROR", "object": null}',
        ApiError(0, "Unreachable", "reset"),
        ApiError(403, "Forbidden", "no"),
        RecursionError("deep"),
        MemoryError(),
    ],
)
async def test_trouble_ends_in_a_new_list(trouble: bytes | Exception, monkeypatch: pytest.MonkeyPatch):
    server = Server([event("ADDED", "a"), trouble], [event("ADDED", "b")])
    names = await seen_of(server, monkeypatch)
    assert names[:2] == ["listed", "a"]
    assert names[-1] == "b"
