"""Flags of the connection to Prometheus: they add to the environment, and what is wrong is named."""

from types import SimpleNamespace

import pytest

from dopd.cli import doctor, main
from dopd.cli.prometheus_flags import connection_settings
from dopd.telemetry.connection import ConnectionSettings


def settings(*arguments: str) -> ConnectionSettings:
    given = doctor.command.make_context("doctor", list(arguments)).params
    return connection_settings(SimpleNamespace(**given))


def test_flags_add_to_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOPD_PROMETHEUS_URL", "http://here")
    monkeypatch.setenv("DOPD_PROMETHEUS_HEADER", "A=1\nB=2=3\n")
    found = settings("--prometheus-header", "C=4", "--prometheus-header", "A=5", "--prometheus-query", "dedup=")
    assert found.url == "http://here"
    assert found.headers == {"A": "5", "B": "2=3", "C": "4"}
    assert found.query_parameters == {"dedup": ""}


def test_labels_of_series_go_with_the_operators_own_url_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOPD_PROMETHEUS_SERIES_LABEL", "cluster=eu\n")
    found = settings("--prometheus-url", "http://here", "--prometheus-series-label", "prometheus=k8s")
    assert found.for_url("http://here/").series_labels == {"cluster": "eu", "prometheus": "k8s"}
    assert found.for_url("http://there").series_labels == {}


@pytest.mark.parametrize("command", ["run", "doctor"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prometheus-header", "A"], "--prometheus-header A: expected NAME=VALUE"),
        (["--prometheus-query", "=A"], "--prometheus-query =A: expected NAME=VALUE"),
        (["--prometheus-url", "http://me:secret@here"], "credentials do not belong into a URL"),
        (["--prometheus-username", "me"], "needs a password file"),
        (["--prometheus-series-label", "my-cluster=eu"], "series label my-cluster: expected letters, digits and '_'"),
    ],
)
def test_what_is_wrong_is_named(capsys: pytest.CaptureFixture[str], command: str, arguments: list[str], words: str):
    assert main([command, *arguments]) == 2
    assert words in capsys.readouterr().err
