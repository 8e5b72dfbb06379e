"""Every replay that stands in the docs, by one command; what is there already is not run again.

python -m dopd.replay.matrix --traces FOLDER --out FOLDER [--jobs N] [--only TEXT] > table.md

Each replay is a process of `dopd replay`, so that what the table says can be had again by hand: its command is printed
before it runs. The traces are public, and kept by whoever wants to run this (docs/replay.md says where they are from).
"""

import argparse
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from dopd.replay import table
from dopd.replay.policies.catalogue import NAMES

LLAMA_8B, LLAMA_70B = "llama-3.1-8b-h100", "llama-3.1-70b-fp8-h100"
START_UPS_SECONDS = (60, 180)
LONG_PROMPTS = ("--slo-ttft", "15", "--slo-itl", "0.1")
"""Mooncake's prompts reach 126,000 tokens, which take seconds on an idle worker."""


@dataclass(frozen=True)
class Load:
    """A trace, and how much of it for each model.

    Attributes:
        trace: file name without its ending.
        scale_8b: rate scale for the 8B model.
        scale_70b: rate scale for the 70B model.
        options: further options of `dopd replay`.
    """

    trace: str
    scale_8b: float
    scale_70b: float
    options: tuple[str, ...] = ()


def part(start_hour: int, hours: int = 6) -> tuple[str, ...]:
    """Options for a part of a trace."""
    return "--from-seconds", str(start_hour * 3600), "--to-seconds", str((start_hour + hours) * 3600)


STEPS = ("--within", "constant")
LOADS = (
    Load("azure2023-conv", 20, 8),
    Load("mooncake-conversation", 5, 2, LONG_PROMPTS),
    Load("mooncake-synthetic", 5, 2, LONG_PROMPTS),
    Load("servegen-m-large-agg600s", 0.3, 0.3, part(16)),
    Load("servegen-m-mid-agg600s", 0.1, 0.1, part(0)),
    Load("servegen-deepseek-r1-agg600s", 0.5, 0.2),
    Load("azure2024-conv-day1-60s", 1, 1),
    Load("servegen-m-large-agg600s", 0.3, 0.3, part(136)),
    Load("servegen-m-mid-agg600s", 0.1, 0.1, part(96)),
    Load("servegen-m-large-agg600s", 0.3, 0.3, (*part(16), *STEPS)),
    Load("servegen-m-mid-agg600s", 0.1, 0.1, (*part(0), *STEPS)),
)


def commands(traces: Path, out: Path) -> dict[Path, list[str]]:
    """For each report its command."""
    found = {}
    for load, profile, start_up in product(LOADS, (LLAMA_8B, LLAMA_70B), START_UPS_SECONDS):
        scale = load.scale_8b if profile == LLAMA_8B else load.scale_70b
        name = "_".join([load.trace, f"x{scale:g}", profile, f"{start_up}s", *load.options[1::2]])
        report = out / f"{name}.json"
        found[report] = [
            sys.executable, "-m", "dopd.cli", "replay", str(traces / f"{load.trace}.csv.gz"),
            "--rate-scale", f"{scale:g}", "--profile", profile, "--start-up-seconds", str(start_up),
            "--policies", ",".join(NAMES),
            *load.options, "--quiet", "--json", str(report),
        ]  # fmt: skip
    return found


def run(command: list[str]) -> bool:
    """Run one replay; whether it gave a report."""
    print(shlex.join(command[1:]), file=sys.stderr, flush=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{shlex.join(command[1:])}: exit code {done.returncode}\n{done.stderr}", file=sys.stderr, flush=True)
    return done.returncode == 0


def main(arguments: list[str]) -> int:
    """Run what is missing and print the table of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=Path, required=True, help="folder of the traces, as .csv.gz")
    parser.add_argument("--out", type=Path, required=True, help="folder for one report (JSON) of each replay")
    parser.add_argument("--jobs", type=int, default=1, help="replays at the same time")
    parser.add_argument("--only", default="", help="only replays whose name holds this text")
    args = parser.parse_args(arguments)
    known = commands(args.traces, args.out)
    wanted = {report: command for report, command in known.items() if args.only in report.name}
    if not wanted:
        parser.error(f"--only {args.only}: no replay's name holds this; names are like {next(iter(known)).stem}")
    args.out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(args.jobs) as pool:
        good = list(pool.map(run, [command for report, command in wanted.items() if not report.exists()]))
    unreadable = table.main([str(report) for report in wanted if report.exists()])
    return unreadable or (0 if all(good) else 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
