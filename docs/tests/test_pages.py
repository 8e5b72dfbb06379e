"""Links lead somewhere, and what a page tells to type or to apply is taken by what would read it."""

import importlib.util
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from dopd.api.conditions import REASONS, ConditionReason, ConditionType, PoolReason
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.cli.main import command as dopd

from .pages import PAGES, ROOT, Command, anchors, blocks, commands, links, name_of

COMMANDS = [found for page in PAGES for found in commands(page)]
VALUES = yaml.safe_load((ROOT / "charts" / "dopd" / "values.yaml").read_text())
BASE = {
    "model": "m",
    "engine": {"image": "i"},
    "prefill": {"gpus": 1},
    "decode": {"gpus": 1},
    "router": {"image": "r"},
    "scaling": {"prefill": {"min": 1, "max": 8}, "decode": {"min": 1, "max": 8}, "profileRef": {"name": "p"}},
}
"""What the parts of a resource in the pages are put into."""


def of(program: str) -> list[Any]:
    return [pytest.param(found, id=str(found)) for found in COMMANDS if found.program == program]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_their_anchors_exist(page: Path):
    for link in links(page):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{link}: there is no {file}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{link}: no heading of {name_of(file)} has that anchor"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_is_yaml_can_be_read_and_resources_are_valid(page: Path):
    for block in blocks(page):
        if block.language not in ("yaml", "yml"):
            continue
        for document in yaml.safe_load_all(block.text):
            if document.get("kind") == "DisaggregatedInference":
                DisaggregatedInferenceSpec.model_validate(document["spec"])
            elif list(document) == ["spec"]:
                DisaggregatedInferenceSpec.model_validate(merged(BASE, document["spec"]))


def merged(base: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    both = {key: base[key] for key in base.keys() - part.keys()}
    for key, value in part.items():
        inner = base.get(key)
        both[key] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return both


@pytest.mark.parametrize("found", of("dopd"))
def test_dopd_takes_its_command_lines(found: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # What a reader puts in is written in capitals.
    words = [word.lower().replace("_", "-") if re.fullmatch("[A-Z_]+", word) else word for word in found.arguments]
    words = [word for word in words if word != "..."]
    for entry in ROOT.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    for word in words:  # files of the reader's own
        if not word.startswith(("-", "generated:")) and "/" not in word and not (tmp_path / word).exists():
            (tmp_path / word).touch()
    monkeypatch.chdir(tmp_path)
    parse(words)


def parse(words: Sequence[str]) -> None:
    """Have the real parser take a command line, and do nothing.

    Raises:
        click.ClickException: it does not.
    """
    chosen: click.Command = dopd
    context = dopd.make_context("dopd", list(words))
    while isinstance(chosen, click.Group):
        rest = [*context._protected_args, *context.args]
        name, next_one, rest = chosen.resolve_command(context, rest)
        assert next_one is not None, name
        chosen = next_one
        context = chosen.make_context(name, rest, parent=context)


@pytest.mark.parametrize("found", of("kubectl"))
def test_files_that_kubectl_gets_exist(found: Command):
    words = found.arguments
    for flag, file in itertools.pairwise(words):
        if flag in ("-f", "-k", "--filename", "--kustomize") and "/" in file:
            assert (ROOT / file).exists(), file


@pytest.mark.parametrize("found", of("helm"))
def test_helm_gets_a_chart_and_values_that_exist(found: Command):
    words = found.arguments
    assert "charts/dopd" in words or "uninstall" in words or "upgrade" in words or "rollback" in words
    for flag, word in itertools.pairwise(words):
        if flag == "--show-only":
            assert (ROOT / "charts" / "dopd" / word).exists(), word
        if flag in ("--set", "--set-string"):
            for path in re.findall(r"(?:^|,)([A-Za-z][\w.]*)=", word):
                assert has(VALUES, path), f"{path} is no value of the chart"


def has(values: Any, path: str) -> bool:
    for part in path.split("."):
        if not isinstance(values, dict) or (values and part not in values):
            return False
        values = values.get(part)
    return True


@pytest.mark.parametrize("found", of("make"))
def test_verbs_of_make_exist(found: Command):
    verbs = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = {word for word in found.arguments if "=" not in word}
    assert asked <= verbs


@pytest.mark.parametrize("found", [*of("python"), *of("python3")])
def test_modules_and_scripts_exist(found: Command):
    words = found.arguments
    if words[0] == "-m":
        assert importlib.util.find_spec(words[1]), words[1]
    else:
        assert (ROOT / words[0]).exists(), words[0]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tests_that_a_page_names_exist(page: Path):
    for path in re.findall(r"`((?:[\w-]+/)+test_\w+\.py)`", page.read_text()):
        folders = ("", "operator/tests", "worker_images/simulator/tests")
        assert any((ROOT / folder / path).exists() for folder in folders), path


CONDITIONS: dict[str, Sequence[str]] = {**REASONS, "Satisfied": tuple(PoolReason)}


@pytest.mark.parametrize("kind", [*ConditionType, "Satisfied"])
def test_each_condition_has_a_runbook_that_names_its_reasons(kind: str):
    text = (ROOT / "docs" / "operate.md").read_text()
    section = re.search(rf"^### {kind}\n(.*?)^##", text, re.MULTILINE | re.DOTALL)
    assert section, kind
    reasons = {reason for reason in CONDITIONS[kind] if reason != ConditionReason.AS_EXPECTED}
    assert {reason for reason in reasons if f"`{reason}`" not in section[1]} == set()
