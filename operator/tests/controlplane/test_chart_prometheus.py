"""The chart's values for the connection to Prometheus reach the command, and the files that it reads are mounted."""

from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest

from dopd.cli import doctor, run
from dopd.cli.prometheus_flags import connection_settings
from dopd.telemetry.connection import ConnectionSettings

from .chart import EVERYTHING, render

FOLDER = "/etc/dopd/prometheus"
URL = {"prometheusURL": "https://thanos:9091"}


def pod(**values: str) -> dict[str, Any]:
    """Spec of the operator's pods."""
    deployments = [m for m in render("here", **{**URL, **values}) if m["kind"] == "Deployment"]
    (deployment,) = [d for d in deployments if not d["metadata"]["name"].endswith("-counterfactual")]
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


def settings(monkeypatch: pytest.MonkeyPatch, spec: dict[str, Any], command: Any = run) -> ConnectionSettings:
    """What a command in the container reads."""
    for variable in spec["containers"][0]["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    return connection_settings(SimpleNamespace(**command.command.make_context("dopd", []).params))


def mounted(spec: dict[str, Any]) -> dict[str, str]:
    """Where each file comes from, by its path in the container."""
    (volume,) = [volume["projected"] for volume in spec["volumes"] if volume["name"] == "prometheus"]
    (mount,) = [mount for mount in spec["containers"][0]["volumeMounts"] if mount["name"] == "prometheus"]
    files = {}
    for source in volume["sources"]:
        ((kind, what),) = source.items()
        for item in what.get("items", [{"key": "", "path": what.get("path")}]):
            path = str(PurePosixPath(mount["mountPath"]) / item["path"])
            files[path] = f"{kind} {what.get('name', what.get('audience', ''))} {item['key']}".strip()
    return files


def test_nothing_is_mounted_by_default(monkeypatch: pytest.MonkeyPatch):
    spec = pod()
    assert [volume["name"] for volume in spec["volumes"]] == ["tmp"]
    assert settings(monkeypatch, spec) == ConnectionSettings("https://thanos:9091")


@pytest.mark.parametrize("command", [run, doctor])
def test_all_of_it_reaches_the_command(monkeypatch: pytest.MonkeyPatch, command: Any):
    spec = pod(**EVERYTHING, **{"prometheus.headers.X-Team": "a=b", "prometheus.timeoutSeconds": "7"})
    found = settings(monkeypatch, spec, command)
    assert found == ConnectionSettings(
        url=EVERYTHING["prometheusURL"],
        history_url=EVERYTHING["prometheusHistoryURL"],
        timeout_seconds=7.0,
        bearer_token_file=f"{FOLDER}/token",
        ca_file=f"{FOLDER}/ca.crt",
        client_certificate_file=f"{FOLDER}/tls.crt",
        client_key_file=f"{FOLDER}/tls.key",
        headers={"X-Scope-OrgID": "ml", "X-Team": "a=b"},
        header_files={"X-Key": f"{FOLDER}/headers/X-Key"},
        query_parameters={"max_source_resolution": "auto"},
    )
    assert mounted(spec) == {
        f"{FOLDER}/token": "secret token token",
        f"{FOLDER}/ca.crt": "configMap authority ca.crt",
        f"{FOLDER}/tls.crt": "secret certificate tls.crt",
        f"{FOLDER}/tls.key": "secret certificate tls.key",
        f"{FOLDER}/headers/X-Key": "secret key key",
    }


def test_basic_authentication(monkeypatch: pytest.MonkeyPatch):
    spec = pod(**{"prometheus.basicAuth.username": "me", "prometheus.basicAuth.existingSecret": "s"})
    found = settings(monkeypatch, spec)
    assert (found.username, found.password_file) == ("me", f"{FOLDER}/password")
    assert mounted(spec) == {f"{FOLDER}/password": "secret s password"}


@pytest.mark.parametrize(("audience", "source"), [("", "serviceAccountToken"), ("t", "serviceAccountToken t")])
def test_a_token_of_the_service_account(monkeypatch: pytest.MonkeyPatch, audience: str, source: str):
    values = {"prometheus.serviceAccountToken.enabled": "true", "prometheus.serviceAccountToken.audience": audience}
    spec = pod(**values, **{"prometheus.insecureSkipVerify": "true"})
    found = settings(monkeypatch, spec)
    assert (found.bearer_token_file, found.insecure_skip_verify) == (f"{FOLDER}/token", True)
    assert mounted(spec) == {f"{FOLDER}/token": source}
