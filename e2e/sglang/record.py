"""A pytest plugin that notes which behaviour was asserted on which kind of engine, and the table that is made of it.

`pytest -p e2e.sglang.record --record FILE` writes the notes, `table` makes Markdown of them, `replace_table` puts that
into a page. A behaviour is a test's name, its source the test's docstring, its kind the parameter `kind`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.marked import marked

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
KINDS = ("real", "simulated")


@dataclass(frozen=True)
class Note:
    """The outcome of one test.

    Attributes:
        area: the test's file, in words.
        behaviour: the test's name, in words.
        source: where in SGLang's source it comes from, and what it is.
        kind: real or simulated.
        outcome: yes, no, or what the engine does instead.
    """

    area: str
    behaviour: str
    source: str
    kind: str
    outcome: str


class Recorder:
    """Collects notes and writes them at the end."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._notes: list[Note] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        """Note how a test ended, or that it could not begin."""
        report = yield
        kind = item.callspec.params.get("kind", "real") if hasattr(item, "callspec") else "real"
        if kind in KINDS and (report.when == "call" or report.failed):
            assert isinstance(item, pytest.Function)
            name = item.originalname
            source = " ".join((item.function.__doc__ or "").split())
            self._notes.append(Note(_words(item.path.stem), _words(name), source, kind, _outcome(report)))
        return report

    def pytest_sessionfinish(self) -> None:
        """Write what was noted."""
        self._target.write_text(json.dumps([asdict(note) for note in self._notes], indent=1))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --record."""
    parser.addoption("--record", type=Path, help="file that gets the outcome of each behaviour, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Record when asked to."""
    if target := config.getoption("--record"):
        config.pluginmanager.register(Recorder(target))


def _words(name: str) -> str:
    return name.removeprefix("test_").replace("_", " ").capitalize()


def _outcome(report: pytest.TestReport) -> str:
    if report.passed:
        return "yes"
    return str(getattr(report, "wasxfail", "")) or "no"


def read(*files: Path) -> list[Note]:
    """The notes of several runs."""
    return [Note(**fields) for file in files for fields in json.loads(file.read_text())]


def table(notes: Sequence[Note], version: str) -> str:
    """One table for each area: behaviour, source, and how each kind of engine does."""
    return "\n".join(_lines(notes, version))


def _lines(notes: Sequence[Note], version: str) -> Iterator[str]:
    for area in dict.fromkeys(note.area for note in notes):
        yield from (f"### {area}", "", f"| behaviour | source | SGLang {version} | simulator |", "|---|---|---|---|")
        here = [note for note in notes if note.area == area]
        for behaviour in dict.fromkeys(note.behaviour for note in here):
            same = [note for note in here if note.behaviour == behaviour]
            cells = [behaviour, same[0].source, *(_of_kind(same, kind) for kind in KINDS)]
            yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
        yield ""


def _of_kind(notes: Sequence[Note], kind: str) -> str:
    """What all variants of a test say together: the worst of them; a dash where the kind is not tested."""
    outcomes = {note.outcome for note in notes if note.kind == kind}
    return "; ".join(sorted(outcomes - {"yes"})) or ("yes" if outcomes else "-")


def replace_table(page: str, table: str) -> str:
    """`page` with `table` between its marks.

    Raises:
        ValueError: the page lacks a mark.
    """
    head, _, tail = marked(page, BEGIN, END)
    return f"{head}\n\n{table.strip()}\n\n{tail}"
