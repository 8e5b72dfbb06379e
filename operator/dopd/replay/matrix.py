"""Every replay that stands in the docs, by one command, in parts; what is there already is not run again.

python -m dopd.replay.matrix --traces FOLDER --out FOLDER [--jobs N] [--only TEXT] [--groups NAME,...] > table.md

Each replay is a process of `dopd replay`, so that what the table says can be had again by hand: its command is printed
before it runs. A row is a load, a model, a start-up time, an order of prompts and a world; its policies run in groups,
each with a report of its own, so that dopd can be run anew while its peers stay (remove the reports of `ours`). The
traces are public, and kept by whoever wants to run this (docs/replay.md says where they are from).
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from dopd.replay import table
from dopd.replay.lengths_of import combine
from dopd.replay.loads import AZURE_TWO_DAYS, LOADS, Load, Split, shortened
from dopd.replay.policies.catalogue import NAMES, is_peer
from dopd.replay.trace import is_generated
from dopd.replay.workers import FIRST_COME, ON_TIME_FIRST

LLAMA_8B, LLAMA_70B = "llama-3.1-8b-h100", "llama-3.1-70b-fp8-h100"
MODELS = {LLAMA_8B: "8B", LLAMA_70B: "70B"}
START_UPS_SECONDS = (60, 180)
ORDERS = (FIRST_COME, ON_TIME_FIRST)
SEEDS = "1,2,3"
AS_TOLD = ""
TOGETHER = "delay,jitter,noise,unequal,failures,profile,gaps"
WORLDS = (
    "delay", "jitter", "noise", "unequal", "failures", "profile=0.8", "profile=1.3", "gaps", TOGETHER, "bursty", "all",
)  # fmt: skip
"""Each is run on the loads of `WORLD_LOADS`, with one start-up time and the order that dopd ships."""
WORLD_LOADS = ("azure2023-conv", "m-large-16", "m-large-200")
GROUPS = {
    "ours": ("dopd",),
    "peers": tuple(name for name in NAMES if is_peer(name)),
    "optimum": ("optimum",),
}


@dataclass(frozen=True)
class Row:
    """What policies are compared on.

    Attributes:
        load: of the requests.
        profile: of the model.
        startup_seconds: of both roles.
        order: of prompts.
        world: in which ways it is worse than told.
    """

    load: Load
    profile: str
    startup_seconds: int
    order: str
    world: str

    @property
    def name(self) -> str:
        """Short and unique, and a file name."""
        world = f"_{self.world}" if self.world else ""
        return f"{self.load.name}_{MODELS[self.profile]}_{self.startup_seconds}s_{self.order}{world}"

    def command(self, traces: Path, policies: tuple[str, ...], seeds: str, report: Path) -> list[str]:
        """The replay of some policies."""
        load = self.load
        folder = report.parent if load.trace == AZURE_TWO_DAYS else traces
        trace = load.trace if is_generated(load.trace) else str(folder / f"{load.trace}.csv.gz")
        scale = load.scale_8b if self.profile == LLAMA_8B else load.scale_70b
        command = [
            sys.executable, "-m", "dopd.cli", "replay", trace, "--rate-scale", f"{scale:g}",
            "--profile", self.profile, "--start-up-seconds", str(self.startup_seconds), "--order", self.order,
            "--policies", ",".join(policies), "--seeds", seeds, *load.options, "--quiet", "--json", str(report),
        ]  # fmt: skip
        if self.world:
            command += ["--world", self.world]
        if load.history is not None:
            command += ["--history", trace, "--history-from-seconds", f"{load.history:g}"]
        return command


def rows() -> Iterator[Row]:
    """All of them."""
    for load, profile, startup, order in product(LOADS, MODELS, START_UPS_SECONDS, ORDERS):
        if profile == LLAMA_8B or load.scale_70b is not None:
            yield Row(load, profile, startup, order, AS_TOLD)
    for load, world in product(LOADS, WORLDS):
        if load.name in WORLD_LOADS and (load.clients or world not in ("bursty", "all")):
            yield Row(load, LLAMA_70B, 180, ON_TIME_FIRST, world)


def run(command: list[str]) -> bool:
    """Run one replay; whether it gave a report."""
    print(shlex.join(command[1:]), file=sys.stderr, flush=True)
    began = time.monotonic()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    report = command[command.index("--json") + 1]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{shlex.join(command[1:])}: exit code {done.returncode}\n{done.stderr}", file=sys.stderr, flush=True)
    else:
        print(f"{report}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return done.returncode == 0


def main(arguments: list[str]) -> int:
    """Run what is missing and print the table of all."""
    args = _parser().parse_args(arguments)
    known = list(rows())
    if args.hours is not None:
        known = [replace(row, load=shortened(row.load, args.hours)) for row in known]
    splits = args.splits.split(",") if args.splits else list(Split)
    wanted = [row for row in known if args.only in row.name and row.load.split in splits]
    if not wanted:
        print(
            f"matrix: --only {args.only}: no replay's name holds this; names are like {known[0].name}", file=sys.stderr
        )
        return 2
    groups = args.groups.split(",")
    unknown = [group for group in groups if group not in GROUPS]
    if unknown:
        print(f"matrix: --groups {unknown[0]}: expected some of {', '.join(GROUPS)}, comma separated", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        _prepare(args.traces, args.out, wanted)
    except (OSError, ValueError) as error:
        print(f"matrix: {error}", file=sys.stderr)
        return 2
    missing = []
    for row, group in product(wanted, groups):
        report = args.out / f"{row.name}.{group}.json"
        if not report.exists():
            named = {"ours": args.ours, "peers": args.peers}.get(group)
            policies = named.split(",") if named else GROUPS[group]
            missing.append(row.command(args.traces, tuple(policies), args.seeds, report))
    with ThreadPoolExecutor(args.jobs) as pool:
        good = list(pool.map(run, missing))
    found = {row: [args.out / f"{row.name}.{group}.json" for group in GROUPS] for row in wanted}
    entries = [
        table.Entry(
            row.load.name, row.load.split.value, row.load.looked_at, MODELS[row.profile], row.startup_seconds,
            row.order, row.world, tuple(path for path in paths if path.exists()),
        )
        for row, paths in found.items()
        if any(path.exists() for path in paths)
    ]  # fmt: skip
    unreadable = table.show(entries)
    return unreadable or (0 if all(good) else 1)


def _prepare(traces: Path, out: Path, wanted: list[Row]) -> None:
    """Make the trace that has to be made of two others."""
    made = out / f"{AZURE_TWO_DAYS}.csv.gz"
    if any(row.load.trace == AZURE_TWO_DAYS for row in wanted) and not made.exists():
        requests = traces / "azure2024-conv-days1to2-requests-60s.csv.gz"
        combine(requests, traces / "azure2024-conv-day1-60s.csv.gz", made)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dopd.replay.matrix", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--traces", type=Path, required=True, help="folder of the traces, as .csv.gz")
    parser.add_argument("--out", type=Path, required=True, help="folder for the reports (JSON)")
    parser.add_argument("--jobs", type=int, default=1, help="replays at the same time")
    parser.add_argument("--only", default="", help="only rows whose name holds this text")
    parser.add_argument("--splits", default="", help=f"only loads of these, of {', '.join(Split)}, comma separated")
    parser.add_argument(
        "--groups", default=",".join(GROUPS), help="of policies, comma separated (default: %(default)s)"
    )
    parser.add_argument("--hours", type=float, help="only the first so many hours of each load; names say so")
    parser.add_argument("--ours", default="", help="policies of the group ours (default: dopd)")
    parser.add_argument("--peers", default="", help="policies of the group peers (default: all)")
    parser.add_argument("--seeds", default=SEEDS, help="comma separated (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
