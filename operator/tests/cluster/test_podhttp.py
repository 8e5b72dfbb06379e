"""Asking pods: what they answer, and one kind of error for all that is no answer."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from dopd.cluster.podhttp import DirectPodHttp, PodHttpError

from .endpoints import answer, endpoint

POD = {"metadata": {"name": "m-prefill-x"}, "status": {"podIP": "127.0.0.1"}}


@pytest.fixture
async def http() -> AsyncIterator[DirectPodHttp]:
    one = DirectPodHttp()
    yield one
    await one.close()


async def test_text_and_json(http: DirectPodHttp):
    async with endpoint(answer(b"up 1\n")) as port:
        assert await http.get_text(POD, port, "/metrics") == "up 1\n"
    async with endpoint(answer(b'{"loads": []}')) as port:
        assert await http.get_json(POD, port, "/v1/loads", {"include": "core"}) == {"loads": []}


async def test_path_and_query_arrive(http: DirectPodHttp):
    lines = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append((await reader.readuntil(b"\r\n\r\n")).splitlines()[0])
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await http.get_json(POD, port, "/v1/loads", {"include": "core,disagg"})
    assert lines == [b"GET /v1/loads?include=core,disagg HTTP/1.1"]


@pytest.mark.parametrize("ask", [DirectPodHttp.get_text, DirectPodHttp.get_json])
async def test_no_answer(http: DirectPodHttp, ask):
    async with endpoint(answer(b"{}", b"503 Service Unavailable")) as port:
        with pytest.raises(PodHttpError, match=r"m-prefill-x .* 503"):
            await ask(http, POD, port, "/metrics")
    with pytest.raises(PodHttpError, match=r"m-prefill-x .* 127"):
        await ask(http, POD, port, "/metrics")


async def test_what_is_no_json_and_a_pod_without_an_address(http: DirectPodHttp):
    async with endpoint(answer(b"up 1")) as port:
        with pytest.raises(PodHttpError, match="no JSON"):
            await http.get_json(POD, port, "/v1/loads")
    with pytest.raises(PodHttpError, match="no address"):
        await http.get_text({**POD, "status": {}}, 30000, "/metrics")
