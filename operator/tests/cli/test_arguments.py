"""What several commands refuse before they begin."""

import logging

import pytest

from dopd.cli.arguments import namespaces
from dopd.cli.log_lines import _TextLines
from dopd.cli.main import main

ESTIMATE = ("profile", "estimate", "--name", "p", "--model", "m", "--gpu", "g", "--output")
MEASURE = (
    "profile", "measure", "--name", "p", "--model", "m", "--gpu", "g", "--prefill-url", "http://127.0.0.1:1",
    "--decode-url", "http://127.0.0.1:1", "--output",
)  # fmt: skip
REPLAY_JSON, REPLAY_HTML = (("replay", "no-trace.csv", option) for option in ("--json", "--html"))


@pytest.mark.parametrize("command", [ESTIMATE, MEASURE, REPLAY_JSON, REPLAY_HTML])
@pytest.mark.parametrize("place", ["no-such-folder/out", "."])
def test_a_file_that_cannot_be_written_is_told_before_the_command_begins(command, place, tmp_path, capsys):
    assert main([*command, str(tmp_path / place)]) == 2
    said = capsys.readouterr().err
    expected = "expected a file in a folder that exists and can be written to"
    assert f"{command[-1]} {tmp_path / place}: {expected}" in said


def test_a_file_of_someone_else_is_told_too(tmp_path, capsys, monkeypatch):
    (tmp_path / "out").touch()
    monkeypatch.setattr("os.access", lambda *_: False)  # who runs the tests may be root, who may write everywhere
    assert main([*REPLAY_JSON, str(tmp_path / "out")]) == 2
    assert "can be written to" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "doctor"])
@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("DOPD_LEASE_NAMESPACE", "Bad Name", "Bad Name: expected a name of lower-case letters"),
        ("DOPD_LEASE_NAME", "a/b", "a/b: expected a name"),
        ("DOPD_NAMESPACES", "a, ../b", "DOPD_NAMESPACES: ../b: expected a name"),
        ("DOPD_PROMETHEUS_TIMEOUT", "ten", "ten: expected a number from 0.1 to 600"),
        ("DOPD_PROMETHEUS_TIMEOUT", "nan", "nan: expected a number"),
        ("DOPD_PROMETHEUS_MAX_ANSWER_MIB", "1e9", "1e9: expected a number from 0.001 to 1024"),
    ],
)
def test_what_the_environment_says_is_checked_as_flags_are(command, variable, value, words, capsys, monkeypatch):
    monkeypatch.setenv(variable, value)
    assert main([command]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "flag", "value", "words"),
    [
        ("DOPD_LEASE_SECONDS", "--lease-seconds", "0", "expected a number from 2 to 300"),
        ("DOPD_LEASE_SECONDS", "--lease-seconds", "soon", "expected a number from 2 to 300"),
        ("DOPD_SHARDS", "--shards", "0", "expected a whole number from 1 to 64"),
        ("DOPD_SHARDS", "--shards", "many", "expected a whole number"),
        ("DOPD_HTTP_PORT", "--http-port", "-1", "expected a port from 0 to 65535"),
        ("DOPD_HTTP_PORT", "--http-port", "70000", "expected a port from 0 to 65535"),
        ("DOPD_LOG_FORMAT", "--log-format", "xml", "expected one of text, json"),
        ("", "--namespace", "*", "expected a name of lower-case letters"),
    ],
)
def test_options_of_run_are_checked_before_it_begins(variable, flag, value, words, capsys, monkeypatch):
    assert main(["run", f"{flag}={value}"]) == 2
    assert f"{value}: {words}" in capsys.readouterr().err
    if variable:
        monkeypatch.setenv(variable, value)
        assert main(["run"]) == 2
        assert f"{value}: {words}" in capsys.readouterr().err


def test_flags_take_the_place_of_namespaces_of_the_environment(monkeypatch):
    monkeypatch.setenv("DOPD_NAMESPACES", "a, b,,a")
    assert namespaces(None) == ("a", "b")
    assert namespaces(["c"]) == ("c",)


@pytest.mark.parametrize("flag", ["--name=Bad Name", "--model= ", f"--gpu={'g' * 64}"])
def test_a_profile_that_could_not_be_applied_is_told_before_it_is_measured(flag, capsys):
    assert main([*MEASURE, "p.yaml", flag]) == 2
    assert "expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the kubeconfig can not be used"),
        (b"\xff\xfe\x00", "the kubeconfig can not be used (UnicodeDecodeError"),
        (b"a: [", "the kubeconfig can not be used"),
        (b"root:x:0:0", "the kubeconfig can not be used"),
        (b"a: 1", "Invalid kube-config file"),
    ],
)
@pytest.mark.parametrize("command", ["run", "doctor"])
def test_a_kubeconfig_that_can_not_be_used_is_named(command, content, words, capsys, monkeypatch, tmp_path):
    path = tmp_path / "config"
    path.write_bytes(content)
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setattr("kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    assert main([command, "--prometheus-url", ""]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert "set KUBECONFIG" in said
    assert "Traceback" not in said


def test_a_record_of_the_log_is_a_line_whatever_it_repeats():
    record = logging.LogRecord("dopd", logging.WARNING, "", 0, "%s", ("no\n2026-01-01 ERROR dopd: gone\x1b[2J",), None)
    assert _TextLines("%(levelname)s %(message)s").format(record) == ("WARNING no 2026-01-01 ERROR dopd: gone\\x1b[2J")
