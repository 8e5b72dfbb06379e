"""What a pod may not do to whoever asks it, over real sockets."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio import client

from dopd.cluster import podhttp
from dopd.cluster.client import Kubernetes
from dopd.cluster.podhttp import DirectPodHttp, PodHttpError, ProxyPodHttp
from dopd.cluster.room import Room

from .endpoints import answer, drip, endpoint, hang

BLANKS = gzip.compress(b" " * 64 * 2**20)
ZIPPED = b"Content-Encoding: gzip\r\n"


def pod(name: str = "m-0", instance: str = "m") -> dict[str, Any]:
    meta = {"name": name, "namespace": "ns", "uid": f"uid-{name}", "labels": {"dopd.dev/instance": instance}}
    return {"metadata": meta, "status": {"podIP": "127.0.0.1"}}


@pytest.fixture
async def http() -> AsyncIterator[DirectPodHttp]:
    one = DirectPodHttp()
    yield one
    await one.close()


@pytest.mark.parametrize(
    ("talk", "words"),
    [
        (answer(BLANKS, headers=ZIPPED), "more than 1 MiB"),
        (answer(b" " * (2**20 + 1)), "more than 1 MiB"),
        (answer(b"[" + b"[]," * 2**16 + b"[]]"), "brackets"),
        (answer(b"[" * 1000), "no JSON: recursion limit"),
        (answer(b"{}", headers=b"Content-Encoding: br\r\n"), "another method than gzip"),
        (answer(gzip.compress(b"{}")[:-2], headers=ZIPPED), "ends early"),
        (answer(b"{}", b"500 No"), "status 500, expected 200"),
        (answer(b"", b"204 No Content"), "status 204, expected 200"),
        (answer(b"", b"302 Found", b"Location: http://127.0.0.1:1/elsewhere\r\n"), "status 302, expected 200"),
        (answer(b"", b"307 Found", b"Location: //[\r\n"), "status 307, expected 200"),
        (drip(b"HTTP/1.1 200 OK\r\nX: ", b"a" * 50_000), "bytes"),
        (answer(b"\xff\xfe"), "no JSON"),
    ],
)
async def test_what_is_refused(http: DirectPodHttp, talk: Any, words: str):
    async with endpoint(talk) as port:
        with pytest.raises(PodHttpError, match=words) as error:
            await http.get_json(pod(), port, "/v1/loads")
    assert "m-0" in str(error.value)


@pytest.mark.parametrize(
    "talk",
    [
        hang,
        drip(b"HTTP/1.1 200 OK\r\nX: "),
        drip(b"HTTP/1.1 200 OK\r\n", b"X-Y: z\r\n"),
        drip(b"HTTP/1.1 200 OK\r\n\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    ],
)
async def test_a_byte_now_and_then_ends_with_the_time_for_the_whole_answer(
    http: DirectPodHttp, talk: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(podhttp, "TIMEOUT_SECONDS", 0.2)
    async with endpoint(talk) as port:
        with pytest.raises(PodHttpError, match=r"no whole answer within 0\.2 s|bytes"):
            await http.get_json(pod(), port, "/v1/loads")


async def test_zipped_answers_are_read_and_large_ones_parsed_elsewhere(http: DirectPodHttp):
    large = b'{"a":"' + b"x" * 2**19 + b'"}'
    async with endpoint(answer(gzip.compress(large), headers=ZIPPED)) as port:
        assert await http.get_json(pod(), port, "/v1/loads") == {"a": "x" * 2**19}


async def test_a_pod_that_wastes_time_is_left_alone_for_a_while_and_others_are_not(
    http: DirectPodHttp, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(podhttp, "TIMEOUT_SECONDS", 0.1)
    asked = 0

    async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.read()

    async with endpoint(counting) as port, endpoint(answer(b"{}")) as other:
        for _ in range(5):
            with pytest.raises(PodHttpError):
                await http.get_json(pod(), port, "/v1/loads")
        assert asked == 1
        assert await http.get_json(pod("m-1"), other, "/v1/loads") == {}


async def test_a_refused_connection_is_tried_again_at_once(http: DirectPodHttp):
    async with endpoint(answer(b"{}")) as port:
        pass
    with pytest.raises(PodHttpError, match="ClientConnectorError"):
        await http.get_json(pod(), port, "/workers")
    with pytest.raises(PodHttpError, match="ClientConnectorError"):
        await http.get_json(pod(), port, "/workers")


async def test_engines_of_one_resource_that_hang_keep_no_other_waiting(http: DirectPodHttp):
    async with endpoint(hang) as port, endpoint(answer(b"{}")) as other:
        hanging = [asyncio.create_task(http.get_json(pod(f"bad-{n}", "bad"), port, "/v1/loads")) for n in range(500)]
        await asyncio.sleep(0.1)
        assert await http.get_json(pod("m-1"), other, "/v1/loads") == {}
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)


@pytest.fixture
async def kubernetes() -> AsyncIterator[Kubernetes]:
    one = Kubernetes(client.ApiClient(client.Configuration()))
    yield one
    await one.close()


async def through_api_server(kubernetes: Kubernetes, port: int) -> Any:
    kubernetes.api.configuration.host = f"http://127.0.0.1:{port}"
    return await ProxyPodHttp(kubernetes).get_json(pod(), 30000, "/v1/loads", {"include": "core"})


async def test_the_same_limits_hold_through_the_api_server(kubernetes: Kubernetes):
    async with endpoint(answer(b'{"loads": []}')) as port:
        assert await through_api_server(kubernetes, port) == {"loads": []}
    async with endpoint(answer(BLANKS, headers=ZIPPED)) as port:
        with pytest.raises(PodHttpError, match="more than 1 MiB"):
            await through_api_server(kubernetes, port)
    async with endpoint(answer(b"", b"503 No")) as port:
        with pytest.raises(PodHttpError, match="status 503"):
            await through_api_server(kubernetes, port)


async def test_a_pod_leads_nobody_elsewhere_through_the_api_server(kubernetes: Kubernetes):
    visited = asyncio.Event()

    async def elsewhere(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visited.set()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async with endpoint(elsewhere) as target:
        location = b"Location: http://127.0.0.1:%d/\r\n" % target
        async with endpoint(answer(b"", b"302 Found", location)) as port:
            with pytest.raises(PodHttpError, match="redirected"):
                await through_api_server(kubernetes, port)
    assert not visited.is_set()


async def test_large_answers_share_the_room_there_is_and_nobody_waits_for_one_that_trickles():
    http = DirectPodHttp(room=Room(2**20, hold_seconds=0.1))
    well = b"[" + b"1," * 2**17 + b"1]"
    slow = drip(b"HTTP/1.1 200 OK\r\n\r\n[" + b"1," * 10**5)
    async with endpoint(slow) as bad, endpoint(answer(gzip.compress(well), headers=ZIPPED)) as good:
        trickling = asyncio.create_task(http.get_json(pod("bad", "bad"), bad, "/v1/loads"))
        await asyncio.sleep(0.2)
        assert not trickling.done(), "alone it may take its time"
        assert len(await http.get_json(pod("good", "good"), good, "/v1/loads")) == 2**17 + 1
        with pytest.raises(PodHttpError, match=r"too slowly for its size|no whole answer"):
            await trickling
        with pytest.raises(PodHttpError, match="asked again in"):
            await http.get_json(pod("bad", "bad"), bad, "/v1/loads")
        for _ in range(3):  # and the room has come back
            await http.get_json(pod("good", "good"), good, "/v1/loads")
    await http.close()


async def test_a_pod_behind_the_api_server_gives_the_operator_nothing_to_keep(tmp_path: Path, monkeypatch: Any):
    asked: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n") if asked else b"")
        writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        await talk(reader, writer)

    async with endpoint(talk) as port:
        cluster = {"name": "c", "cluster": {"server": f"http://localhost:{port}"}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        kubeconfig = {"clusters": [cluster], "contexts": [context], "users": [{"name": "u", "user": {}}]}
        (tmp_path / "config").write_text(json.dumps({**kubeconfig, "current-context": "c"}))
        monkeypatch.setattr("kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
        kubernetes = await Kubernetes.connect()
        http = ProxyPodHttp(kubernetes)
        try:
            for _ in range(2):
                assert await http.get_json(pod(), 30000, "/v1/loads") == {}
        finally:
            await http.close()
            await kubernetes.close()
    assert b"GET" in asked[1]
    assert b"Cookie" not in asked[1]
