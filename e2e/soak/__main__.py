"""Command line: `python -m e2e.soak`."""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from datetime import datetime
from types import FrameType

from dopd.cli.errors import did_you_mean
from e2e import stack as stacks
from e2e.arguments import file_to_write
from e2e.cluster.daemon import docker_session
from e2e.cluster.errors import ClusterError
from e2e.cluster.steps import say
from e2e.soak import report
from e2e.soak.day import arrivals
from e2e.soak.ground import ENGINES, GPUS, NAME, ground_on
from e2e.soak.page import page
from e2e.soak.plan import Kind, Planned, plan
from e2e.soak.run import Record, Run
from e2e.stack import Stack


def main(arguments: list[str] | None = None) -> int:
    """Soak; 0 when all was as it should be, 1 when not, 2 when it could not be run."""
    parser = _parser()
    options = parser.parse_args(arguments)
    planned = plan(options.seed, options.minutes, kinds=options.faults, settle_seconds=options.settle)
    if not planned:
        parser.error(f"--minutes {options.minutes:g}: expected time for one fault of --faults at least; raise it to 3")
    _tell(planned)
    signal.signal(signal.SIGTERM, _interrupt)
    stack: Stack | None = None
    try:
        stack = stacks.up(options.name)
        return _soaked(stack, planned, options)
    except (ClusterError, TimeoutError, KeyboardInterrupt) as error:
        print(f"error: {error or 'interrupted'}", file=sys.stderr)
        if stack is not None:
            say(f"what the cluster looked like: {stacks.collect(stack, NAME)}")
        return 2
    finally:
        if not options.keep:
            stacks.down(options.name)


def _soaked(stack: Stack, planned: Sequence[Planned], options: argparse.Namespace) -> int:
    say("the resource is applied, and its first workers are waited for")
    ground = ground_on(stack)
    seconds = 60 * options.minutes
    schedule = arrivals(ENGINES, seconds, options.seed)
    began = datetime.now().astimezone()
    record = Record(NAME, options.seed, GPUS, seconds, options.hours, schedule, began, planned)
    say(f"{len(schedule)} requests in {options.minutes:g} minutes; faults come at random times of seed {options.seed}")
    with docker_session(stack.cluster.docker_host) as docker:
        Run(ground, docker, record, settle_seconds=options.settle, say=say).play()
    found = report.as_json(record)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if options.html:
        options.html.write_text(page(found), encoding="utf-8")
    print(report.table(found), end="")
    passed = not report.problems(found)
    if not passed:
        print(f"what the cluster looked like: {stacks.collect(stack, NAME)}", file=sys.stderr)
    if options.keep:
        ground.delete()
    return 0 if passed else 1


def _tell(planned: Sequence[Planned]) -> None:
    for each in planned:
        say(f"planned at {each.at_seconds:.0f} s at the earliest: {each.kind}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt("ended by SIGTERM")


def _kinds(text: str) -> tuple[Kind, ...]:
    names = text.split(",")
    for name in names:
        if name not in tuple(Kind):
            hint = did_you_mean(name, list(Kind))
            raise argparse.ArgumentTypeError(f"{name!r}: expected NAME,... of {', '.join(Kind)}{hint}")
    return tuple(dict.fromkeys(map(Kind, names)))


def _above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: expected a number greater than zero, such as 40")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: expected seconds, zero or more, such as 60")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.soak", description="A working day in fast motion with faults at random, all counted."
    )
    add = parser.add_argument
    add("--hours", type=_above_zero, default=8.0, help="that the day stands for (default: %(default)s)")
    add("--minutes", type=_above_zero, default=40.0, help="that it takes, of the clock (default: %(default)s)")
    add("--seed", type=int, default=24, help="of load, times and faults (default: %(default)s)")
    add(
        "--faults", type=_kinds, default=tuple(Kind), metavar="NAME,...",
        help=f"which may come, of {', '.join(Kind)} (default: all)",
    )  # fmt: skip
    add(
        "--settle",
        type=_seconds,
        default=60.0,
        metavar="S",
        help="from one to the next at least (default: %(default)s)",
    )
    add("--json", type=file_to_write, metavar="FILE", help="write what was found")
    add("--html", type=file_to_write, metavar="FILE", help="write a page of the run")
    add("--name", default=stacks.cluster_name(NAME), help="name of the cluster (default: %(default)s)")
    add("--keep", action="store_true", help="leave the cluster up")
    return parser


if __name__ == "__main__":
    sys.exit(main())
