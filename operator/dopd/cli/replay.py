"""`dopd replay`: what the planner would have done with a load that is known, and what its peers would have."""

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import click

from dopd.api.names import Role
from dopd.api.text import plain
from dopd.autoscaler.past import PastLoad
from dopd.cli import replay_options
from dopd.cli.clusters import cluster_options, namespace_option
from dopd.cli.errors import Refused
from dopd.cli.prometheus_flags import prometheus_options
from dopd.perf import EngineModel
from dopd.planning import Objectives
from dopd.replay import foreign
from dopd.replay.disturbances import NO_DISTURBANCES
from dopd.replay.equal_hours import EASIER_ATTAINMENTS, at_gpu_hours, gpu_budget, most_attained
from dopd.replay.fixed import AGGREGATED, MIXED, Comparison, FixedCounts
from dopd.replay.ground import Ground
from dopd.replay.history import before
from dopd.replay.optimum import Optimum
from dopd.replay.policies import static
from dopd.replay.policies.base import Setting
from dopd.replay.policies.dopd import Dopd
from dopd.replay.profiles import load_profile, shipped
from dopd.replay.report import Report
from dopd.replay.runner import Result, load_over_time, with_uncached_tokens
from dopd.replay.search import Try, listed
from dopd.replay.seeds import Chosen, Seed, choose
from dopd.replay.trace import INPUT_CV, OUTPUT_CV, Trace, is_generated, load
from dopd.replay.workers import ON_TIME_FIRST, Settings


@click.command("replay", help=f"{__doc__} TRACE is {replay_options.TRACES}. Shipped profiles: {', '.join(shipped())}.")
@click.argument("trace", required=False)
@replay_options.resource_options
@replay_options.trace_options
@namespace_option
@cluster_options
@prometheus_options
def command(**given: Any) -> int:
    """Arguments of `dopd replay`."""
    options = SimpleNamespace(**given)
    if options.from_resource:
        from dopd.cli import replay_from  # a trace alone needs no cluster and no Prometheus

        if options.trace:
            raise Refused(f"TRACE {options.trace}: expected a trace or --from, and not both; leave one out")
        replay_options.refuse_others(replay_options.WITH_TRACE, "a TRACE, and not --from")
        return replay_from.call(options)
    replay_options.refuse_others(replay_options.WITH_RESOURCE, "--from RESOURCE beside it")
    if not options.trace:
        raise Refused(f"TRACE: missing; expected {replay_options.TRACES}, or --from RESOURCE")
    return call(options)


def call(args: SimpleNamespace) -> int:
    """Replay, print the table, write the files; returns the exit code."""
    try:
        replay_options.check(args)
        report = replay(args)
        files = [(path, text()) for path, text in ((args.json, report.as_json), (args.html, report.as_html)) if path]
    except (ValueError, OSError) as error:
        print(f"dopd replay: {error}", file=sys.stderr)
        return 2
    print(plain(report.as_text()))
    for path, text in files:
        path.write_text(text, encoding="utf-8")
    return 0


def replay(args: SimpleNamespace) -> Report:
    """Run every policy asked for on the trace.

    Raises:
        ValueError: the trace, the profile or a policy name is not usable.
    """
    profile = load_profile(args.profile or replay_options.PROFILE)
    if args.profile_correction is not None:
        profile = profile.model_copy(update={"correction": args.profile_correction})
    model = replace(
        EngineModel.from_profile(profile), startup_seconds={role.value: args.start_up_seconds for role in Role}
    )
    objectives = Objectives(args.slo_ttft, args.slo_itl, args.attainment)
    foreign_ground = args.simulator == "dynamo"
    in_order = args.order == ON_TIME_FIRST and not foreign_ground
    setting = Setting(
        model, objectives, args.start_up_seconds, profile.gpus, profile.gpus,
        on_time_first=in_order, history=_history(args),
    )  # fmt: skip
    numbers = replay_options.seeds(args)
    grounds = [_ground(args, setting, number) for number in numbers]
    trace = grounds[0].trace
    seeds = [_foreign_seed(args, grounds[0])] if foreign_ground else [ground.seed(args.quiet) for ground in grounds]
    chosen: dict[str, Chosen] = {}
    fixed = None
    for name in replay_options.policies(args):
        if name == AGGREGATED:
            fixed = _compare(args, setting, grounds[0])
            for deployment in (AGGREGATED, MIXED):
                chosen[deployment] = Chosen.of(fixed.tried[deployment], args.attainment)
            continue
        if not args.quiet:
            print(f"{name}:", file=sys.stderr, flush=True)
        chosen[name] = choose(name, seeds, args.attainment)
    if args.equal_hours:
        chosen[f"dopd@{args.equal_hours}"] = _equal_hours(args, grounds[0], chosen)
    facts = _facts(args, trace, profile.correction)
    if "optimum" in chosen and not args.world.sizes:
        facts["optimum_at_least_gpu_hours"] = round(
            sum(Optimum(setting, ground.trace).at_least_gpu_hours() for ground in grounds) / len(grounds), 4
        )
    return Report(trace.name, args.profile or replay_options.PROFILE, facts, chosen, load_over_time(trace), fixed)


def _history(args: SimpleNamespace) -> tuple[PastLoad, ...]:
    """The load before the trace, if one is named."""
    if args.history is None:
        return ()
    end = args.history_to_seconds
    if end is None:
        end = args.from_seconds if args.history == args.trace else math.inf
    if not end > args.history_from_seconds:
        raise ValueError(
            f"--history {args.history}: ends at {end:g} s; expected an end after --history-from-seconds "
            f"{args.history_from_seconds:g} (give --history-to-seconds, or a later --from-seconds)"
        )
    return before(args.history, args.history_from_seconds, end, args.rate_scale, replay_options.seeds(args)[0])


def _ground(args: SimpleNamespace, setting: Setting, seed: int) -> Ground:
    trace = load(args.trace, args.rate_scale, seed, args.from_seconds, args.to_seconds, args.within, args.world.bursty)
    settings = args.world.settings(_settings(args, setting, seed), trace.duration_seconds)
    if args.simulator == "dynamo" or not args.prefix_cache:
        trace = replace(trace, prefixes=None)
    engine = args.world.engine(setting.model)
    if trace.prefixes is not None:
        counts = static.peak(setting, trace)
        trace = with_uncached_tokens(trace, engine, counts, replace(settings, disturbances=NO_DISTURBANCES))
    return Ground(setting, trace, settings, engine)


def _compare(args: SimpleNamespace, setting: Setting, ground: Ground) -> Comparison:
    """Prefill and decode split, and engines that do both, at fixed counts of equal GPUs."""

    def served(deployment: str, label: str, result: Result) -> None:
        if not args.quiet:
            print(f"{deployment} {label}: {result.attainment:.2%}", file=sys.stderr, flush=True)

    return FixedCounts(setting, ground.trace, ground.settings, served).compare()


def _equal_hours(args: SimpleNamespace, ground: Ground, chosen: dict[str, Chosen]) -> Chosen:
    """Dopd at the GPU-hours that a policy used."""
    peer, setting = chosen[args.equal_hours].result, ground.setting
    start = static.first_counts(setting, ground.trace)

    def told(share: float, attainment: float, budget: int | None) -> Result:
        easier = replace(setting, objectives=replace(setting.objectives, attainment=attainment))
        return ground.serve(Try("", start, lambda: Dopd(easier, load_share=share, gpu_budget=budget)))

    def mean_gpus(rounded: Callable[[float], int]) -> int:
        return gpu_budget(peer.gpu_hours, ground.trace.duration_seconds, setting.prefill_gpus, rounded)

    asked, certain = args.attainment, mean_gpus(math.floor)
    tried = [(f"at most {certain} GPUs", told(1.0, asked, certain))]
    for budget in (None, mean_gpus(math.ceil)):
        for attainment in (asked, *(easier for easier in EASIER_ATTAINMENTS if easier < asked)):
            same = partial(told, attainment=attainment, budget=budget)
            known = chosen["dopd"].result if attainment == asked and budget is None else same(1.0)
            within = f", at most {budget} GPUs" if budget else ""
            for share, result in at_gpu_hours(peer.gpu_hours, known, same):
                tried.append((f"told {share:.3g} of the load, asked for {attainment:.3g}{within}", result))
        found = most_attained(peer.gpu_hours, tried)
        if found and found[1].attainment > peer.attainment:
            break
    knob, result = found or tried[0]
    return Chosen(knob, result, (result,), tuple(tried))


def _settings(args: SimpleNamespace, setting: Setting, seed: int) -> Settings:
    return Settings(
        startup_seconds={role: args.start_up_seconds for role in Role},
        gpus={Role.PREFILL: setting.prefill_gpus, Role.DECODE: setting.decode_gpus},
        flip_seconds=setting.model.flip_seconds,
        routing=args.routing,
        seed=seed,
        order=args.order,
        late_share=args.late_share,
        most_unfinished=args.most_unfinished,
    )


def _foreign_seed(args: SimpleNamespace, ground: Ground) -> Seed:
    """Runs in NVIDIA Dynamo's simulator.

    Raises:
        ValueError: it is not set up.
    """
    python = foreign.find_python(args.dynamo_python)
    common = [args.trace]
    common += ["--seed", str(ground.settings.seed)]
    for option in (
        "profile", "profile_correction", "slo_ttft", "slo_itl", "attainment", "start_up_seconds", "rate_scale",
        "from_seconds", "to_seconds", "within",
    ):  # fmt: skip
        if getattr(args, option) is not None:
            common += [f"--{option.replace('_', '-')}", str(getattr(args, option))]
    return Seed(
        ground.settings.seed,
        len(ground.trace),
        lambda name: listed(foreign.tries(name, ground.setting, ground.trace)),
        lambda attempt, limits: foreign.run(python, common, attempt),  # type: ignore[arg-type]
    )


def _facts(args: SimpleNamespace, trace: Trace, correction: float) -> dict[str, Any]:
    recorded = trace.kind == "requests"
    return {
        "requests": len(trace),
        "seconds": round(trace.duration_seconds),
        "from_seconds": args.from_seconds,
        "to_seconds": args.to_seconds if math.isfinite(args.to_seconds) else None,
        "rate_scale": args.rate_scale,
        "slo_ttft_seconds": args.slo_ttft,
        "slo_itl_seconds": args.slo_itl,
        "attainment": args.attainment,
        "start_up_seconds": args.start_up_seconds,
        "correction": correction,
        "arrivals": "as recorded" if recorded else "bursty by client" if args.world.bursty else "Poisson",
        "within": None if recorded else args.within.value,
        "lengths": "as recorded" if recorded else f"lognormal, cv {INPUT_CV:g} and {OUTPUT_CV:g}",
        "routing": args.routing.value if args.simulator == "dopd" else "round_robin",
        "order": args.order,
        "prefix_cache": "on" if trace.prefixes is not None else "off",
        "simulator": args.simulator,
        "seeds": ",".join(map(str, replay_options.seeds(args))),
        "world": str(args.world) or "as told",
        "history": _told_history(args),
    }


def _told_history(args: SimpleNamespace) -> str | None:
    if args.history is None:
        return None
    name = args.history if is_generated(args.history) else args.history.rpartition("/")[2]
    return f"{name} from {args.history_from_seconds:g} s"
