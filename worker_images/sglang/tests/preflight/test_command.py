"""`dopd-preflight` as a command: it reports, refuses, or becomes the engine."""

import json
import subprocess
import sys

import pytest

from dopd_sglang.preflight import checks
from dopd_sglang.preflight.__main__ import leave_message
from dopd_sglang.preflight.findings import Level, allow, ok, passed, refused


@pytest.fixture
def engine(tmp_path):
    """A package `sglang` of a known version, whose server prints its arguments, and a model."""
    package = tmp_path / "packages" / "sglang"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "launch_server.py").write_text("import os, sys\nprint('engine', os.getpid(), *sys.argv[1:])\n")
    metadata = package.parent / "sglang-0.5.23.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: sglang\nVersion: 0.5.23\n")
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"x")
    command = [
        sys.executable,
        "-m",
        "sglang.launch_server",
        "--model-path",
        str(model),
        "--device",
        "cpu",
        "--port",
        "0",
    ]
    environment = {"PYTHONPATH": str(package.parent), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}

    def run(*options, more=(), command=command, **variables):
        words = [sys.executable, "-m", "dopd_sglang.preflight", *options, "--", *command, *more]
        process = subprocess.Popen(
            words, env=environment | variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        said, complained = process.communicate(timeout=15)
        return process, said, complained

    return run


def test_it_becomes_the_engine_with_the_same_process_and_arguments(engine):
    process, said, complained = engine()
    assert process.returncode == 0, complained
    assert said.startswith(f"engine {process.pid} --model-path")
    assert "skipped gpus: --device cpu: no GPU is checked" in complained


def test_it_refuses_before_the_engine_starts(engine):
    process, said, complained = engine(more=["--disaggregation-mode", "prefill", "--disaggregation-boot=0"])
    assert (process.returncode, said) == (1, "")
    assert "refused rdma: --disaggregation-transfer-backend mooncake: no RDMA device" in complained


def test_a_check_can_be_overruled(engine):
    more = ["--disaggregation-mode", "decode"]
    assert engine("--allow", "rdma", more=more)[1].startswith("engine")
    assert engine(more=more, DOPD_PREFLIGHT_ALLOW="rdma,ports")[1].startswith("engine")


def test_a_report_starts_nothing_and_is_json_on_demand(engine):
    process, said, _ = engine("--report", "--json")
    report = json.loads(said)
    assert process.returncode == 0
    assert report["passed"] is True
    assert {"check": "version", "level": "ok", "found": "SGLang 0.5.23", "expected": "", "fix": ""} in report[
        "findings"
    ]


@pytest.mark.parametrize(
    ("options", "command", "status", "said"),
    [
        (["--allow", "everything"], ["sglang", "serve"], 2, "expected version, flags"),
        ([], [], 2, "no command"),
        ([], ["vllm", "serve"], 1, "refused flags"),
    ],
)
def test_what_cannot_be_understood_is_told(engine, options, command, status, said):
    process, _, complained = engine(*options, command=command)
    assert process.returncode == status
    assert said in complained


def test_an_engine_that_is_not_there(engine):
    command = ["/no/such/sglang", "serve", "--device=cpu", "--model=org/model", "--port=0"]
    process, _, complained = engine(command=command)
    assert process.returncode == 127
    assert "/no/such/sglang" in complained


def test_a_check_that_fails_itself_refuses_nothing(monkeypatch):
    def broken(*_):
        raise RuntimeError("surprise")

    monkeypatch.setattr(checks.transfer, "probe", broken)
    findings = checks.run_all(["sglang", "serve", "org/model", "--device=cpu", "--port=0"], {})
    finding = next(each for each in findings if each.check == "rdma")
    assert finding.level is Level.WARNING
    assert "RuntimeError: surprise" in finding.found


@pytest.mark.parametrize(("version", "level"), [("0.5.23", Level.OK), ("0.6.0", Level.WARNING), (None, Level.REFUSED)])
def test_a_release_that_is_not_known_is_told(version, level):
    assert checks.check_version(version).level is level


def test_kubernetes_is_told_why(tmp_path):
    log = tmp_path / "termination-log"
    findings = [ok("cache", "/c"), refused("rdma", "no device", "RDMA", "ask for it")]
    leave_message(findings, log)
    assert not log.exists()
    log.touch()
    leave_message(findings, log)
    assert log.read_text() == "refused rdma: no device; expected RDMA; fix: ask for it"


def test_only_the_named_refusals_are_allowed():
    findings = [refused("rdma", "a", "b", "c"), refused("ports", "a", "b", "c")]
    assert [each.level for each in allow(findings, ["rdma"])] == [Level.WARNING, Level.REFUSED]
    assert not passed(allow(findings, ["rdma"]))
