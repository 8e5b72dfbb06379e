"""The options of `dopd replay`, and what is refused before anything runs: a replay may take an hour."""

import math
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from types import SimpleNamespace

import click
from click.core import ParameterSource

from dopd.api.base import seconds
from dopd.api.profile import LEAST_CORRECTION, MOST_CORRECTION
from dopd.cli.arguments import F, choice, number, object_name, one_of, option, output_file, together, whole
from dopd.cli.errors import Refused, did_you_mean
from dopd.replay import foreign
from dopd.replay.fixed import AGGREGATED
from dopd.replay.generated import LOADS
from dopd.replay.policies.catalogue import DEFAULT, NAMES, VARIANTS
from dopd.replay.profiles import shipped
from dopd.replay.trace import Within
from dopd.replay.workers import FIRST_COME, Routing, Settings
from dopd.replay.worlds import ALL, KINDS, World
from dopd_scheduling import ORDERS

PROFILE = "llama-3.1-8b-h100"
SIMULATORS = ("dopd", "dynamo")
TRACES = "a file of requests or of totals per interval (see docs/replay.md), or generated:NAME of " + ", ".join(LOADS)
ABOVE_ZERO = ("slo_ttft", "slo_itl", "rate_scale")
AT_LEAST_ZERO = ("start_up_seconds", "from_seconds", "history_from_seconds")
WITH_RESOURCE = ("spec", "since", "report")
"""Options without effect on a TRACE."""
WITH_TRACE = (
    *("profile", "profile_correction", "slo_ttft", "slo_itl", "attainment", "policies", "simulator", "equal_hours"),
    *("dynamo_python", "start_up_seconds", "rate_scale", "from_seconds", "to_seconds", "within", "routing", "order"),
    *("late_share", "most_unfinished", "prefix_cache", "seeds", "world", "html"),
    *("history", "history_from_seconds", "history_to_seconds"),
)
"""Options without effect on a resource's own history: spec and profile of the resource hold there."""


def _whole_numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise ValueError(f"{text}: expected whole numbers of at least 0, like 1,2,3")
    found = tuple(int(part) for part in parts)
    if len(set(found)) < len(found):
        raise ValueError(f"{text}: expected each seed once")
    return found


def _of(kind: type[StrEnum]) -> Callable[[str], StrEnum]:
    known = one_of(kind)
    return lambda text: kind(known(text))


def length_of_time(text: str) -> float:
    """Seconds of a length of time such as 6h.

    Raises:
        ValueError: it is none, or shorter than ten minutes or longer than thirty days.
    """
    try:
        length = seconds(text)
    except ValueError:
        raise ValueError(f"{text}: expected a length of time such as 6h, 90m or 2h30m") from None
    if not 600 <= length <= 30 * 86400:
        raise ValueError(f"{text}: expected 10m to 720h")
    return length


def resource_options(function: F) -> F:
    """The options of a replay of a resource's own history."""
    return together(
        option(
            "--from",
            "from_resource",
            of=object_name,
            metavar="RESOURCE",
            help="replay this resource's own history from its Prometheus in place of a TRACE (--prometheus-url wins "
            "over the URL of its spec, which may not be reachable from here)",
        ),
        option("--spec", of=Path, metavar="FILE", help="with --from: a manifest whose spec the resource is to get"),
        option(
            "--since",
            of=length_of_time,
            metavar="DURATION",
            default="6h",
            help="with --from: how much of it (default 6h)",
        ),
        option("--report", of=output_file, metavar="FILE", help="with --from: file for the Markdown report"),
    )(function)


def trace_options(function: F) -> F:
    """The options of a replay."""
    return together(
        option(
            "--profile",
            metavar="NAME|FILE",
            choices=shipped(),
            help=f"a shipped profile, or a .yaml file (default: {PROFILE})",
        ),
        option("--profile-correction", of=number(), metavar="N", help="replaces the correction factor of the profile"),
        option(
            "--slo-ttft",
            of=number(),
            metavar="SECONDS",
            default="1.5",
            help="objective of the time to first token, seconds",
        ),
        option(
            "--slo-itl",
            of=number(),
            metavar="SECONDS",
            default="0.05",
            help="objective of the inter-token latency, seconds",
        ),
        option(
            "--attainment", of=number(), metavar="SHARE", default="0.99", help="share of requests that must meet both"
        ),
        option(
            "--policies",
            metavar="NAME,NAME,...",
            help=f"of {', '.join(NAMES)}; with --simulator dynamo of {', '.join(foreign.NAMES)} "
            f"(default: {', '.join(DEFAULT)}, there all; besides {', '.join((*VARIANTS, AGGREGATED))})",
        ),
        choice(
            "--simulator",
            among=SIMULATORS,
            default="dopd",
            help="dynamo: NVIDIA's, see make dynamo-replay",
        ),
        option(
            "--equal-hours",
            metavar="POLICY",
            help="run dopd once more at the GPU-hours of this policy (simulator dopd)",
        ),
        option("--dynamo-python", metavar="FILE", help="Python that has it (default: .venv-dynamo/bin/python)"),
        option(
            "--start-up-seconds",
            of=number(),
            metavar="SECONDS",
            default="60",
            help="from deciding to serving, both roles",
        ),
        option(
            "--rate-scale", of=number(), metavar="N", default="1", help="copies of a request trace, or factor on totals"
        ),
        option(
            "--from-seconds",
            of=number(),
            metavar="SECONDS",
            default="0",
            help="begin of the part of the trace to replay",
        ),
        option("--to-seconds", of=number(), metavar="SECONDS", default="inf", help="end of that part"),
        choice(
            "--within",
            among=Within,
            of=_of(Within),
            default=Within.LINEAR.value,
            help="how the load runs within an interval of totals: on to the next one, or constant with steps between",
        ),
        choice(
            "--routing",
            among=Routing,
            of=_of(Routing),
            default=Routing.LEAST_REQUESTS.value,
            help="of the gateway",
        ),
        choice(
            "--order",
            among=ORDERS,
            default=FIRST_COME,
            help="of waiting prompts: fcfs, as engines do (default), on-time-first, as dopd's engine image does, ...",
        ),
        option(
            "--late-share",
            of=number(),
            metavar="SHARE",
            default=f"{Settings.late_share}",
            help="prefill time that late prompts may take from others, of order on-time-first "
            f"(default: {Settings.late_share:.2f})",
        ),
        option(
            "--most-unfinished",
            of=whole,
            metavar="N",
            default=f"{Settings.most_unfinished}",
            help="prompts that a prefill worker may have computed in part, of every order but fcfs "
            f"(default: {Settings.most_unfinished})",
        ),
        click.option(
            "--no-prefix-cache",
            "prefix_cache",
            flag_value=False,
            default=True,
            type=bool,
            help="compute every prompt token, though the trace tells prefixes (hash_ids)",
        ),
        option("--seed", of=whole, metavar="N", default="1", help="of all draws"),
        option(
            "--seeds",
            of=_whole_numbers,
            metavar="N,N,...",
            help="run with each, tell means and spread (knobs: the first)",
        ),
        option(
            "--world",
            of=World.parse,
            metavar="NAME[=SIZE],...",
            default="",
            help="what is worse than told: "
            + "; ".join(f"{name} (={kind.usual:g}): {kind.what}" for name, kind in KINDS.items())
            + f"; {ALL}",
        ),
        option("--history", metavar="TRACE", help="a trace of before, of which policies know each minute"),
        option("--history-from-seconds", of=number(), metavar="SECONDS", default="0", help="begin of the part of it"),
        option(
            "--history-to-seconds",
            of=number(),
            metavar="SECONDS",
            help="its end, where the replay begins (default: --from-seconds of the same trace, or the end of another)",
        ),
        option("--json", of=output_file, metavar="FILE", help="file for the results"),
        option("--html", of=output_file, metavar="FILE", help="file for the page"),
        click.option("--quiet", is_flag=True, help="no progress"),
    )(function)


def refuse_others(names: Sequence[str], expected: str) -> None:
    """Look for options that were typed and would be without effect.

    Args:
        names: of these options.
        expected: what they go with.

    Raises:
        Refused: there is one.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in names and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise Refused(f"{max(parameter.opts, key=len)}: expected {expected}; leave it out")


def seeds(args: SimpleNamespace) -> tuple[int, ...]:
    """Seeds to run with."""
    return args.seeds or (args.seed,)


def policies(args: SimpleNamespace) -> Sequence[str]:
    """Names of the policies to run."""
    usual = foreign.NAMES if args.simulator == "dynamo" else DEFAULT
    return usual if args.policies is None else [name.strip() for name in args.policies.split(",")]


def check(args: SimpleNamespace) -> None:
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


def _must(args: SimpleNamespace, name: str, holds: Callable[[float], bool], expected: str) -> None:
    value = getattr(args, name)
    if value is not None and not holds(value):
        raise ValueError(f"--{name.replace('_', '-')} {value:g}: expected {expected}")


def _check_policies(args: SimpleNamespace) -> None:
    names = policies(args)
    known = foreign.NAMES if args.simulator == "dynamo" else (*NAMES, *VARIANTS, AGGREGATED)
    for name in names:
        if name not in known:
            near = did_you_mean(name, known)
            raise ValueError(f"--policies {name}: expected some of {', '.join(known)}, separated by commas{near}")
        if names.count(name) > 1:
            raise ValueError(f"--policies {name}: is named twice; expected each once")
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
