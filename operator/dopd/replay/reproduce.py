"""What the DOPD paper claims, in the replay, each claim as one table (docs/reproduction.md).

python -m dopd.replay.reproduce goodput    engines that do both, fixed splits and dopd's split on the same GPUs
python -m dopd.replay.reproduce order      orders of prompts at fixed counts: P90 TTFT, P90 ITL and goodput
python -m dopd.replay.reproduce lengths    where a split pays, by prompt length and ITL objective
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.planning import Objectives
from dopd.replay.fixed import AGGREGATED, MIXED, SPLIT
from dopd.replay.goodput import Ground, Lengths, Serve, highest
from dopd.replay.options import numbers, pair
from dopd.replay.pass_times import Mixing
from dopd.replay.policies.base import Setting
from dopd.replay.profiles import load_profile
from dopd.replay.runner import Result
from dopd.replay.trace import load
from dopd.replay.workers import FIRST_COME, Settings
from dopd_scheduling import ORDERS

LENGTHS_INPUT_TOKENS = "128,512,1024,2048,4096,8192"
LENGTHS_ITL_SECONDS = "0.015,0.02,0.03,0.05"
LENGTHS_OUTPUT_TOKENS = 250.0
LENGTHS_CV = 1.0
COARSE = 0.04
"""A table of many cells is bisected no further."""


def goodput(args: argparse.Namespace) -> None:
    """Print the goodput of every deployment, and what clients meet on each at the lowest of the best ones' goodputs."""
    ground = _ground(args, Lengths.of(load(args.trace)))
    found = {
        name: highest(ground.serve(name, args.share), args.share, ground.guess_rps) for name in ground.deployments()
    }
    base = found[AGGREGATED].rps
    print(f"Goodput: highest rate with {args.share:.0%} within both objectives. {_facts(args)}, {args.gpus} GPUs\n")
    common = min([found[name].rps for name in (AGGREGATED, MIXED, SPLIT) if name in found and found[name].rps] or [1.0])
    there = f"at {common:.2f}/s"
    _head(
        "deployment", "goodput", f"of {AGGREGATED}", "TTFT p90 there", "ITL p90 there", "workers",
        f"TTFT p90 {there}", f"ITL p90 {there}", f"attained {there}",
    )  # fmt: skip
    for name, best in found.items():
        ratio = f"{best.rps / base:.2f}" if base else "-"
        at = f"{_times(best.result)} | {best.label}" if best.result else "- | - | none meets the objectives"
        _, same = ground.serve(name)(common)
        print(f"| {name} | {best.rps:.2f}/s | {ratio} | {at} | {_times(same)} | {same.attainment:.1%} |", flush=True)


def order(args: argparse.Namespace) -> None:
    """Print what each order of prompts gives at fixed counts, where first come, first served has some P90 TTFT."""
    counts: tuple[int, int] = args.counts
    ground = _ground(args, Lengths.of(load(args.trace)), sum(counts))

    def serve(name: str) -> Serve:
        ordered = replace(ground, settings=replace(ground.settings, order=name))
        return lambda rate: ordered.counts(rate).split(counts)

    first = serve(FIRST_COME)
    base = highest(first, args.share, ground.guess_rps)
    busy = _rate_at(first, args.fcfs_ttft_p90, base.rps)
    print(
        f"{counts[0]} prefill and {counts[1]} decode workers, lengths of {args.trace}; {_facts(args)}.\n"
        f"Goodput: highest rate with {args.share:.0%} within both objectives. At {busy:.2f}/s the P90 of the TTFT of "
        f"{FIRST_COME} is {args.fcfs_ttft_p90:g} s.\n"
    )
    _head(
        "order", "goodput", f"of {FIRST_COME}", f"TTFT p90 at {busy:.2f}/s", f"of {FIRST_COME}", "ITL p90 there",
        "attained there", "the longest tenth: attained there", "its TTFT p99",
    )  # fmt: skip
    reference = first(busy)[1].ttft_p90
    for name in (FIRST_COME, *(name for name in args.orders if name != FIRST_COME)):
        rps = base.rps if name == FIRST_COME else highest(serve(name), args.share, base.rps).rps
        met = serve(name)(busy)[1]
        print(
            f"| {name} | {rps:.2f}/s | {rps / base.rps:.2f} | {met.ttft_p90:.2f} s "
            f"| {met.ttft_p90 / reference - 1:+.1%} | {met.itl_p90 * 1e3:.1f} ms | {met.attainment:.1%} "
            f"| {met.longest_attainment_ttft:.1%} | {met.longest_ttft_p99:.2f} s |",
            flush=True,
        )


def lengths(args: argparse.Namespace) -> None:
    """Print the goodput of the best split as a multiple of that of the better of both ways to aggregate."""
    print(
        f"Goodput of the best split of {args.gpus} GPUs, in requests/s and as a multiple of that of the better of\n"
        f"{AGGREGATED} and {MIXED}; {args.share:.0%} within both objectives. {args.profile}, TTFT {args.slo_ttft:g} s, "
        f"answers of {LENGTHS_OUTPUT_TOKENS:g} tokens,\ncv of lengths {LENGTHS_CV:g}, Poisson arrivals for "
        f"{args.seconds:g} s, seed {args.seed}\n"
    )
    _head("mean prompt, tokens", *(f"ITL {itl * 1e3:g} ms" for itl in args.itl))
    for tokens in args.prompts:
        drawn = Lengths.lognormal(tokens, LENGTHS_OUTPUT_TOKENS, LENGTHS_CV, args.seed)
        cells = []
        for itl in args.itl:
            ground = _ground(argparse.Namespace(**vars(args) | {"slo_itl": itl}), drawn)
            split, *both = (
                highest(ground.serve(name, args.share), args.share, ground.guess_rps, COARSE).rps
                for name in (SPLIT, AGGREGATED, MIXED)
            )
            together = max(both)
            cells.append(
                f"{split / together:.2f} ({split:.1f}/s)" if together else ("only split" if split else "neither")
            )
        print(f"| {tokens:g} | {' | '.join(cells)} |", flush=True)


def _rate_at(serve: Serve, ttft_p90_seconds: float, guess: float) -> float:
    """The rate at which the P90 of the TTFT is so long."""
    low, high = guess / 10, guess
    while serve(high)[1].ttft_p90 < ttft_p90_seconds:
        low, high = high, high * 1.25
    while high / low > 1.001:
        middle = (low * high) ** 0.5
        if serve(middle)[1].ttft_p90 < ttft_p90_seconds:
            low = middle
        else:
            high = middle
    return high


def _ground(args: argparse.Namespace, drawn: Lengths, workers: int | None = None) -> Ground:
    profile = load_profile(args.profile)
    number = workers or args.gpus // profile.gpus
    if number < 1:
        raise ValueError(f"--gpus {args.gpus}: expected at least the {profile.gpus} of one worker of {args.profile}")
    setting = Setting(
        EngineModel.from_profile(profile),
        Objectives(args.slo_ttft, args.slo_itl, args.share),
        60.0,
        profile.gpus,
        profile.gpus,
    )
    settings = Settings(
        startup_seconds=dict.fromkeys(Role, 60.0),
        gpus=dict.fromkeys(Role, profile.gpus),
        order=FIRST_COME,
        seed=args.seed,
    )
    return Ground(setting, settings, drawn, number, args.seconds, args.seed, Mixing(args.mixed_pass))


def _facts(args: argparse.Namespace) -> str:
    return (
        f"{args.profile}, TTFT {args.slo_ttft:g} s, ITL {args.slo_itl:g} s, Poisson arrivals for {args.seconds:g} s, "
        f"seed {args.seed}"
    )


def _head(*titles: str) -> None:
    print(f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|", flush=True)


def _times(result: Result) -> str:
    return f"{result.ttft_p90:.2f} s | {result.itl_p90 * 1e3:.1f} ms"


def main(arguments: Sequence[str]) -> int:
    """Print one table."""
    args = _parser().parse_args(arguments)
    try:
        _check(args)
        args.run(args)
    except (OSError, ValueError) as error:
        print(f"reproduce {args.claim}: {error}", file=sys.stderr)
        return 2
    return 0


def _check(args: argparse.Namespace) -> None:
    for name in ("slo_ttft", "seconds", *(name for name in ("slo_itl", "fcfs_ttft_p90") if name in args)):
        if not getattr(args, name) > 0:
            raise ValueError(f"--{name.replace('_', '-')} {getattr(args, name):g}: expected seconds above 0")
    for name in ("prompts", "itl") if "itl" in args else ():
        if not min(getattr(args, name)) > 0:
            raise ValueError(f"--{name} {min(getattr(args, name)):g}: expected numbers above 0")
    if not 0 < args.share < 1:
        raise ValueError(f"--share {args.share:g}: expected a share above 0 and below 1")
    for name in args.orders if "orders" in args else ():
        if name not in ORDERS:
            raise ValueError(f"--orders {name}: expected some of {', '.join(ORDERS)}, comma separated")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dopd.replay.reproduce",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    claims = parser.add_subparsers(dest="claim", required=True)
    for run in (goodput, order, lengths):
        claim = claims.add_parser(run.__name__, help=run.__doc__)
        claim.set_defaults(run=run)
        claim.add_argument("--profile", default="llama-3.1-70b-fp8-h100", help="name of a shipped profile, or a file")
        claim.add_argument("--slo-ttft", type=float, default=1.5, help="seconds")
        claim.add_argument("--share", type=float, default=0.9, help="of the requests that must be within both")
        claim.add_argument("--seconds", type=float, default=600.0, help="for which requests arrive")
        claim.add_argument("--seed", type=int, default=1)
        if run is not lengths:
            claim.add_argument("--trace", default="e2e/load/traces/azure2023-conv-10min.csv.gz", help="for the lengths")
            claim.add_argument("--slo-itl", type=float, default=0.05, help="seconds")
        if run is lengths:
            claim.add_argument(
                "--prompts", type=numbers, default=LENGTHS_INPUT_TOKENS, help="mean tokens, comma separated"
            )
            claim.add_argument("--itl", type=numbers, default=LENGTHS_ITL_SECONDS, help="objectives, seconds")
        if run is not order:
            claim.add_argument(
                "--mixed-pass", choices=tuple(Mixing), default=Mixing.COMPOSED, help=f"what a pass of {MIXED} takes"
            )
            claim.add_argument("--gpus", type=int, default=16, help="of all workers together")
        else:
            claim.set_defaults(mixed_pass=Mixing.COMPOSED)  # no engine mixes here
            claim.add_argument("--counts", type=pair, default=(1, 1), metavar="P,D", help="workers")
            claim.add_argument("--fcfs-ttft-p90", type=float, default=7.1, help="seconds, of first come, first served")
            claim.add_argument(
                "--orders", type=lambda text: text.split(","), default=list(ORDERS), help="comma separated"
            )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
