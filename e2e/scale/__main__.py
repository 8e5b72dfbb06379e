"""Command line: `python -m e2e.scale --resources 10 100 1000`."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from e2e.cluster.errors import ClusterError
from e2e.scale.field import field
from e2e.scale.measure import Figures, measure
from e2e.scale.table import table


def main(arguments: list[str] | None = None) -> int:
    """Measure each size on a control plane of its own; 2 when it could not be done."""
    options = _parser().parse_args(arguments)
    found: list[Figures] = []
    try:
        for size in options.resources:
            workers = (options.workers // size if options.workers else options.workers_each) // 2
            with field(size, max(1, workers), max(1, size // options.of_namespace)) as ground:
                found.append(
                    measure(
                        ground,
                        options.interval,
                        options.queue_interval,
                        options.periods,
                        options.profile,
                        floor=not options.no_floor,
                        settle_seconds=options.settle,
                    )
                )
            if options.json:
                options.json.write_text(json.dumps([one.as_json() for one in found], indent=2) + "\n")
    except (ClusterError, TimeoutError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(found), end="")
    return 0


def _from(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text}: expected a whole number from {least} on")
        return int(text)

    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m e2e.scale", description=__doc__)
    parser.add_argument(
        "--resources", type=_from(1), nargs="+", default=[10, 100, 1000], help="sizes, one after the other"
    )
    parser.add_argument(
        "--workers", type=_from(0), default=0, help="of all resources together; in place of --workers-each"
    )
    parser.add_argument("--workers-each", type=_from(1), default=8, help="of each resource, half of each role (8)")
    parser.add_argument("--of-namespace", type=_from(1), default=100, help="resources in a namespace (100)")
    parser.add_argument("--interval", type=_from(1), default=15, help="seconds between two readings (15)")
    parser.add_argument(
        "--queue-interval", type=_from(1), default=15, help="seconds between two looks at the engines (15)"
    )
    parser.add_argument("--periods", type=_from(1), default=4, help="readings at rest that are measured (4)")
    parser.add_argument(
        "--settle", type=_from(0), default=0, help="seconds before that: forecasts are fitted in the first minutes (0)"
    )
    parser.add_argument("--no-floor", action="store_true", help="without the operator that does nothing")
    parser.add_argument("--json", type=Path, help="file that gets all figures")
    parser.add_argument(
        "--profile", type=Path, help="file that gets a cProfile of the operator; figures are wrong then"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
