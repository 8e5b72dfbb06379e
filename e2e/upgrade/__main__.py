"""Command line: `python -m e2e.upgrade [--from REVISION] [NAME ...]`."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from e2e import stack as stacks
from e2e.arguments import one_of
from e2e.cluster.daemon import docker_session
from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import REPOSITORY
from e2e.cluster.steps import say
from e2e.marked import marked
from e2e.stack import Stack
from e2e.upgrade import earlier
from e2e.upgrade.handover import Handover, hand_over, table
from e2e.upgrade.middles import MIDDLES

PAGE = REPOSITORY / "docs" / "upgrading.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def main(arguments: list[str] | None = None) -> int:
    """Exchange operators; 0 when all went as it should, 1 when not, 2 when it could not be run."""
    options = _parser().parse_args(arguments)
    try:
        version = earlier.named(options.revision)
        stack = stacks.up(options.name)
        try:
            found = _exchanged(stack, version, options.middles or list(MIDDLES))
        finally:
            if not options.keep:
                stacks.down(options.name)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    written = table(found, version)
    print(written, end="")
    if options.json:
        options.json.write_text(json.dumps([each.as_json() for each in found], indent=2) + "\n")
    if options.docs:
        head, _, tail = marked(PAGE.read_text(), BEGIN, END)
        PAGE.write_text(f"{head}\n{written}{tail}")
    return 1 if any(each.problems for each in found) else 0


def _exchanged(stack: Stack, version: str, names: list[str]) -> list[Handover]:
    """Each move twice: from the earlier operator to this one, and back by Helm."""
    former = earlier.put(stack.cluster, version)
    this = stack.operator_image()
    found = []
    with docker_session(stack.cluster.docker_host) as docker:
        say(f"installing {version} in place of this version")
        stack.install_operator(former.image, former.chart)
        for name in names:
            ways: dict[str, Callable[[], None]] = {
                "upgrade": lambda: stack.install_operator(this),
                "rollback": stack.roll_operator_back,
            }
            for way, exchange in ways.items():
                say(f"{way} in the middle of {MIDDLES[name].title}")
                found.append(hand_over(stack, docker, way, MIDDLES[name], exchange))
                say(f"{found[-1].users_saw}; problems: {'; '.join(found[-1].problems) or 'none'}")
                if found[-1].problems:
                    say(f"what the cluster looked like: {stacks.collect(stack, f'{name}-{way}')}")
        stack.install_operator(this)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.upgrade",
        description="The operator is replaced by this version, and rolled back, in the middle of moves under load.",
    )
    parser.add_argument(
        "middles", nargs="*", type=one_of(MIDDLES), metavar="NAME", help=f"of {', '.join(MIDDLES)} (default: all)"
    )
    parser.add_argument(
        "--from", dest="revision", default="", metavar="REVISION", help="the earlier version (default: the newest tag)"
    )
    parser.add_argument("--docs", action="store_true", help="write the table into docs/upgrading.md")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found")
    parser.add_argument("--name", default=stacks.cluster_name("upgrade"), help="name of the cluster")
    parser.add_argument("--keep", action="store_true", help="leave the cluster up")
    return parser


if __name__ == "__main__":
    sys.exit(main())
