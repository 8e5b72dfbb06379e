"""What the pages hold: headings, links, blocks of code and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "_build" not in page.parts]
_FENCE = re.compile(r"^(\s*)```(\S*)\n(.*?)^\s*```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^ {4}\S.*\n(?: {4,}.*\n)*)", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


class Command(NamedTuple):
    """A command line of a page: the program's name without its folder, and its arguments."""

    page: Path
    program: str
    arguments: list[str]

    def __str__(self) -> str:
        return f"{name_of(self.page)}: {self.program} {' '.join(self.arguments)}"


class Block(NamedTuple):
    """A block of code and its language."""

    page: Path
    language: str
    text: str


def name_of(page: Path) -> str:
    """The page as a person names it."""
    return str(page.relative_to(ROOT))


@cache
def blocks(page: Path) -> list[Block]:
    """Fenced blocks, without the indentation that a list gives them."""
    found = []
    for indent, language, text in _FENCE.findall(page.read_text()):
        lines = [line.removeprefix(indent) for line in text.splitlines()]
        found.append(Block(page, language, "\n".join(lines) + "\n"))
    return found


@cache
def prose(page: Path) -> str:
    """The text without blocks and literals: what may hold links and headings."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text()))


def links(page: Path) -> list[str]:
    """Targets of links and pictures."""
    return _LINK.findall(prose(page))


@cache
def anchors(page: Path) -> set[str]:
    """Anchors of the headings, as GitHub and MyST make them."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", heading.replace("`", "").strip().lower())
        found.add(words.replace(" ", "-"))
    return found


def commands(page: Path) -> Iterator[Command]:
    """Lines of consoles after their prompt, and of indented blocks that begin with a program."""
    lines: list[str] = []
    for block in blocks(page):
        if block.language in ("console", "", "bash"):
            joined = block.text.replace("\\\n", " ")
            prompted = block.language == "console"
            lines += [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ") or not prompted]
    for text in _INDENTED.findall(_FENCE.sub("", page.read_text())):
        lines += [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    for line in lines:
        for part in line.split(" | "):
            yield from _command(page, part)


def _command(page: Path, line: str) -> Iterator[Command]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # prose
        return
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    words = words[: words.index(">")] if ">" in words else words
    if words and words[0] == "kubectl" and "--" in words:
        rest = words[words.index("--") + 1 :]
        yield from _command(page, shlex.join(rest))
        words = words[: words.index("--")]
    if words and not re.match(r"[0-9]", words[1] if words[1:] else ""):  # a row of a table of results
        yield Command(page, Path(words[0]).name, words[1:])
