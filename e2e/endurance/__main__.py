"""Command line: `python -m e2e.endurance run|rollouts|times|table`."""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e import stack as stacks
from e2e.cluster.errors import ClusterError
from e2e.endurance import report, serving, times
from e2e.endurance.engines import ENGINES
from e2e.endurance.field import Field
from e2e.endurance.plan import Kind, steps
from e2e.endurance.rollouts import SCENARIOS
from e2e.endurance.run import run
from e2e.stack import Stack

FLIPS = {Kind.FLIP: 50, Kind.SCALE_DOWN: 10, Kind.ROLLOUT: 2, Kind.EVICTION: 2}
"""With flips a rebalance is one. Nobody but the driver sets the numbers then: the planner flips where that is sooner
than a start, and simulated engines start soon."""

USUAL = {
    Kind.SCALE_DOWN: 50,
    Kind.REBALANCE: 20,
    Kind.ROLLOUT: 10,
    Kind.EVICTION: 10,
    Kind.NODE_DRAIN: 5,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when nothing was lost and the cap held, 1 when not, 2 when it could not be run."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "run" and options.first >= (total := sum(options.counts.values())):
        parser.error(f"--first {options.first}: expected less than the {total} disturbances of the sequence")
    try:
        if options.command == "table":
            print(report.table([json.loads(path.read_text()) for path in options.files]), end="")
            return 0
        with _stack(options.name, keep=options.keep) as stack:
            return {"run": _run, "rollouts": _rollouts, "times": _times}[options.command](stack, options)
    except (ClusterError, TimeoutError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


@contextmanager
def _stack(name: str, *, keep: bool) -> Iterator[Stack]:
    try:
        yield stacks.up(name)
    finally:
        if not keep:
            stacks.down(name)


def _run(stack: Stack, options: argparse.Namespace) -> int:
    flips = {"roleSwitching__enabled": True, "scaling__mode": "External"} if options.counts.get(Kind.FLIP) else {}
    engines = ENGINES[options.engines]
    ground = Field(stack, "endurance", gpus=options.gpus, gateways=2, engines=engines, **flips)
    sequence = steps(options.counts, gpus=options.gpus, seed=options.seed)[options.first :]
    ground.create(sequence[0].start)
    try:
        found = report.as_json(
            run(
                ground,
                sequence,
                requests_per_second=options.rate,
                seed=options.seed + options.first,
                seconds=60 * options.minutes,
                say=lambda line: print(line, flush=True),
            )
        )
    except BaseException:
        stacks.collect(stack, "endurance")
        raise
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    print(report.table([found]), end="")
    if not report.passed(found):
        print(f"what the cluster looked like: {stacks.collect(stack, 'endurance')}", file=sys.stderr)
    ground.delete()
    return 0 if report.passed(found) else 1


def _rollouts(stack: Stack, options: argparse.Namespace) -> int:
    found = {name: SCENARIOS[name](stack) for name in options.scenarios or SCENARIOS}
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    return 0 if all(each["passed"] for each in found.values()) else 1


def _times(stack: Stack, options: argparse.Namespace) -> int:
    found = times.measure(stack, starts=options.starts, flips=options.flips, say=lambda line: print(line, flush=True))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    made = serving.table(found["moves"])
    print(made, end="")
    print(f"{found['requests']} requests, {found['lost']} lost")
    if not times.passed(found):
        print(f"what the cluster looked like: {stacks.collect(stack, 'times')}", file=sys.stderr)
        return 1
    if options.docs:
        times.PAGE.write_text(times.with_table(times.PAGE.read_text(), made))
    return 0


def _counts(text: str) -> dict[Kind, int]:
    try:
        named = dict(part.split("=") for part in text.split(","))
        return {Kind(kind): int(count) for kind, count in named.items()}
    except ValueError as error:
        kinds = ", ".join(Kind)
        raise argparse.ArgumentTypeError(f"{text!r}: expected KIND=COUNT,... of the kinds {kinds}") from error


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of 0 or more")
    return int(text)


def _written(counts: dict[Kind, int]) -> str:
    return ",".join(f"{kind}={count}" for kind, count in counts.items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m e2e.endurance", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary)
        added.add_argument("--name", default=stacks.cluster_name("endurance"), help="name of the cluster")
        added.add_argument("--keep", action="store_true", help="leave the cluster up")
        added.add_argument("--json", type=Path, metavar="FILE", help="write what was found")
        return added

    long = command("run", "A sequence of disturbances under load, the tokens of each answer counted.")
    long.add_argument(
        "--counts", type=_counts, default=USUAL, metavar="KIND=N,...",
        help=f"disturbances of each kind (default: {_written(USUAL)}; with flips: {_written(FLIPS)})",
    )  # fmt: skip
    long.add_argument("--seed", type=int, default=24, help="of order, numbers and load (default: %(default)s)")
    long.add_argument("--first", type=_count, default=0, metavar="N", help="leave the first N of the sequence out")
    long.add_argument("--minutes", type=float, default=60.0, help="begin no disturbance later (default: %(default)s)")
    long.add_argument("--rate", type=float, default=6.0, help="requests a second (default: %(default)s)")
    long.add_argument(
        "--engines", choices=ENGINES, default="simulated",
        help="what serves: simulated engines, or real SGLang without a GPU (default: %(default)s)",
    )  # fmt: skip
    long.add_argument("--gpus", type=int, default=6, help="budget, one for each worker (default: %(default)s)")
    both = command(
        "rollouts",
        "Rollouts: no GPU is left in the cluster, the load doubles, an outage is accepted.",
    )
    both.add_argument("scenarios", nargs="*", help=f"of {', '.join(SCENARIOS)} (default: all)")
    each = command("times", "Seconds from a decision to the first answer of a worker that starts or changes its role.")
    each.add_argument("--starts", type=int, default=10, help="workers that start (default: %(default)s)")
    each.add_argument("--flips", type=int, default=10, help="workers that change their role (default: %(default)s)")
    each.add_argument("--docs", action="store_true", help="write the table into docs/faults.md")
    table = commands.add_parser("table", help="Several runs together as Markdown.")
    table.add_argument("files", nargs="+", type=Path, help="what `run --json` wrote")
    return parser


if __name__ == "__main__":
    sys.exit(main())
