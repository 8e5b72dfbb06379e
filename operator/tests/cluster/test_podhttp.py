"""Asking pods: what they answer, and one kind of error for all that is no answer."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from dopd.cluster.apikey import PostWithKey, WithKey
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


async def test_a_key_is_sent_by_those_who_were_given_it_and_by_nobody_else(http: DirectPodHttp):
    seen = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen.append([line.partition(": ")[2] for line in head.splitlines() if line.startswith("Authorization")])
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nup")
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        for way in (WithKey(http, "k-1"), http, WithKey(http, "")):
            await way.get_text(POD, port, "/metrics")
    assert seen == [["Bearer k-1"], [], []]


async def test_a_connection_serves_again_and_after_one_that_the_pod_closed_comes_a_new_one(http: DirectPodHttp):
    connections = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nup")
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert [await http.get_text(POD, port, "/metrics") for _ in range(3)] == ["up"] * 3
    assert len(connections) == 2


async def test_an_address_of_ipv6_stands_in_brackets(http: DirectPodHttp):
    with pytest.raises(PodHttpError, match=r"\[::1\]|::1"):
        await http.get_text({**POD, "status": {"podIP": "::1"}}, 1, "/metrics")


async def test_a_post_has_its_body_and_key_and_any_status_is_an_answer(http: DirectPodHttp):
    seen = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(int(line.split(": ")[1]) for line in head.splitlines() if line.startswith("Content-Length"))
        seen.append((head.split(" HTTP")[0], "Bearer k-1" in head, await reader.readexactly(length)))
        body = b'{"success": false}'
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        answer = await PostWithKey(http, "k-1").post_json(POD, port, "/pd_role_switch", {"new_role": "decode"}, 5.0)
    assert answer == (400, {"success": False})
    assert seen == [("POST /pd_role_switch", True, b'{"new_role": "decode"}')]


@pytest.mark.parametrize(("method", "body"), [("PUT", {"url": "u"}), ("DELETE", None)])
async def test_another_method_goes_with_the_same_key_and_limits(http: DirectPodHttp, method: str, body: object):
    seen = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append((head.split(b" HTTP")[0].decode(), b"Bearer k-1" in head))
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await PostWithKey(http, "k-1").write_json(POD, port, method, "/workers/1", body, 5.0) == (202, {})
    assert seen == [(f"{method} /workers/1", True)]


async def test_a_post_waits_as_long_as_it_is_told_to(http: DirectPodHttp):
    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async with endpoint(silent) as port:
        with pytest.raises(PodHttpError, match=r"/generate: no whole answer within 0\.05 s"):
            await http.post_json(POD, port, "/generate", {}, 0.05)
