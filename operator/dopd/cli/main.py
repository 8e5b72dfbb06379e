"""The command line: one module per command, imported only when it runs."""

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO, cast

import click

from dopd import __version__
from dopd.api.text import PlainStream, one_line
from dopd.cli.commands import Entry, Lazy
from dopd.cli.errors import FAILED, INTERRUPTED, Failed, Refused, told

PLUGIN = "kubectl-dopd"
"""Name of the program as a plugin of kubectl."""
COMMANDS = {
    "status": Entry("dopd.cli.status", "what a resource does now: workers, load, forecast, lateness, last decisions"),
    "explain": Entry("dopd.cli.explain", "why a resource has so many workers: loads, formulas, bounds"),
    "plan": Entry("dopd.cli.plan", "what it would have under another load, objective, budget or profile"),
    "replay": Entry("dopd.cli.replay", "run the planner and its peers on a trace, or on a resource's own history"),
    "counterfactual": Entry(
        "dopd.cli.counterfactual", "what static counts, an HPA and hindsight would have used, once an hour, as metrics"
    ),
    "profile": Entry("dopd.cli.profile", "list, show, check, estimate and measure EngineProfiles"),
    "doctor": Entry("dopd.cli.doctor", "check that the operator can do its work here, and say what to do where not"),
    "run": Entry("dopd.cli.run", "run the operator"),
    "completion": Entry("dopd.cli.completion", "print what makes a shell complete commands, options and names"),
}

command = Lazy(
    "dopd",
    COMMANDS,
    help="Prefill and decode workers, ahead of the load.",
    epilog="Exit status: 0 done; 1 tried and failed, or something is wrong; 2 refused, with option, value and what is "
    "expected; 130 interrupted. Colours are off when output is piped, and with NO_COLOR.",
)
command.params.append(
    click.Option(
        ["--version"], is_flag=True, expose_value=False, is_eager=True, help="show it", callback=lambda *a: _version(*a)
    )
)


def _version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        click.echo(f"dopd {__version__}")
        ctx.exit()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    # Complaints and logs repeat what they are about, and that may come from anywhere.
    with contextlib.redirect_stderr(cast(TextIO, PlainStream(sys.stderr))):
        return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    # The matrices of a forecast are tiny: more threads only wait for each other. NumPy reads this when it is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    prog = "kubectl dopd" if Path(sys.argv[0]).name == PLUGIN else "dopd"
    try:
        status = command.main(arguments, prog_name=prog, complete_var="_DOPD_COMPLETE", standalone_mode=False)
        return int(status or 0)
    except click.ClickException as error:
        print(one_line(told(error, f"{prog} {_asked(arguments)}".strip())), file=sys.stderr)
        return Refused.status
    except Failed as error:
        print(f"{prog} {_asked(arguments)}: {one_line(str(error))}", file=sys.stderr)
        return error.status
    except click.Abort:
        return INTERRUPTED
    except BrokenPipeError:  # `dopd ... | head` has read what it wants
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - the interpreter flushes it at its end
        return FAILED


def _asked(arguments: Sequence[str] | None) -> str:
    """The command that was asked for: `status`, `profile show`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    named = next((word for word in words if word in COMMANDS), "")
    rest = words[words.index(named) + 1 :] if named else []
    way = next((word for word in rest if not word.startswith("-")), "") if named == "profile" else ""
    return f"{named} {way}".strip()
