"""Reaching Prometheus over real sockets: credentials, TLS, limits, and what is refused."""

import gzip
import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dopd.cluster.room import Room
from dopd.telemetry.connection import ConnectionSettings, Connector, NoAnswer

from .server import EMPTY, Asked, Certificates, Reply, Server, make_certificates, serving

UP = {"metric": {"__name__": "up"}, "value": [1, "1"]}


def settings_of(server: Server, **others: Any) -> ConnectionSettings:
    return ConnectionSettings(server.url, **others)


def ask(settings: ConnectionSettings, url: str | None = None) -> list[dict[str, Any]]:
    return Connector(settings)(url or settings.url).custom_query("up", params={"time": "1.5"})


def test_an_instant_and_a_range_query(http: Server):
    http.reply = lambda _: Reply({"status": "success", "data": {"resultType": "vector", "result": [UP]}})
    client = Connector(ConnectionSettings(f"{http.url}/prometheus/"))(f"{http.url}/prometheus/")
    assert client.custom_query("up", params={"time": "1.5"}) == [{"metric": {"__name__": "up"}, "value": (1.0, 1.0)}]
    up = {"metric": {"__name__": "up"}, "values": [[60, "1"], [120, "+Inf"]]}
    http.reply = lambda _: Reply({"status": "success", "data": {"resultType": "matrix", "result": [up]}})
    first, last = datetime.fromtimestamp(60, UTC), datetime.fromtimestamp(120, UTC)
    (series,) = client.custom_query_range("up", first, last, "60000ms")
    assert series["values"] == [(60.0, 1.0), (120.0, math.inf)]
    instant, over_time = http.asked
    assert (instant.path, instant.parameters["time"]) == ("/prometheus/api/v1/query", "1.5")
    assert over_time.path == "/prometheus/api/v1/query_range"
    assert over_time.parameters == {"query": "up", "start": "60", "end": "120", "step": "60000ms", "timeout": "10s"}


def test_an_answer_may_be_compressed(http: Server):
    packed = gzip.compress(b'{"status": "success", "data": {"resultType": "vector", "result": []}}')
    http.reply = lambda _: Reply(packed, headers={"Content-Type": "application/json", "Content-Encoding": "gzip"})
    assert ask(settings_of(http)) == []


def test_a_connection_is_kept(certificates: Certificates, https: Server):
    client = Connector(settings_of(https, ca_file=str(certificates.ca)))(https.url)
    client.custom_query("up", params={})
    certificates_were = certificates.ca.read_bytes()
    try:
        certificates.ca.write_bytes(b"")  # read for a new connection alone
        client.custom_query("up", params={})
    finally:
        certificates.ca.write_bytes(certificates_were)


def test_headers_and_parameters_go_along(http: Server, tmp_path: Path):
    secret = tmp_path / "key"
    secret.write_text("s3cret\n")
    settings = settings_of(
        http,
        headers={"X-Scope-OrgID": "ml"},
        header_files={"X-Key": str(secret)},
        query_parameters={"partial_response": "false", "timeout": "3s"},
    )
    ask(settings)
    (asked,) = http.asked
    assert (asked.headers["X-Scope-OrgID"], asked.headers["X-Key"]) == ("ml", "s3cret")
    assert asked.parameters == {"query": "up", "time": "1.5", "partial_response": "false", "timeout": "3s"}


def test_a_rotated_token_is_used_at_once(certificates: Certificates, https: Server, token: Path):
    settings = settings_of(https, ca_file=str(certificates.ca), bearer_token_file=str(token))
    client = Connector(settings)(https.url)
    client.custom_query("up", params={})
    token.write_text("second")
    client.custom_query("up", params={})
    assert [asked.headers["Authorization"] for asked in https.asked] == ["Bearer first", "Bearer second"]


def test_a_user_name_and_a_password(http: Server, token: Path):
    ask(settings_of(http, username="Aladdin", password_file=str(token)))
    assert http.asked[0].headers["Authorization"] == "Basic QWxhZGRpbjpmaXJzdA=="


def test_a_password_in_netrc_is_left_there(http: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login me password mine\n")
    monkeypatch.setenv("NETRC", str(netrc))
    ask(settings_of(http))
    assert "Authorization" not in http.asked[0].headers


@pytest.mark.parametrize("path", ["", "/other", "/prometheus/../other", "/prometheus/api"])
def test_a_url_of_a_resource_gets_nothing_that_is_the_operators(http: Server, token: Path, path: str):
    settings = ConnectionSettings(
        f"{http.url}/prometheus",
        bearer_token_file=str(token),
        headers={"X-Scope-OrgID": "ml"},
        header_files={"X-Key": str(token)},
        query_parameters={"tenant": "ml"},
    )
    ask(settings, f"{http.url}{path}")
    asked = http.asked[0]
    assert not {"Authorization", "X-Scope-OrgID", "X-Key"} & set(asked.headers)
    assert "tenant" not in asked.parameters


def test_another_port_or_scheme_is_a_url_of_a_resource(http: Server, certificates: Certificates, token: Path):
    with serving() as stranger:
        ask(settings_of(http, bearer_token_file=str(token)), stranger.url)
        ask(replace(settings_of(http, bearer_token_file=str(token)), url=f"https{http.url[4:]}"), http.url)
    assert "Authorization" not in stranger.asked[0].headers
    assert "Authorization" not in http.asked[0].headers


def test_a_redirect_is_not_followed(http: Server, token: Path):
    with serving() as stranger:
        http.reply = lambda _: Reply(b"", 302, {"Location": f"{stranger.url}/login?secret"})
        with pytest.raises(NoAnswer, match=rf"302: redirected to {stranger.url}\. Give the URL") as failure:
            ask(settings_of(http, bearer_token_file=str(token)))
    assert stranger.asked == []
    assert "secret" not in str(failure.value)


def test_what_is_no_answer_of_prometheus_is_not_repeated(http: Server):
    http.reply = lambda _: Reply(b"the keys of the cluster", headers={"Content-Type": "text/plain"})
    with pytest.raises(NoAnswer, match="text/plain where JSON") as failure:
        ask(ConnectionSettings(), http.url)
    assert "keys" not in str(failure.value)


def test_an_authority_that_is_not_trusted(https: Server, tmp_path: Path):
    with pytest.raises(NoAnswer, match=r"TLS: .*issuer.*--prometheus-ca-file"):
        ask(settings_of(https))
    other = make_certificates(tmp_path).ca
    with pytest.raises(NoAnswer, match=rf"TLS: .* Is {other} .* of the authority"):
        ask(settings_of(https, ca_file=str(other)))
    assert https.asked == []


def test_a_url_of_a_resource_is_verified_whatever_the_operator_takes(https: Server):
    with pytest.raises(NoAnswer, match="only the system's authorities"):
        ask(ConnectionSettings("https://elsewhere", insecure_skip_verify=True), https.url)


def test_any_certificate_is_taken_when_that_is_wanted(https: Server):
    assert ask(settings_of(https, insecure_skip_verify=True)) == []


def test_a_certificate_for_another_name(certificates: Certificates, https: Server):
    url = https.url.replace("localhost", "127.0.0.1")
    with pytest.raises(NoAnswer, match=r"TLS: .*127\.0\.0\.1"):
        ask(ConnectionSettings(url, ca_file=str(certificates.ca)))


def test_a_replaced_authority_is_read_for_the_next_connection(
    https: Server, certificates: Certificates, tmp_path: Path
):
    ca = tmp_path / "ca.crt"
    ca.write_bytes(make_certificates(tmp_path).ca.read_bytes())
    client = Connector(settings_of(https, ca_file=str(ca)))(https.url)
    with pytest.raises(NoAnswer, match="TLS"):
        client.custom_query("up", params={})
    ca.write_bytes(certificates.ca.read_bytes())
    assert client.custom_query("up", params={}) == []


def test_a_server_that_wants_a_certificate(certificates: Certificates):
    with serving(certificates.context(wants_client=True)) as server:
        settings = settings_of(server, ca_file=str(certificates.ca))
        with pytest.raises(NoAnswer, match="--prometheus-client-certificate-file"):
            ask(settings)
        client = {"client_certificate_file": str(certificates.certificate), "client_key_file": str(certificates.key)}
        assert ask(replace(settings, **client)) == []


@pytest.mark.parametrize("setting", ["ca_file", "client_certificate_file"])
@pytest.mark.parametrize(("text", "words"), [(None, "is not there; mount"), ("no PEM", "TLS: |not reached")])
def test_a_file_of_tls_that_can_not_be_used(https: Server, tmp_path: Path, setting: str, text: str, words: str):
    path = tmp_path / "file.pem"
    if text:
        path.write_text(text)
    with pytest.raises(NoAnswer, match=words):
        ask(settings_of(https, **{setting: str(path)}))


def test_https_where_plain_http_is_spoken(http: Server):
    with pytest.raises(NoAnswer, match="does the server speak http://"):
        ask(ConnectionSettings(f"https{http.url[4:]}"))


@pytest.mark.parametrize(("text", "words"), [(None, "can not be read"), ("", "holds nothing"), ("a\nb", "one line")])
def test_a_token_file_that_can_not_be_used(http: Server, tmp_path: Path, text: str | None, words: str):
    path = tmp_path / "token"
    if text is not None:
        path.write_text(text)
    with pytest.raises(NoAnswer, match=words):
        ask(settings_of(http, bearer_token_file=str(path)))
    assert http.asked == []


def test_nobody_listens_or_nobody_knows_the_name():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(NoAnswer, match=r"refused.*Check the URL"):
            ask(ConnectionSettings(url))
    with pytest.raises(NoAnswer, match=r"not reached .*Check the URL"):
        ask(ConnectionSettings("http://prometheus.invalid"))


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


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [
        (429, "7", 7.0),
        (503, "7", 7.0),
        (429, "soon", 0.0),
        (429, "9" * 40, 999999999.0),
        (429, "-1", 0.0),
        (500, "7", 0.0),
    ],
)
def test_what_an_overloaded_server_asks_for(http: Server, status: int, header: str, seconds: float):
    http.reply = lambda _: Reply(b"slow down", status, {"Content-Type": "text/plain", "Retry-After": header})
    with pytest.raises(NoAnswer) as failure:
        ask(settings_of(http))
    assert failure.value.retry_after_seconds == seconds
    assert failure.value.overloaded is (status != 500)


def test_a_date_to_come_back(http: Server):
    http.reply = lambda _: Reply(b"", 429, {"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"})
    with pytest.raises(NoAnswer, match="asked too much") as failure:
        ask(settings_of(http))
    assert failure.value.retry_after_seconds > 1e9


def test_an_answer_without_an_end(http: Server):
    http.reply = lambda _: Reply(b" " * 2**21)
    with pytest.raises(NoAnswer, match=r"more than 1 MiB; let fewer .*, or raise --prometheus-max-answer-mib"):
        ask(settings_of(http, largest_answer_mib=1.0))


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_say_which(http: Server, token: Path, status: int):
    http.reply = lambda _: Reply(b"", status)
    with pytest.raises(NoAnswer, match=f"{status}: the bearer token in {token} is refused"):
        ask(settings_of(http, bearer_token_file=str(token)))
    with pytest.raises(NoAnswer, match="user me"):
        ask(settings_of(http, username="me", password_file=str(token)))
    with pytest.raises(NoAnswer, match="--prometheus-bearer-token-file"):
        ask(settings_of(http))
    with pytest.raises(NoAnswer, match=r"Leave spec\.telemetry\.prometheusURL out"):
        ask(ConnectionSettings(), http.url)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(b"<html></html>", 200, {"Content-Type": "text/html; charset=utf-8"}), "text/html where .*base path"),
        (Reply(b"404 page not found", 404, {"Content-Type": "text/plain"}), "status 404 .*/select/0/prometheus"),
        (Reply({"status": "error", "errorType": "not_found", "error": ""}, 404), "/select/0/prometheus"),
        (Reply({"version": "12"}, 200), "error"),
        (Reply({"status": "success"}, 200), "without a result"),
        (Reply(b"[]", 200), "where JSON of Prometheus should be"),
        (Reply(b'{"status": "succ', 200), "it ends early"),
        (Reply({"status": "error", "errorType": "bad_data", "error": "parse error"}, 400), "bad_data: parse error"),
        (Reply({"status": "error", "errorType": "timeout", "error": "timed out"}, 503), "--prometheus-timeout"),
        (Reply(b"no org id\n", 401, {"Content-Type": "text/plain"}), "X-Scope-OrgID=TENANT"),
        (Reply(EMPTY | {"warnings": ["receive series from 10.0.0.7: no route"]}), "may be partial: receive series"),
        (Reply(EMPTY | {"isPartial": True}), "storage node of VictoriaMetrics is away"),
    ],
)
def test_what_is_no_whole_answer_says_what_to_do(http: Server, reply: Reply, words: str):
    http.reply = lambda _: reply
    with pytest.raises(NoAnswer, match=words):
        ask(settings_of(http))


def test_remarks_on_the_query_are_no_missing_data(http: Server):
    http.reply = lambda _: Reply(EMPTY | {"warnings": ["PromQL warning: bucket label missing"], "infos": ["a"]})
    assert ask(settings_of(http)) == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://me:secret@localhost", "do not belong into a URL"),
        ("http://localhost/latest?x=", "--prometheus-query NAME=VALUE"),
        ("http://localhost/latest#", "--prometheus-query NAME=VALUE"),
        ("http://", "not a URL"),
        ("http://[::1", "not a URL"),
        ("http://localhost:port", "not a URL"),
        ("file:///etc/passwd", "not a URL"),
    ],
)
def test_what_is_no_base_url_is_refused(url: str, words: str):
    with pytest.raises(ValueError, match=words):
        ConnectionSettings(url)
    with pytest.raises(NoAnswer, match=words):
        ask(ConnectionSettings(), url)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bearer_token_file": "t", "username": "u", "password_file": "p"}, "give one of them"),
        ({"username": "u"}, "needs a password file"),
        ({"client_key_file": "k"}, "needs a client certificate"),
        ({"ca_file": "c", "insecure_skip_verify": True}, "give one of them"),
        ({"timeout_seconds": 0.0}, "expected more than 0"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        ConnectionSettings("http://prometheus", **settings)


def test_the_operators_history_url_is_reached_as_its_own_and_needs_one_for_the_present():
    settings = ConnectionSettings("http://near:9090", bearer_token_file="/token", history_url="http://far/prometheus")
    assert settings.for_url("http://far/prometheus/") is settings
    assert settings.for_url("http://far").of_resource
    assert settings.for_url("http://far").bearer_token_file == ""
    with pytest.raises(ValueError, match="give --prometheus-url, too"):
        ConnectionSettings(history_url="http://far")
    with pytest.raises(ValueError, match="far:9090"):
        ConnectionSettings("http://near:9090", history_url="far:9090")
