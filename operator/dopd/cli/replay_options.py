"""The options of `dopd replay`, and what is refused before anything runs: a replay may take an hour."""

import argparse
import math
from collections.abc import Callable, Sequence
from enum import StrEnum

from dopd.api.profile import LEAST_CORRECTION, MOST_CORRECTION
from dopd.cli.arguments import output_file
from dopd.replay import foreign
from dopd.replay.fixed import AGGREGATED
from dopd.replay.generated import LOADS
from dopd.replay.policies.catalogue import DEFAULT, NAMES, VARIANTS
from dopd.replay.trace import Within
from dopd.replay.workers import FIRST_COME, Routing, Settings
from dopd.replay.worlds import ALL, KINDS, World
from dopd_scheduling import ORDERS

ABOVE_ZERO = ("slo_ttft", "slo_itl", "rate_scale")
AT_LEAST_ZERO = ("start_up_seconds", "from_seconds", "history_from_seconds")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `dopd replay`."""
    parser.add_argument(
        "trace",
        help="a file of requests or of totals per interval (see docs/replay.md), or generated:NAME of "
        + ", ".join(LOADS),
    )
    parser.add_argument("--profile", default="llama-3.1-8b-h100", help="name of a shipped profile, or a .yaml file")
    parser.add_argument("--profile-correction", type=float, help="replaces the correction factor of the profile")
    parser.add_argument("--slo-ttft", type=float, default=1.5, help="objective of the time to first token, seconds")
    parser.add_argument("--slo-itl", type=float, default=0.05, help="objective of the inter-token latency, seconds")
    parser.add_argument("--attainment", type=float, default=0.99, help="share of requests that must meet both")
    parser.add_argument(
        "--policies",
        help=f"comma separated, of {', '.join(NAMES)}; with --simulator dynamo of {', '.join(foreign.NAMES)} "
        f"(default: {', '.join(DEFAULT)}, there all; besides {', '.join((*VARIANTS, AGGREGATED))})",
    )
    parser.add_argument(
        "--simulator", choices=("dopd", "dynamo"), default="dopd", help="dynamo: NVIDIA's, see make dynamo-replay"
    )
    parser.add_argument(
        "--equal-hours", metavar="POLICY", help="run dopd once more at the GPU-hours of this policy (simulator dopd)"
    )
    parser.add_argument("--dynamo-python", help="Python that has it (default: .venv-dynamo/bin/python)")
    parser.add_argument("--start-up-seconds", type=float, default=60.0, help="from deciding to serving, both roles")
    parser.add_argument("--rate-scale", type=float, default=1.0, help="copies of a request trace, or factor on totals")
    parser.add_argument("--from-seconds", type=float, default=0.0, help="begin of the part of the trace to replay")
    parser.add_argument("--to-seconds", type=float, default=math.inf, help="end of that part")
    parser.add_argument(
        "--within",
        type=_one_of(Within),
        default=Within.LINEAR,
        metavar=_names(Within),
        help="how the load runs within an interval of totals: on to the next one, or constant with steps between",
    )
    parser.add_argument(
        "--routing",
        type=_one_of(Routing),
        default=Routing.LEAST_REQUESTS,
        metavar=_names(Routing),
        help="of the gateway",
    )
    parser.add_argument(
        "--order",
        choices=tuple(ORDERS),
        default=FIRST_COME,
        help="of waiting prompts: fcfs, as engines do (default), on-time-first, as dopd's engine image does, ...",
    )
    parser.add_argument(
        "--late-share",
        type=float,
        default=Settings.late_share,
        help="prefill time that late prompts may take from others, of order on-time-first (default: %(default).2f)",
    )
    parser.add_argument(
        "--most-unfinished",
        type=int,
        default=Settings.most_unfinished,
        help="prompts that a prefill worker may have computed in part, of every order but fcfs (default: %(default)s)",
    )
    parser.add_argument(
        "--no-prefix-cache",
        dest="prefix_cache",
        action="store_false",
        help="compute every prompt token, though the trace tells prefixes (hash_ids)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of all draws")
    parser.add_argument(
        "--seeds",
        type=_whole_numbers,
        metavar="N,N,...",
        help="run with each, tell means and spread (knobs: the first)",
    )
    parser.add_argument(
        "--world",
        type=_world,
        default=World(),
        metavar="NAME[=SIZE],...",
        help="what is worse than told: "
        + "; ".join(f"{name} (={kind.usual:g}): {kind.what}" for name, kind in KINDS.items())
        + f"; {ALL}",
    )
    parser.add_argument("--history", metavar="TRACE", help="a trace of before, of which policies know each minute")
    parser.add_argument("--history-from-seconds", type=float, default=0.0, help="begin of the part of it")
    parser.add_argument(
        "--history-to-seconds",
        type=float,
        help="its end, at which the replay begins (default: --from-seconds of the same trace, or the end of another)",
    )
    parser.add_argument("--json", type=output_file, metavar="FILE", help="file for the results")
    parser.add_argument("--html", type=output_file, metavar="FILE", help="file for the page")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def seeds(args: argparse.Namespace) -> tuple[int, ...]:
    """Seeds to run with."""
    return args.seeds or (args.seed,)


def _whole_numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"{text}: expected whole numbers of at least 0, like 1,2,3")
    found = tuple(int(part) for part in parts)
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text}: expected each seed once")
    return found


def _world(text: str) -> World:
    try:
        return World.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _names(kind: type[StrEnum]) -> str:
    return "|".join(kind)


def _one_of(kind: type[StrEnum]) -> Callable[[str], StrEnum]:
    """A converter for argparse, whose own error names the kind and not what is expected."""

    def convert(text: str) -> StrEnum:
        if text not in list(kind):
            raise argparse.ArgumentTypeError(f"{text}: expected one of {', '.join(kind)}")
        return kind(text)

    return convert


def policies(args: argparse.Namespace) -> Sequence[str]:
    """Names of the policies to run."""
    usual = foreign.NAMES if args.simulator == "dynamo" else DEFAULT
    return usual if args.policies is None else [name.strip() for name in args.policies.split(",")]


def check(args: argparse.Namespace) -> None:
    """Look at every option, and at nothing else.

    Raises:
        ValueError: one can not be used; the option, its value and what is expected, on one line.
    """
    for name in ABOVE_ZERO:
        _must(args, name, lambda value: 0 < value < math.inf, "a number above 0")
    for name in AT_LEAST_ZERO:
        _must(args, name, lambda value: 0 <= value < math.inf, "seconds of at least 0")
    least, most = LEAST_CORRECTION, MOST_CORRECTION
    _must(args, "profile_correction", lambda value: least <= value <= most, f"a number from {least:g} to {most:g}")
    since = args.from_seconds
    _must(args, "to_seconds", lambda value: value > since, f"seconds after --from-seconds {since:g}")
    _must(args, "seed", lambda value: value >= 0, "a whole number of at least 0")
    percent = f" (write {args.attainment / 100:g} for {args.attainment:g} %)" if 1 < args.attainment < 100 else ""
    _must(args, "late_share", lambda value: 0 <= value <= 1, "a share of 0 to 1")
    _must(args, "most_unfinished", lambda value: value >= 1, "a whole number of at least 1")
    _must(args, "attainment", lambda value: 0 < value < 1, f"a share above 0 and below 1{percent}")
    _check_policies(args)
    if args.simulator == "dynamo" and (args.world.sizes or args.history or len(seeds(args)) > 1):
        raise ValueError("--simulator dynamo: expected no --world, no --history and one seed")


def _must(args: argparse.Namespace, name: str, holds: Callable[[float], bool], expected: str) -> None:
    value = getattr(args, name)
    if value is not None and not holds(value):
        raise ValueError(f"--{name.replace('_', '-')} {value:g}: expected {expected}")


def _check_policies(args: argparse.Namespace) -> None:
    names = policies(args)
    known = foreign.NAMES if args.simulator == "dynamo" else (*NAMES, *VARIANTS, AGGREGATED)
    for name in names:
        if name not in known:
            raise ValueError(f"policy {name!r}: expected one of {', '.join(known)}, separated by commas")
        if names.count(name) > 1:
            raise ValueError(f"policy {name!r} is named twice in --policies; expected each once")
    if AGGREGATED in names and args.routing is Routing.LEAST_WORK:
        others = ", ".join(routing for routing in Routing if routing is not Routing.LEAST_WORK)
        raise ValueError(f"--routing {args.routing} with policy {AGGREGATED!r}: expected one of {others}")
    peer = args.equal_hours
    if peer is not None and (
        args.simulator != "dopd" or peer not in names or "dopd" not in names or peer == "dopd" or len(seeds(args)) > 1
    ):
        raise ValueError(
            f"--equal-hours {peer}: expected one of --policies, dopd among them, --simulator dopd and one seed"
        )
