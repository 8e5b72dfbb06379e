"""`dopd replay`: what the planner would have done with a load that is known, and what its peers would have."""

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from dopd.api.names import Role
from dopd.api.text import plain
from dopd.cli import replay_options
from dopd.perf import EngineModel
from dopd.planning import Objectives
from dopd.replay import foreign
from dopd.replay.equal_hours import EASIER_ATTAINMENTS, at_gpu_hours, gpu_budget, most_attained
from dopd.replay.fixed import AGGREGATED, MIXED, Comparison, FixedCounts
from dopd.replay.policies import static
from dopd.replay.policies.base import Setting
from dopd.replay.policies.catalogue import Try, tries
from dopd.replay.policies.dopd import Dopd
from dopd.replay.profiles import load_profile, shipped
from dopd.replay.report import Report
from dopd.replay.runner import Result, load_over_time, run, with_uncached_tokens
from dopd.replay.trace import INPUT_CV, OUTPUT_CV, Trace, load
from dopd.replay.workers import ON_TIME_FIRST, Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `dopd replay`."""
    parser.description = f"{__doc__} Shipped profiles: {', '.join(shipped())}."
    replay_options.add_arguments(parser)


def call(args: argparse.Namespace) -> int:
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


def replay(args: argparse.Namespace) -> Report:
    """Run every policy asked for on the trace.

    Raises:
        ValueError: the trace, the profile or a policy name is not usable.
    """
    profile = load_profile(args.profile)
    if args.profile_correction is not None:
        profile = profile.model_copy(update={"correction": args.profile_correction})
    model = replace(
        EngineModel.from_profile(profile), startup_seconds={role.value: args.start_up_seconds for role in Role}
    )
    trace = load(args.trace, args.rate_scale, args.seed, args.from_seconds, args.to_seconds, args.within)
    objectives = Objectives(args.slo_ttft, args.slo_itl, args.attainment)
    in_order = args.order == ON_TIME_FIRST and args.simulator != "dynamo"
    setting = Setting(model, objectives, args.start_up_seconds, profile.gpus, profile.gpus, on_time_first=in_order)
    foreign_ground = args.simulator == "dynamo"
    if foreign_ground or not args.prefix_cache:
        trace = replace(trace, prefixes=None)
    if trace.prefixes is not None:
        counts = static.peak(setting, trace)
        trace = with_uncached_tokens(trace, model, counts, _settings(args, setting))
    runs = _dynamo_runs(args, setting, trace) if foreign_ground else _runs(args, setting, trace)
    chosen: dict[str, Result] = {}
    knobs: dict[str, str] = {}
    all_tries: dict[str, list[dict[str, Any]]] = {}
    fixed = None
    for name in replay_options.policies(args):
        if name == AGGREGATED:
            fixed = _compare(args, setting, trace)
            for deployment in (AGGREGATED, MIXED):
                knobs[deployment], chosen[deployment] = best(fixed.tried[deployment], args.attainment)
                all_tries[deployment] = _tried(fixed.tried[deployment])
            continue
        results = []
        for label, result_of in runs(name):
            began = time.monotonic()
            results.append((label, result_of()))
            if not args.quiet:
                took = time.monotonic() - began
                print(f"{name} {label}: {len(trace)} requests in {took:.0f} s", file=sys.stderr, flush=True)
        knobs[name], chosen[name] = best(results, args.attainment)
        all_tries[name] = _tried(results)
    if args.equal_hours:
        _add_equal_hours(args, setting, trace, chosen, knobs, all_tries)
    facts = _facts(args, trace, profile.correction)
    return Report(trace.name, args.profile, facts, chosen, knobs, all_tries, load_over_time(trace), fixed)


def _compare(args: argparse.Namespace, setting: Setting, trace: Trace) -> Comparison:
    """Prefill and decode split, and engines that do both, at fixed counts of equal GPUs."""

    def served(deployment: str, label: str, result: Result) -> None:
        if not args.quiet:
            print(f"{deployment} {label}: {result.attainment:.2%}", file=sys.stderr, flush=True)

    return FixedCounts(setting, trace, _settings(args, setting), served).compare()


Runs = Callable[[str], list[tuple[str, Callable[[], Result]]]]
"""For the name of a policy its runs: the knob and what gives the result."""


def _add_equal_hours(
    args: argparse.Namespace,
    setting: Setting,
    trace: Trace,
    chosen: dict[str, Result],
    knobs: dict[str, str],
    all_tries: dict[str, list[dict[str, Any]]],
) -> None:
    """Add dopd at the GPU-hours that a policy used."""
    peer = chosen[args.equal_hours]
    start = static.first_counts(setting, trace)

    def told(share: float, attainment: float, budget: int | None) -> Result:
        easier = replace(setting, objectives=replace(setting.objectives, attainment=attainment))
        policy = Dopd(easier, load_share=share, gpu_budget=budget)
        return run(trace, setting.model, setting.objectives, start, _settings(args, setting), policy)

    def mean_gpus(rounded: Callable[[float], int]) -> int:
        return gpu_budget(peer.gpu_hours, trace.duration_seconds, setting.prefill_gpus, rounded)

    asked, certain = args.attainment, mean_gpus(math.floor)
    tried = [(f"at most {certain} GPUs", told(1.0, asked, certain))]
    for budget in (None, mean_gpus(math.ceil)):
        for attainment in (asked, *(easier for easier in EASIER_ATTAINMENTS if easier < asked)):
            search = partial(told, attainment=attainment, budget=budget)
            known = chosen["dopd"] if attainment == asked and budget is None else search(1.0)
            within = f", at most {budget} GPUs" if budget else ""
            for share, result in at_gpu_hours(peer.gpu_hours, known, search):
                tried.append((f"told {share:.3g} of the load, asked for {attainment:.3g}{within}", result))
        found = most_attained(peer.gpu_hours, tried)
        if found and found[1].attainment > peer.attainment:
            break
    name = f"dopd@{args.equal_hours}"
    knobs[name], chosen[name] = found or tried[0]
    all_tries[name] = _tried(tried)


def _tried(results: list[tuple[str, Result]]) -> list[dict[str, Any]]:
    return [
        {"knob": label, "attainment": result.attainment, "gpu_hours": result.gpu_hours} for label, result in results
    ]


def _settings(args: argparse.Namespace, setting: Setting) -> Settings:
    return Settings(
        startup_seconds={role: args.start_up_seconds for role in Role},
        gpus={Role.PREFILL: setting.prefill_gpus, Role.DECODE: setting.decode_gpus},
        flip_seconds=setting.model.flip_seconds,
        routing=args.routing,
        seed=args.seed,
        order=args.order,
        late_share=args.late_share,
        most_unfinished=args.most_unfinished,
    )


def _runs(args: argparse.Namespace, setting: Setting, trace: Trace) -> Runs:
    """Runs on our own simulated cluster."""
    settings = _settings(args, setting)

    def serve(attempt: Try) -> Result:
        policy = attempt.policy() if attempt.policy else None
        return run(trace, setting.model, setting.objectives, attempt.start, settings, policy)

    return lambda name: [(attempt.label, partial(serve, attempt)) for attempt in tries(name, setting, trace)]


def _dynamo_runs(args: argparse.Namespace, setting: Setting, trace: Trace) -> Runs:
    """Runs in NVIDIA Dynamo's simulator.

    Raises:
        ValueError: it is not set up.
    """
    python = foreign.find_python(args.dynamo_python)
    common = [args.trace]
    for option in (
        "profile", "profile_correction", "slo_ttft", "slo_itl", "attainment", "start_up_seconds", "rate_scale", "seed",
        "from_seconds", "to_seconds", "within",
    ):  # fmt: skip
        if getattr(args, option) is not None:
            common += [f"--{option.replace('_', '-')}", str(getattr(args, option))]
    return lambda name: [
        (attempt.label, partial(foreign.run, python, common, attempt))
        for attempt in foreign.tries(name, setting, trace)
    ]


def best(results: list[tuple[str, Result]], attainment: float) -> tuple[str, Result]:
    """The cheapest run that reaches the attainment, else the one that comes nearest."""
    reached = [entry for entry in results if entry[1].attainment >= attainment]
    if reached:
        return min(reached, key=lambda entry: entry[1].gpu_hours)
    return max(results, key=lambda entry: entry[1].attainment)


def _facts(args: argparse.Namespace, trace: Trace, correction: float) -> dict[str, Any]:
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
        "arrivals": "as recorded" if recorded else "Poisson",
        "within": None if recorded else args.within.value,
        "lengths": "as recorded" if recorded else f"lognormal, cv {INPUT_CV:g} and {OUTPUT_CV:g}",
        "routing": args.routing.value if args.simulator == "dopd" else "round_robin",
        "order": args.order,
        "prefix_cache": "on" if trace.prefixes is not None else "off",
        "simulator": args.simulator,
        "seed": args.seed,
    }
