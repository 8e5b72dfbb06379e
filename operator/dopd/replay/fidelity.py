"""How far the simulated cluster and the sizing formulas are from what they stand for.

Prints, each with its error: waiting against M/D/1 and M/G/1; the sizing model against the simulated cluster; where
aiconfigurator-core is installed, the profile and the packing of passes against published estimates that the profile
does not hold; where NVIDIA Dynamo's simulator is installed, fixed counts from light load to overload in both.

    python -m dopd.replay.fidelity [TRACE]      the trace is needed for the last part
"""

import importlib
import importlib.util
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np

from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.planning import Demand, Objectives
from dopd.planning.queueing import PrefillLoad
from dopd.replay.cluster import Cluster
from dopd.replay.profiles import load_profile
from dopd.replay.runner import run
from dopd.replay.trace import Ints, Trace, load
from dopd.replay.workers import FIRST_COME, ON_TIME_FIRST, Dialect, Routing, Settings

PROFILE = "llama-3.1-8b-h100"
STILL = Settings(startup_seconds={role: 60.0 for role in Role})
OBJECTIVES = Objectives()
LATE_AFTER_SECONDS = 0.75
SEEN_LATE = 0.001
"""Cases in which less is late, as expected and as simulated, say nothing of a factor."""


def queueing(count: int = 60_000) -> list[str]:
    """Mean wait of one worker whose prompts never share a pass, against Pollaczek and Khinchine."""
    model = replace(_model(1.0), chunk_tokens=1000)
    constant, lines = model.prefill_seconds(1000), []
    for rho in (0.2, 0.4, 0.6, 0.8, 0.9):
        wait = _mean_wait(model, np.full(count, 1000), rho / constant, constant)
        lines.append(_line(f"M/D/1 wait, use {rho:.1f}", wait, rho * constant / (2 * (1 - rho)), "s"))
    # Time in proportion to length and small cuts: a prompt then takes its own time, whatever shares its passes.
    whole = replace(model, prefill_curve=((1.0, 2.5e-5), (8000.0, 0.2)), chunk_tokens=25)
    lengths = np.array([500, 2000])
    services = np.array([whole.prefill_seconds(tokens) for tokens in lengths])
    chosen = lengths[np.random.default_rng(2).integers(0, 2, count)]
    for rho in (0.2, 0.4, 0.6):
        rate = rho / services.mean()
        wait = _mean_wait(whole, chosen, rate, float(services.mean()))
        lines.append(_line(f"M/G/1 wait, use {rho:.1f}", wait, rate * (services**2).mean() / (2 * (1 - rho)), "s"))
    return lines


def sizing(order: str = FIRST_COME, count: int = 20_000) -> list[str]:
    """Share of late first tokens that the sizing model expects, against the simulated cluster."""
    settings = replace(STILL, order=order, objectives=replace(OBJECTIVES, ttft_seconds=LATE_AFTER_SECONDS))
    in_order = order == ON_TIME_FIRST
    model, lines = _model(1.0), []
    lengths = _lengths(0.81, 200_000)
    unit = _unit(lengths)
    mean_seconds = PrefillLoad.of(unit, model).mean_seconds
    for workers in (1, 2, 4, 8):
        for use in (0.8, 0.9, 0.95):
            rate = use * workers / mean_seconds
            late = _late(model, lengths[: count * workers // 2 + 5000], rate, workers, settings)
            load_of = PrefillLoad.of(unit.scaled(rate), model, on_time_first=in_order)
            share = load_of.late_share(workers, LATE_AFTER_SECONDS)
            lines.append(
                f"{workers} workers, use {use:.2f}: later than {LATE_AFTER_SECONDS:g} s {share:.2%} expected, "
                f"{late:.2%} simulated"
            )
    return lines


def late_by_order() -> list[str]:
    """`LATE_BY_ORDER` as the simulated cluster has it: for each case, and as the mean of its logarithm over all."""
    logarithms, lines = [], []
    for spread, services, workers, use in product((0.4, 0.8, 1.2), (8, 16, 32), (1, 2, 4), (0.875, 0.95, 0.99)):
        lost, late = late_in_order(spread, services, workers, use)
        lines.append(
            f"lengths spread by {spread}, {services} services to wait, {workers} workers, use {use}: "
            f"{lost:.2%} have to be late, {late:.2%} are"
        )
        if max(lost, late) >= SEEN_LATE:
            logarithms.append(math.log(max(late, SEEN_LATE / 2) / max(lost, SEEN_LATE / 2)))
    factor, within = math.exp(np.mean(logarithms)), math.exp(np.std(logarithms))
    lines.append(f"factor: {factor:.2f}, {len(logarithms)} cases, typically within {within:.1f} times of it")
    return lines


def late_in_order(spread: float, services: float, workers: int, use: float, count: int = 12_000) -> tuple[float, float]:
    """Shares of a steady load that have to be late, and that the simulated cluster makes late in `on-time-first`.

    Args:
        spread: of the lognormal prompt lengths.
        services: mean service times that a prompt may wait.
        workers: prefill workers.
        use: share of them that the work keeps busy, below 1.
        count: requests for each worker.
    """
    model, lengths = _model(1.0), _lengths(spread, 200_000)
    one = PrefillLoad.of(_unit(lengths), model, on_time_first=True)
    load_of = replace(one, requests_per_second=use * workers / one.mean_seconds)
    goal = replace(OBJECTIVES, ttft_seconds=one.idle_ttft_seconds + services * one.mean_seconds)
    settings = replace(STILL, order=ON_TIME_FIRST, objectives=goal)
    late = _late(model, lengths[: count * workers], load_of.requests_per_second, workers, settings)
    return load_of.lost_in_order(workers, goal.ttft_seconds), late


def published() -> list[str]:
    """Profile and packing against estimates at lengths, batches and cuts that the profile does not hold."""
    engines = importlib.import_module("aiconfigurator_core.sdk.engine")
    engine = engines.EngineHandle.compile(
        "meta-llama/Meta-Llama-3.1-8B", "h100_sxm", "sglang", backend_version="current", tp_size=1
    )
    model, lines = _model(1.0), []
    for tokens in (90, 200, 400, 900, 1700, 2600, 3600, 5000, 7000, 10_000, 20_000):
        estimate = engine.predict_prefill_latency(1, tokens) / 1e3
        lines.append(_line(f"prefill of {tokens}", model.prefill_seconds(tokens), estimate, "s"))
    for batch, tokens in ((2, 512), (4, 512), (8, 256), (2, 2048), (3, 2000), (4, 2048), (8, 1000)):
        estimate = engine.predict_prefill_latency(batch, tokens) / 1e3
        seconds = model.prefill_pass_seconds(batch * tokens, batch * tokens**2)
        lines.append(_line(f"pass of {batch} x {tokens}", seconds, estimate, "s"))
    for batch, context in (
        (4, 600),
        (24, 1400),
        (48, 3000),
        (100, 1366),
        (160, 800),
        (220, 1500),
        (80, 6000),
        (12, 12000),
    ):
        estimate = engine.predict_decode_latency(batch, context, 2) / 1e3
        lines.append(_line(f"decode of {batch} at {context}", model.itl_seconds(batch, context), estimate, "s"))
    return lines


def dynamo(path: str) -> list[str]:
    """Fixed counts on ten minutes of a request trace, from light load to overload, in both simulators."""
    foreign = importlib.import_module("dopd.replay.dynamo_simulator")
    lines = []
    for prefill, decode, copies in (
        (2, 2, 2), (2, 2, 4), (2, 2, 6), (3, 2, 8), (3, 2, 10), (4, 3, 12), (4, 3, 14), (5, 3, 16), (5, 3, 18),
        (6, 4, 20), (4, 3, 18), (3, 2, 14), (5, 2, 20),
    ):  # fmt: skip
        trace = load(path, copies).between(600, 1200)
        theirs = foreign.fixed(trace, PROFILE, OBJECTIVES, prefill, decode)
        settings = replace(STILL, routing=Routing.ROUND_ROBIN, dialect=Dialect.DYNAMO)
        ours = run(trace, _model(1.0), OBJECTIVES, (prefill, decode), settings)
        lines.append(
            f"{prefill}+{decode}, {copies} copies: "
            f"attained {ours.attainment:.1%} ours {theirs.attainment:.1%} theirs, "
            f"TTFT p90 {ours.ttft_p90:.3f} {theirs.ttft_p90:.3f} s ({_off(ours.ttft_p90, theirs.ttft_p90)}); "
            f"ITL p90 {ours.itl_p90 * 1e3:.1f} {theirs.itl_p90 * 1e3:.1f} ms "
            f"({_off(ours.itl_p90, theirs.itl_p90)})"
        )
    return lines


def main(arguments: list[str]) -> int:
    """Print every part that can be had here."""
    parts: list[tuple[str, Callable[[], list[str]]]] = [
        ("Queueing theory", queueing),
        ("Sizing against the simulated cluster, first come, first served", sizing),
        ("The same in the order on-time-first", lambda: sizing(ON_TIME_FIRST)),
        ("What the order makes late, for each that has to be", late_by_order),
    ]
    if importlib.util.find_spec("aiconfigurator_core"):
        parts.append(("Published estimates", published))
    if arguments and importlib.util.find_spec("dynamo"):
        parts.append(("NVIDIA Dynamo's simulator", lambda: dynamo(arguments[0])))
    for title, part in parts:
        print(title)
        for line in part():
            print("  " + line, flush=True)
    return 0


def _model(correction: float) -> EngineModel:
    return EngineModel.from_profile(load_profile(PROFILE).model_copy(update={"correction": correction}))


def _lengths(spread: float, count: int) -> Ints:
    """Lognormal prompt lengths of a mean of 1,155 tokens."""
    drawn = np.random.default_rng(4).lognormal(np.log(1155) - spread**2 / 2, spread, count)
    return np.maximum(1, drawn).astype(np.int64)


def _unit(lengths: Ints) -> Demand:
    return Demand(1.0, float(lengths.mean()), float((lengths.astype(float) ** 2).mean()), 2.0)


def _late(model: EngineModel, lengths: Ints, rate: float, workers: int, settings: Settings) -> float:
    """Share of the requests of a steady load whose first token comes after the objective."""
    trace = _poisson(rate, lengths, 2)
    cluster = Cluster(model, trace, workers, 4 * workers, settings)
    cluster.run()
    ttft = np.array(cluster.ttft_seconds)[len(trace) // 10 :]
    return float((ttft > settings.objectives.ttft_seconds).mean())


def _poisson(rate: float, lengths: np.ndarray, outputs: int) -> Trace:
    arrivals = np.cumsum(np.random.default_rng(9).exponential(1 / rate, len(lengths)))
    return Trace("poisson", arrivals, lengths.astype(np.int64), np.full(len(lengths), outputs), "requests")


def _mean_wait(model: EngineModel, lengths: np.ndarray, rate: float, mean_service_seconds: float) -> float:
    still = replace(model, transfer_base_seconds=0.0, transfer_tokens_per_second=1e15)
    cluster = Cluster(still, _poisson(rate, lengths, 1), 1, 1, STILL)
    cluster.run()
    return float(np.mean(cluster.ttft_seconds)) - mean_service_seconds


def _line(what: str, ours: float, reference: float, unit: str) -> str:
    return f"{what}: {ours:.5f} {unit}, reference {reference:.5f} {unit} ({_off(ours, reference)})"


def _off(ours: float, reference: float) -> str:
    return f"{ours / reference - 1:+.1%}" if reference else "-"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
