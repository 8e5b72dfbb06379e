"""Groups of commands that are imported only when they run: an operator's libraries take a second to import."""

import importlib
from collections.abc import Mapping
from typing import NamedTuple

import click

from dopd.cli.errors import did_you_mean


class Entry(NamedTuple):
    """A command of a group.

    Attributes:
        module: that has it, as `command`.
        summary: one line for the list of commands.
    """

    module: str
    summary: str


class Lazy(click.Group):
    """A group whose commands are known by name and summary, and imported when one of them is asked for."""

    def __init__(self, name: str, entries: Mapping[str, Entry], help: str, epilog: str | None = None) -> None:
        super().__init__(name, help=help, epilog=epilog, no_args_is_help=False)
        self._entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order in which a reader needs them."""
        return list(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """What help and completion need to know of a command."""
        entry = self._entries.get(cmd_name)
        return click.Command(cmd_name, help=entry.summary, short_help=entry.summary) if entry else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is asked for, imported."""
        name, *rest = args
        entry = self._entries.get(name)
        if entry is None:
            if ctx.resilient_parsing:
                return None, None, rest
            known = ", ".join(self._entries)
            raise click.UsageError(
                f"{name}: no such command{did_you_mean(name, self._entries)}; expected one of {known}", ctx
            )
        command: click.Command = importlib.import_module(entry.module).command
        return name, command, rest
