"""The table of reserved flags against the flags that the two parsers know.

`flags/` holds the option strings of the released parsers, one flag with its aliases a line, as argparse lists them.
"""

import argparse
from pathlib import Path
from typing import NoReturn

import pytest

from dopd.api.flags import ENGINE_FLAGS, ROUTER_FLAGS, Reserved

FLAGS = Path(__file__).parent / "flags"
PARSERS = [("sglang-0.5.23", ENGINE_FLAGS), ("smg-1.13.0", ROUTER_FLAGS)]


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def options(release: str) -> list[list[str]]:
    return [line.split() for line in (FLAGS / f"{release}.txt").read_text().splitlines()]


def refused(word: str, table: tuple[Reserved, ...]) -> bool:
    """What the rule of the schema says, in Python."""
    name = word.split("=")[0]
    return any(flag.startswith(name) for group in table for flag in group.flags)


@pytest.mark.parametrize(("release", "table"), PARSERS)
def test_each_reserved_flag_exists_and_stands_there_with_all_its_names(release: str, table: tuple[Reserved, ...]):
    listed = {flag for group in table for flag in group.flags}
    reserved = {name for names in options(release) if listed.intersection(names) for name in names if len(name) > 2}
    assert reserved == listed


@pytest.mark.parametrize(("release", "table"), PARSERS)
def test_no_other_flag_is_refused(release: str, table: tuple[Reserved, ...]):
    listed = {flag for group in table for flag in group.flags}
    others = [name for names in options(release) for name in names if name not in listed and len(name) > 2]
    assert len(others) > 100
    assert [name for name in others if refused(name, table)] == []


@pytest.mark.parametrize(("release", "table"), PARSERS)
def test_every_beginning_that_argparse_takes_for_a_reserved_flag_is_refused(release: str, table: tuple[Reserved, ...]):
    parser = Parser(add_help=False)
    for names in options(release):
        parser.add_argument(*names, dest=names[0], nargs="?", const="given")
    taken = 0
    for names in options(release):
        if not refused(names[-1], table):
            continue
        for flag in names:
            for length in range(3, len(flag) + 1):
                try:
                    found = vars(parser.parse_args([f"{flag[:length]}=x"]))[names[0]]
                except ValueError:
                    continue  # ambiguous
                taken += found == "x"
                assert refused(flag[:length], table)
    assert taken > 100
