"""How commands show what they found: columns as kubectl has them, JSON, YAML, and colours where a person looks."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click
import yaml

from dopd.api.text import one_line, plain
from dopd.cli.arguments import F, choice

FORMATS = ("table", "wide", "json", "yaml")
GAP = 3
"""Blanks between columns, as kubectl has them."""


def format_option(*formats: str) -> Callable[[F], F]:
    """`-o`: how to show what was found."""
    known = formats or FORMATS
    told = f"how to show it: {', '.join(known)} (default: {known[0]})"
    return choice("-o", "--output", "form", among=known, default=known[0], help=told)


def colourful() -> bool:
    """Whether a person looks at a terminal that has colours, and wants them (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(text: str, **style: Any) -> str:
    """A text in a style of `click.style`, where there are colours."""
    return click.style(text, **style) if colourful() else text


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, the cells of a column below each other; the first row is the heads."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    gap = " " * GAP
    return [gap.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def facts(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Names and values, a line each, the values below each other."""
    known = [(name, one_line(value)) for name, value in pairs if value]
    width = max((len(name) for name, _ in known), default=0) + 1
    return [f"{f'{name}:':<{width}} {value}" for name, value in known]


def structured(content: Any, form: str) -> str:
    """JSON or YAML of what was found; what comes from a cluster is escaped, not hidden."""
    if form == "json":
        return json.dumps(content, indent=2, allow_nan=False)
    return plain(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)).rstrip()


def show(lines: Iterable[str]) -> None:
    """Print lines; control characters that came from elsewhere stand as their escapes."""
    for line in lines:
        print(line if colourful() else plain(line))
