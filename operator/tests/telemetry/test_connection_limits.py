"""How long an answer of Prometheus may take, and how large it may be."""

import gzip
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from dopd.cluster.room import Room
from dopd.telemetry.connection import ConnectionSettings, Connector, NoAnswer

from .server import Asked, Reply, Server, ask, settings_of


def test_a_slow_answer(http: Server):
    def slow(_: Asked) -> Reply:
        time.sleep(0.2)
        return Reply()

    http.reply = slow
    with pytest.raises(NoAnswer, match=r"within 0\.05 s\. --prometheus-timeout"):
        ask(settings_of(http, timeout_seconds=0.05))


@contextmanager
def dripping(start: bytes, piece: bytes) -> Iterator[str]:
    """URL of a server that sends a beginning, and then a piece now and then."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            peer, _ = listener.accept()
            with peer:
                try:
                    peer.sendall(start)
                    while not over.wait(0.02):
                        peer.sendall(piece)
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
LAST_CHUNK = OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"", b""),
        (b"HTTP/1.1 ", b"2"),
        (b"HTTP/1.1 200 OK\r\nX: ", b" "),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OK + b"\r\n", b" "),
        (OK + b"Content-Length: 1000\r\n\r\n", b" "),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (LAST_CHUNK, b"X: y\r\n"),
    ],
)
def test_an_answer_that_drips(start: bytes, piece: bytes):
    with dripping(start, piece) as url, pytest.raises(NoAnswer, match="no whole answer within"):
        ask(ConnectionSettings(url, timeout_seconds=0.2))


LARGE = b'{"status":"success","data":{"resultType":"vector","result":[]},"x":"' + b"y" * 2**18
"""Nearly as much as fits into the room of the test, and not its end."""


def test_large_answers_share_the_room_there_is_and_nobody_waits_for_one_that_drips(http: Server):
    connect = Connector(ConnectionSettings(), Room(2**20, hold_seconds=0.1))
    http.reply = lambda _: Reply(LARGE + b'"}')
    failure: list[NoAnswer] = []
    with dripping(OK + b"\r\n" + LARGE, b"y") as url:

        def ask_the_slow_one() -> None:
            try:
                connect(url).custom_query("up", params={})
            except NoAnswer as error:
                failure.append(error)

        thread = threading.Thread(target=ask_the_slow_one)
        thread.start()
        time.sleep(0.2)
        assert failure == [], "alone it may take its time"
        for _ in range(3):  # and the room comes back
            assert connect(http.url).custom_query("up", params={}) == []
        thread.join(15)
    assert "too slowly for its size" in str(failure[0])


def test_tls_that_drips():
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"

        def drip() -> None:
            peer, _ = listener.accept()
            with peer:
                try:
                    peer.sendall(b"\x16\x03\x03\x40\x00")  # a record of 16 KiB, of which a byte comes now and then
                    while not over.wait(0.02):
                        peer.sendall(b"\x02")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(NoAnswer, match="no whole answer within"):
                ask(ConnectionSettings(url, timeout_seconds=0.2))
        finally:
            over.set()
            thread.join()


def test_a_connection_that_was_kept_has_the_same_limit(http: Server):
    client = Connector(settings_of(http, timeout_seconds=0.2))(http.url)
    client.custom_query("up", params={})
    http.reply = lambda _: Reply(b"", headers={"Content-Length": "10"})
    with pytest.raises(NoAnswer, match="no whole answer within"):
        client.custom_query("up", params={})
    http.reply = lambda _: Reply()
    assert client.custom_query("up", params={}) == []


def test_a_name_with_many_addresses_has_one_limit(monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0), backlog=1) as full:
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:  # a listener whose queue is full answers nothing to those that connect
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [address] * 1000)
        with pytest.raises(NoAnswer, match="no whole answer within"):
            ask(ConnectionSettings("http://many.example", timeout_seconds=0.1))
        for filler in fillers:
            filler.close()


BLANKS = gzip.compress(b" " * 64 * 2**20)


@pytest.mark.parametrize(
    ("body", "encoding", "words"),
    [
        (BLANKS, "gzip", "more than 4 MiB; let fewer .* Only the operator's own URL may answer more"),
        (b" " * (5 * 2**20), "", "more than 4 MiB"),
        (b"[" + b"[]," * 2**20 + b"[]]", "", "brackets"),
        (gzip.compress(b"[" + b"[]," * 2**22 + b"[]]"), "gzip", "brackets"),
        (b"{}", "br", "another method than gzip"),
        (b"{}", "gzip", "can not be unzipped"),
    ],
)
def test_a_url_of_a_resource_answers_within_bounds(http: Server, body: bytes, encoding: str, words: str):
    headers = {"Content-Type": "application/json", **({"Content-Encoding": encoding} if encoding else {})}
    http.reply = lambda _: Reply(body, headers=headers)
    with pytest.raises(NoAnswer, match=words):
        ask(ConnectionSettings(), http.url)


def test_a_url_of_a_resource_answers_few_series_and_points(http: Server):
    few, row = {"metric": {}, "value": [0, "1"]}, [0, "1"]
    http.reply = lambda _: Reply({"status": "success", "data": {"resultType": "vector", "result": [few] * 3000}})
    assert len(ask(settings_of(http))) == 3000
    with pytest.raises(NoAnswer, match="more than 2000 series"):
        ask(ConnectionSettings(), http.url)
    series = {"metric": {}, "values": [row] * 30_000}
    http.reply = lambda _: Reply({"status": "success", "data": {"resultType": "matrix", "result": [series] * 2}})
    first, last = datetime.fromtimestamp(60, UTC), datetime.fromtimestamp(120, UTC)
    with pytest.raises(NoAnswer, match="more than 50000 points; let fewer"):
        Connector()(http.url).custom_query_range("up", first, last, "60000ms")


def test_an_answer_without_an_end(http: Server):
    http.reply = lambda _: Reply(b" " * 2**21)
    with pytest.raises(NoAnswer, match=r"more than 1 MiB; let fewer .*, or raise --prometheus-max-answer-mib"):
        ask(settings_of(http, largest_answer_mib=1.0))
