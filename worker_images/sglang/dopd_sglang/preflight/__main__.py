"""`dopd-preflight [--json] [--allow CHECK] -- COMMAND`: check, then become the command."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dopd_sglang.preflight.checks import NAMES, run_all
from dopd_sglang.preflight.findings import Finding, Level, allow, as_json, as_text, passed

REFUSED = 1
USAGE = 2
NOT_STARTED = 127
ALLOW_VARIABLE = "DOPD_PREFLIGHT_ALLOW"
TERMINATION_LOG = Path("/dev/termination-log")
"""What Kubernetes shows in the status of a container that ended."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the command that follows `--`, and become it unless a check refuses or `--report` is given.

    Returns:
        The exit status where the command was not started: 0 with `--report`, 1 refused, 2 usage, 127 no such command.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    place = given.index("--") if "--" in given else len(given)
    options, command = _parser().parse_args(given[:place]), given[place + 1 :]
    allowed = [*options.allow, *filter(None, os.environ.get(ALLOW_VARIABLE, "").split(","))]
    unknown = [name for name in allowed if name not in NAMES]
    if unknown or not command:
        print(_complaint(unknown), file=sys.stderr)
        return USAGE
    findings = allow(run_all(command, os.environ), allowed)
    print(as_json(findings) if options.json else as_text(findings), file=sys.stdout if options.json else sys.stderr)
    sys.stdout.flush()
    if not passed(findings):
        leave_message(findings, TERMINATION_LOG)
        return REFUSED
    if options.report:
        return 0
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"preflight: {command[0]}: {error.strerror}", file=sys.stderr)
        return NOT_STARTED


def leave_message(findings: Sequence[Finding], log: Path) -> None:
    """Write the refusals where Kubernetes looks for them, if this is a container of its."""
    with suppress(OSError):
        if log.exists():
            log.write_text("\n".join(str(each) for each in findings if each.level is Level.REFUSED))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dopd-preflight",
        usage="dopd-preflight [--json] [--report] [--allow CHECK] -- COMMAND",
        description="Check what an SGLang server needs, then become it. Exit status 1: refused.",
    )
    parser.add_argument("--json", action="store_true", help="findings as one line of JSON on standard output")
    parser.add_argument("--report", action="store_true", help="only check; do not start the command")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="CHECK",
        help=f"only warn where this check refuses; also {ALLOW_VARIABLE}, separated by commas: {', '.join(NAMES)}",
    )
    return parser


def _complaint(unknown: list[str]) -> str:
    if unknown:
        return f"dopd-preflight: --allow or {ALLOW_VARIABLE} {', '.join(unknown)}: expected {', '.join(NAMES)}"
    return "dopd-preflight: no command: expected `dopd-preflight -- python3 -m sglang.launch_server ...`"


if __name__ == "__main__":
    sys.exit(main())
