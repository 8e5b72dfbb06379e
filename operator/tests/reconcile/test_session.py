"""What kopf gets to see of the API server's answers."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from dopd.reconcile import session as sessions
from dopd.reconcile.session import _Events, bare, bare_event

DEEP = '{"a":' * 1500 + "1" + "}" * 1500
META = {"name": "m", "namespace": "n", "uid": "u", "resourceVersion": "7", "labels": {"app": "x"}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def event(metadata: str, type_: str = "MODIFIED") -> bytes:
    return f'{{"type":"{type_}","object":{{"kind":"PartialObjectMetadata","metadata":{metadata}}}}}'.encode()


def test_an_event_keeps_names_and_labels_and_nothing_that_is_deep():
    odd = json.dumps(META)[:-1] + f', "managedFields": [{{"fieldsV1": {DEEP}}}], "annotations": {{"a": "b"}}}}'
    found = bare_event(event(odd))
    assert found
    assert found.endswith(b"\n")
    assert json.loads(found) == {"type": "MODIFIED", "object": {"kind": "PartialObjectMetadata", "metadata": META}}


def test_an_error_of_the_server_is_told_as_it_is():
    error = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}
    found = bare_event(json.dumps(error).encode())
    assert found
    assert json.loads(found) == error


@given(JSON)
def test_what_is_no_event_is_left_out(value: Any):
    assert bare_event(json.dumps(value).encode()) is None


def test_what_is_no_json_is_left_out():
    assert bare_event(b"{") is None


async def test_lines_come_whole_however_they_arrive():
    raw = b"".join(event(json.dumps(META | {"name": str(i)})) + b"\n" for i in range(5)) + b"nonsense\n"

    class Content:
        async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
            for start in range(0, len(raw), size):
                yield raw[start : start + size]

    events = [json.loads(line) async for line in _Events(Content()).iter_chunked(7)]  # type: ignore[arg-type]
    assert [one["object"]["metadata"]["name"] for one in events] == ["0", "1", "2", "3", "4"]


async def test_a_session_asks_for_metadata_and_makes_lists_and_watches_bare():
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.headers["Accept"])
        if request.query.get("watch"):
            return web.Response(body=event(json.dumps({**META, "annotations": {"x": "y"}})) + b"\n")
        items = [{"metadata": {**META, "x": 1}}] if "labelSelector" in request.query else None
        return web.json_response({"kind": "PartialObjectMetadataList", "items": items})

    app = web.Application()
    app.router.add_get("/pods", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/pods"
        async with sessions.made({}, None) as session:
            async with session.get(url, params={"labelSelector": "app=x"}) as response:
                assert (await response.json())["items"] == [{"metadata": META}]
            async with session.get(url) as response:
                assert (await response.json())["items"] == []
            async with session.get(url, params={"watch": "true"}) as response:
                pieces = [piece async for piece in response.content.iter_chunked(2**20)]
            assert [json.loads(piece)["object"]["metadata"] for piece in pieces] == [META]
    finally:
        await runner.cleanup()
    assert ["PartialObjectMetadataList;" in accept for accept in asked] == [True, True, False]


@pytest.mark.parametrize("thing", [{}, {"metadata": {}}, {"metadata": {"labels": None}, "spec": {"a": 1}}])
def test_a_bare_object_has_no_more_than_it_had(thing: dict[str, Any]):
    if "metadata" not in thing:
        with pytest.raises(KeyError):
            bare(thing)
        return
    assert set(bare(thing)) == {"metadata"}
