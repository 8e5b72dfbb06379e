"""Reaching Prometheus over real sockets: credentials, whom they are for, and what is no answer."""

import gzip
import math
import socket
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dopd.telemetry.connection import ConnectionSettings, Connector, NoAnswer

from .server import EMPTY, Certificates, Reply, Server, ask, serving, settings_of

UP = {"metric": {"__name__": "up"}, "value": [1, "1"]}


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
