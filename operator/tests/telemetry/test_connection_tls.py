"""TLS towards Prometheus, with real certificates."""

from dataclasses import replace
from pathlib import Path

import pytest

from dopd.telemetry.connection import ConnectionSettings, Connector, NoAnswer

from .server import Certificates, Server, ask, make_certificates, serving, settings_of


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
