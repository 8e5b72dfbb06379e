"""The command line: one module per command, imported only when it runs."""

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import TextIO, cast

from dopd import __version__
from dopd.api.text import PlainStream

COMMANDS = {
    "run": "run the operator",
    "replay": "run the planner and its peers on a trace, in simulated time",
    "profile": "make an EngineProfile",
    "doctor": "check that the operator can do its work here, and say what to do where it can not",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    # Complaints and logs repeat what they are about, and that may come from anywhere.
    with contextlib.redirect_stderr(cast(TextIO, PlainStream(sys.stderr))):
        return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    # The matrices of a forecast are tiny: more threads only wait for each other. NumPy reads this when it is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(prog="dopd", description="Prefill and decode workers, ahead of the load.")
    parser.add_argument("--version", action="version", version=f"dopd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    named = next((word for word in arguments if word in COMMANDS), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if name == named:
            module = importlib.import_module(f"dopd.cli.{name}")
            module.add_arguments(command)
            command.set_defaults(call=module.call)
    options = parser.parse_args(arguments)
    status: int = options.call(options)
    return status
