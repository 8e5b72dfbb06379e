"""`dopd plan` and `dopd profile` where no cluster is needed, and how commands show what they found."""

import io
import json
import re
import sys
from pathlib import Path

import click
import pytest
import yaml

from dopd.cli import completion
from dopd.cli.main import command as dopd
from dopd.cli.main import main
from dopd.cli.output import columns, facts, painted
from dopd.replay.profiles import load_profile

NAME = "llama-3.1-8b-h100"
LOAD = ("--profile", NAME, "--requests-per-second", "50", "--input-tokens", "2000", "--output-tokens", "200")


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    main([*arguments, "-o", "json"])
    return json.loads(capsys.readouterr().out)


def test_a_plan_needs_no_cluster(capsys: pytest.CaptureFixture[str]):
    assert main(["plan", *LOAD]) == 0
    assert "needed" in capsys.readouterr().out
    alone = as_json(capsys, "plan", *LOAD)["plan"]
    assert alone["allowed"]["gpus"] == alone["needed"]["prefill"] + alone["needed"]["decode"] >= 4
    easier = as_json(capsys, "plan", *LOAD, "--slo-ttft", "9")
    assert easier["plan"]["needed"]["prefill"] <= alone["needed"]["prefill"]


def test_a_budget_that_is_too_small_is_said_and_is_status_1(capsys: pytest.CaptureFixture[str]):
    assert main(["plan", *LOAD, "--gpu-budget", "3"]) == 1
    said = capsys.readouterr().out
    assert "spec.scaling.gpuBudget.max 3" in said
    assert "is below the objective of 99%" in said


def test_objectives_that_no_worker_meets_are_said(capsys: pytest.CaptureFixture[str]):
    assert main(["plan", *LOAD, "--slo-itl", "0.001"]) == 1
    assert "nearest feasible" in capsys.readouterr().out


def test_a_manifest_is_planned_for_without_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    samples = Path(__file__).parents[3] / "config" / "samples"
    assert main(["plan", *LOAD, "--spec", f"{samples}/scaled/inference.yaml", "--requests-per-second", "99"]) == 1
    said = capsys.readouterr().out
    assert "TTFT 1 s, ITL 30 ms" in said
    assert "spec.scaling.prefill.max 4" in said
    assert main(["plan", *LOAD, "--spec", f"{samples}/static/inference.yaml"]) == 2
    assert "spec.scaling is absent" in capsys.readouterr().err
    assert main(["plan", *LOAD, "--load-scale", "2"]) == 2
    assert "--load-scale 2: expected a RESOURCE beside it; name one" in capsys.readouterr().err


def test_a_spec_of_another_kind_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "profile.yaml").write_text("kind: EngineProfile\nspec: {model: m}\n")
    assert main(["plan", "llama", "--spec", f"{tmp_path}/profile.yaml"]) == 2
    told = "profile.yaml: kind EngineProfile; expected a manifest of kind DisaggregatedInference"
    assert told in capsys.readouterr().err


def test_shipped_profiles_are_listed_shown_and_right(capsys: pytest.CaptureFixture[str]):
    assert main(["profile", "list", "--shipped", "-o", "yaml"]) == 0
    names = [one["name"] for one in yaml.safe_load(capsys.readouterr().out)]
    assert NAME in names
    for name in names:
        assert main(["profile", "show", name]) == 0
        assert main(["profile", "check", name]) == 0, capsys.readouterr().out
    assert "prompts/s" in capsys.readouterr().out


def test_without_a_cluster_the_shipped_ones_are_listed_with_a_note(capsys: pytest.CaptureFixture[str]):
    assert main(["profile", "list"]) == 0
    said, note = capsys.readouterr()
    assert NAME in said
    assert "note: the shipped ones alone, since no cluster" in note


def written(folder: Path, **changes: object) -> str:
    spec = load_profile(NAME).model_dump(mode="json", by_alias=True, exclude_none=True)
    path = folder / "p.yaml"
    path.write_text(yaml.safe_dump({"kind": "EngineProfile", "metadata": {"name": "p"}, "spec": {**spec, **changes}}))
    return str(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"correction": 110}, "FAIL .*: fields: spec.correction: "),
        (
            {
                "decode": {
                    **load_profile(NAME).decode.model_dump(mode="json", by_alias=True),
                    "maxRunningRequests": 4096,
                }
            },
            "batches",
        ),
        (
            {"prefill": {"points": [{"tokens": 64, "seconds": 0.01}, {"tokens": 512, "seconds": 0.01}]}},
            "expected longer prompts",
        ),
    ],
)
def test_a_profile_that_can_not_be_right(tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict, words: str):
    assert main(["profile", "check", written(tmp_path, **changes)]) == 1
    assert re.search(words, capsys.readouterr().out)


def test_columns_and_facts_line_up():
    assert columns([["A", "LONG"], ["value", "1"]]) == ["A       LONG", "value   1"]
    assert facts([("Load", "1"), ("On time", "2"), ("None", "")]) == ["Load:    1", "On time: 2"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("terminal", "no_colour", "coloured"), [(True, "", True), (True, "1", False), (False, "", False)]
)
def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch, terminal: bool, no_colour: str, coloured: bool):
    monkeypatch.setattr("sys.stdout", Terminal() if terminal else io.StringIO())
    monkeypatch.setenv("NO_COLOR", no_colour)
    monkeypatch.setenv("TERM", "xterm")
    assert ("\x1b" in painted("x", fg="red")) is coloured


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("pro",), {"profile"}),
        (("profile", ""), {"list", "show", "check", "estimate", "measure"}),
        (("status", "-o", ""), {"table", "wide", "json", "yaml"}),
        (("plan", "--gpu"), {"--gpu-budget"}),
        (("status", "--kubeconfig", "none", ""), set()),
    ],
)
def test_completion_by_kubectl(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], offered: set[str]
):
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-dopd", *words])
    assert completion.complete_for_kubectl() == 0
    *lines, directive = capsys.readouterr().out.splitlines()
    assert directive == ":4"
    assert {line.partition("\t")[0] for line in lines} == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(capsys: pytest.CaptureFixture[str], shell: str):
    assert main(["completion", shell]) == 0
    assert "_DOPD_COMPLETE" in capsys.readouterr().out


def test_as_a_plugin_it_calls_itself_by_kubectl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/kubectl-dopd", "statu"])
    assert main() == 2
    assert capsys.readouterr().err.startswith("kubectl dopd: statu: no such command; did you mean status?")


def test_commands_of_the_page_are_commands():
    """Each line of docs/cli.md that begins with a prompt and asks dopd is taken by the program, option by option."""
    page = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
    asked = [line.partition(" #")[0].split() for line in re.findall(r"^\$ (?:kubectl )?dopd (.*)$", page, re.MULTILINE)]
    assert len(asked) > 10
    mistakes = (["statu"], ["plan", "llama", "--attainment", "99"])  # shown for their answers
    for words in (words for words in asked if words not in mistakes):
        group: click.Command | None = dopd
        while isinstance(group, click.Group):
            context = click.Context(group, info_name="dopd")
            name, group, words = group.resolve_command(context, words)
        assert group
        group.make_context(name, list(words))
