"""What a demo would use: what is on the PATH in a range of versions, else what is built, with the time that takes."""

from pathlib import Path

import pytest

from e2e.cluster import programs
from e2e.demo import __main__ as demo
from e2e.demo import plan as plans
from e2e.demo.scenario import FIRST_LIGHT


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PATH and an empty cache; a folder of the PATH to fill."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(plans, "running_docker", lambda: None)
    return folder


def install(folder: Path, name: str, says: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("name", "says", "taken"),
    [
        ("kind", "0.33.0", True),
        ("kind", "0.31.0", True),
        ("kind", "0.30.0", False),
        ("kind", "1.0.0", False),
        ("helm", "v3.17.2", True),
        ("helm", "v4.3.1+g1234", True),
        ("helm", "v3.16.4", False),
        ("kubectl", "Client Version: v1.35.0\nKustomize Version: v5.7.1", True),
        ("kubectl", "Client Version: v1.34.9", False),
        ("kubectl", "no such flag", False),
    ],
)
def test_installed_programs_are_taken_in_a_range_of_versions(tools: Path, name: str, says: str, taken: bool) -> None:
    install(tools, name, says)
    tool = programs.installable()[name]
    assert (tool.installed() is not None) == taken
    if taken:
        assert tool.path() == tools / name


def test_with_everything_installed_nothing_is_built(tools: Path) -> None:
    for name, says in (("kind", "0.33.0"), ("helm", "v4.3.1"), ("kubectl", "Client Version: v1.36.3")):
        install(tools, name, says)
    steps = {step.what: step for step in plans.plan(FIRST_LIGHT)}
    for name in ("kind", "helm", "kubectl"):
        assert str(tools / name) in steps[name].how
        assert steps[name].takes == ""


def test_without_anything_it_says_what_is_built_and_how_long_it_takes(tools: Path) -> None:
    text = plans.told(plans.plan(FIRST_LIGHT))
    assert "none from 0.31 to below 1.0 on the PATH: built from its Go module" in text
    assert "MISSING: go" in text
    assert "7 to 12 min on two cores" in text


def test_the_command_starts_nothing(tools: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--plan"]) == 0
    assert "Nothing was started." in capsys.readouterr().out
    assert not (tmp_path / "cache").exists()
