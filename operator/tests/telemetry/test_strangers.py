"""A URL that leads to something else than Prometheus: nothing of it is kept, and nothing that it says is repeated."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dopd.telemetry.connection import ConnectionSettings, Connector, NoAnswer
from dopd.telemetry.selfcheck import Wanted, check_prometheus

from .server import EMPTY, Reply, Server

WANTED = [Wanted(("ns", "m"), 60.0, 3600.0)]


def complaint(url: str) -> str:
    with pytest.raises(NoAnswer) as caught:
        Connector(ConnectionSettings(timeout_seconds=2))(url).custom_query("up", params={})
    return str(caught.value)


@contextmanager
def talking(words: bytes) -> Iterator[str]:
    """What answers anything with some words."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(words)

        thread = threading.Thread(target=talk)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_no_cookie_is_kept(http: Server):
    http.reply = lambda _: Reply(EMPTY, headers={"Set-Cookie": f"c{len(http.asked)}={'x' * 60_000}; Path=/"})
    client = Connector(ConnectionSettings())(http.url)
    for _ in range(3):
        client.custom_query("up", params={})
    assert all("Cookie" not in asked.headers for asked in http.asked)


@pytest.mark.parametrize(
    "words",
    [
        b"-ERR unknown command 'GET' secret\r\n",
        b"SSH-2.0-secret\r\n",
        b"secret" * 3000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nsecret",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nsecret\r\n",
        b"HTTP/1.1 secret OK\r\n\r\n",
    ],
)
def test_what_is_no_http_is_not_repeated(words: bytes):
    with talking(words) as url:
        said = complaint(url)
    assert "no HTTP" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"status": "error", "errorType": "\x1b]0;x\x07" + "a" * 50_000, "error": "b"}, "a...: b"),
        (
            {"status": "error", "errorType": {"a": ["secret"] * 1000}, "error": {"a": "secret"}},
            "no error of Prometheus",
        ),
        ({"status": {"a": "secret"}}, "no error of Prometheus"),
        ({"message": "secret"}, "no error of Prometheus"),
    ],
)
@pytest.mark.parametrize("status", [200, 206, 422, 500, 999])
def test_an_error_of_any_form_is_a_short_text(http: Server, status: int, body: dict[str, object], words: str):
    http.reply = lambda _: Reply(body, status=status)
    said = complaint(http.url)
    assert f"status {status}" in said
    assert words in said
    assert len(said) < 800
    assert said.isprintable()
    assert "secret" not in said


@pytest.mark.parametrize("url", ["http://*.x", "http://.x", "http://\uff10.\uff10", "http://x\x7f", "http://\ud83d"])
def test_what_no_request_can_be_made_of_is_no_url(url: str):
    assert "not a URL such as http://" in complaint(url)


@pytest.mark.parametrize("url", ["http://a..b", f"http://{'a' * 64}.x"])
def test_a_check_of_a_bad_host_ends_in_a_verdict(url: str):
    checks = list(check_prometheus(Connector()(url), url, WANTED, 0.0))
    assert [check.failed for check in checks] == [True]


@pytest.mark.parametrize("headers", [{"X A": "b"}, {"X-A": "€"}, {"X-A": "a\nb"}, {"X-A": " b"}, {"Ü": "b"}])
def test_headers_that_can_not_be_sent_are_refused_at_the_start(headers: dict[str, str]):
    with pytest.raises(ValueError, match=r"header .*: expected a name and a value of printable ASCII"):
        ConnectionSettings("http://here", headers=headers)


def test_a_token_that_fits_no_header_names_its_file(http: Server, tmp_path):
    token = tmp_path / "token"
    token.write_text("tök€n")
    client = Connector(ConnectionSettings(http.url, bearer_token_file=str(token)))(http.url)
    with pytest.raises(NoAnswer, match=r"token holds more than printable ASCII"):
        client.custom_query("up", params={})
