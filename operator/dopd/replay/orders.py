"""What the order of prompts is worth at fixed numbers of workers: all orders on the same arrivals, in one table.

python -m dopd.replay.orders TRACE [--counts P,D] [--utilisation 0.9] [--slo-ttft 1.5] [--profile NAME] [--orders a,b]

With --counts the trace's own arrivals are replayed. Without, lengths are drawn from the trace (`mix` stands for nine
in ten of 200 to 800 tokens and one of 16,000), arrivals are Poisson at a share of what prefill can do, and decode is
ample.
"""

import argparse
import sys
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.planning import Objectives
from dopd.replay.cluster import Cluster
from dopd.replay.options import above_zero, numbers, pair
from dopd.replay.profiles import load_profile
from dopd.replay.runner import Result, measure
from dopd.replay.trace import Trace, load
from dopd.replay.workers import FIRST_COME, ON_TIME_FIRST, Settings
from dopd_scheduling import ORDERS

MIX = "mix"
AMPLE_DECODE_WORKERS = 64
HEADER = (
    "| order | attained | goodput | TTFT p50 | p90 | p99 | longest tenth attained | its p99 | prefill busy | cached |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Variant:
    """An order with its knobs.

    Attributes:
        order: its name.
        late_share: of the order on-time-first.
        most_unfinished: prompts that may be computed in part.
    """

    order: str
    late_share: float = Settings.late_share
    most_unfinished: int = Settings.most_unfinished

    @property
    def label(self) -> str:
        """For the table."""
        if self.order == FIRST_COME:
            return self.order
        share = f", late share {self.late_share:.2f}" if self.order == ON_TIME_FIRST else ""
        return f"{self.order}{share}, {self.most_unfinished} unfinished"


def prompt_lengths(source: str, count: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Lengths drawn from a trace, or from the mix; tokens."""
    if source == MIX:
        short = generator.integers(200, 801, count)
        return np.where(generator.random(count) < 0.1, 16_000, short)
    return generator.choice(load(source, 1.0).input_tokens, count)


def poisson(source: str, model: EngineModel, workers: int, utilisation: float, count: int, seed: int) -> Trace:
    """Poisson arrivals that keep so many prefill workers busy for a share of the time, each prompt computed alone."""
    generator = np.random.default_rng(seed)
    tokens = prompt_lengths(source, count, generator).astype(np.int64)
    work = float(np.mean([model.passes_seconds(int(length)) for length in tokens]))
    arrivals = np.cumsum(generator.exponential(work / (workers * utilisation), count))
    return Trace("poisson", arrivals, tokens, np.full(count, 2), "requests")


def serve(
    trace: Trace, model: EngineModel, objectives: Objectives, counts: tuple[int, int], variant: Variant, seed: int
) -> tuple[Result, float]:
    """Serve a trace; returns what clients met, and the share of the time for which prefill workers computed."""
    settings = Settings(
        startup_seconds=dict.fromkeys(Role, 60.0),
        objectives=objectives,
        order=variant.order,
        late_share=variant.late_share,
        most_unfinished=variant.most_unfinished,
        seed=seed,
    )
    cluster = Cluster(model, trace, *counts, settings)
    cluster.run()
    busy = cluster.prefill_busy_seconds / (counts[0] * max(trace.duration_seconds, 1e-9))
    return measure(cluster, objectives, []), busy


def row(label: str, result: Result, busy: float) -> str:
    """One line of the table."""
    return (
        f"| {label} | {result.attainment:.2%} | {result.goodput_rps:.2f}/s | {result.ttft_p50:.2f} s "
        f"| {result.ttft_p90:.2f} | {result.ttft_p99:.2f} | {result.longest_attainment_ttft:.2%} "
        f"| {result.longest_ttft_p99:.2f} s | {busy:.3f} | {result.cached_share:.1%} |"
    )


def variants(args: argparse.Namespace) -> list[Variant]:
    """Every order asked for, with every late share and number of unfinished prompts that concerns it."""
    found = []
    for order in args.orders:
        for most_unfinished in map(int, args.most_unfinished) if order != FIRST_COME else (1,):
            for share in args.late_share if order == ON_TIME_FIRST else (Settings.late_share,):
                found.append(Variant(order, share, most_unfinished))
    return found


def main(arguments: list[str]) -> int:
    """Print the table."""
    args = _parser().parse_args(arguments)
    try:
        _check(args)
        _compare(args)
    except (OSError, ValueError) as error:
        print(f"orders: {error}", file=sys.stderr)
        return 2
    return 0


def _check(args: argparse.Namespace) -> None:
    above_zero(args, "slo_ttft", "slo_itl", "rate_scale", "utilisation", "workers", "requests")
    for share in args.late_share:
        if not 0 <= share <= 1:
            raise ValueError(f"--late-share {share:g}: expected a share of 0 to 1")
    for count in args.most_unfinished:
        if not (count >= 1 and count == int(count)):
            raise ValueError(f"--most-unfinished {count:g}: expected a whole number of at least 1")
    if args.counts and args.trace == MIX:
        raise ValueError(f"--counts with {MIX}: expected a trace, whose own arrivals are replayed")


def _compare(args: argparse.Namespace) -> None:
    model = EngineModel.from_profile(load_profile(args.profile))
    objectives = Objectives(args.slo_ttft, args.slo_itl, 0.99)
    if args.counts:
        trace = replace(load(args.trace, args.rate_scale, args.seed), prefixes=None)
        if args.prefix_cache:
            trace = load(args.trace, args.rate_scale, args.seed)
        counts = args.counts
        print(
            f"{args.trace} x{args.rate_scale:g} on {args.profile}, {counts[0]} prefill and {counts[1]} decode workers"
        )
    else:
        trace = poisson(args.trace, model, args.workers, args.utilisation, args.requests, args.seed)
        counts = (args.workers, AMPLE_DECODE_WORKERS)
        print(f"lengths of {args.trace} on {args.profile}, {args.workers} prefill workers at {args.utilisation:g}")
    print(f"TTFT {args.slo_ttft:g} s, ITL {args.slo_itl:g} s, {len(trace)} requests, seed {args.seed}\n\n{HEADER}")
    for variant in variants(args):
        print(row(variant.label, *serve(trace, model, objectives, counts, variant, args.seed)), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dopd.replay.orders", description=__doc__)
    parser.add_argument("trace", help=f"a trace with requests (see docs/replay.md), or {MIX}")
    parser.add_argument(
        "--counts", type=pair, metavar="P,D", help="replay the trace's own arrivals at these numbers of workers"
    )
    parser.add_argument("--rate-scale", type=float, default=1.0, help="copies of the trace, with --counts")
    parser.add_argument("--prefix-cache", action="store_true", help="with prefix caches, with --counts")
    parser.add_argument("--profile", default="llama-3.1-8b-h100")
    parser.add_argument("--slo-ttft", type=float, default=1.5, help="seconds")
    parser.add_argument("--slo-itl", type=float, default=0.05, help="seconds")
    parser.add_argument("--workers", type=int, default=4, help="prefill workers, without --counts")
    parser.add_argument("--utilisation", type=float, default=0.9, help="of them, without --counts")
    parser.add_argument("--requests", type=int, default=30_000, help="without --counts")
    parser.add_argument("--orders", type=_names, default=tuple(ORDERS), help="separated by commas; all if absent")
    parser.add_argument("--late-share", type=numbers, default=(Settings.late_share,), help="one or more, by commas")
    parser.add_argument("--most-unfinished", type=numbers, default=(1, 3), help="one or more, by commas")
    parser.add_argument("--seed", type=int, default=1)
    return parser


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in ORDERS:
            raise argparse.ArgumentTypeError(f"{name}: expected some of {', '.join(ORDERS)}")
    return names


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
