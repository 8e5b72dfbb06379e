"""CPU time of the autoscaler: one decide(), one observe() at a steady state, the first with a history; and one size().

Usage: python operator/benchmarks/plan_time.py [--profiles NAME ...] [--workers 1 5 20 50] [--looks 100] [--days 14]

Each row walks a load with random moves around the rate at which the greater role needs so many workers. The history is
of minutes, with a day in it; the walk goes on from its end, a bin a minute and a look each interval, and its first hour
is not timed: the looks that are carry a full memory, as in service. The operator leaves the estimations of forecasters
to another process; here they are done at once and not counted, so that what is timed is what a reading costs there.
"""

import argparse
import math
import random
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

from dopd.autoscaler import Autoscaler, PastLoad, Sample
from dopd.perf import EngineModel
from dopd.planning import Demand, Load, PerRole, Policy, Workers, size
from dopd.reconcile.forecasts import EstimatedElsewhere
from dopd.replay.profiles import load_profile

REQUESTS = Demand(1.0, 1155.0, 2_563_000.0, 211.0, 1.0, 71_000.0)
"""Lengths of azure2023-conv, which the replay uses too."""
WARM_LOOKS = 250
"""More than an hour of them."""
MOVE = 0.05
"""The load moves by so much at most, up or down."""
BIN_SECONDS, DAY_SECONDS = 60.0, 86_400.0


@dataclass
class Elsewhere(Executor):
    """Does estimations at once, and tells how long they took."""

    seconds: float = 0.0

    def submit(self, call: Callable[..., Any], /, *arguments: Any, **others: Any) -> Future[Any]:
        """The result of a call."""
        start, done = time.process_time(), Future[Any]()
        done.set_result(call(*arguments, **others))
        self.seconds += time.process_time() - start
        return done


@dataclass
class Took:
    """CPU time of each, milliseconds."""

    decide: list[float] = field(default_factory=list)
    observe: list[float] = field(default_factory=list)
    size: list[float] = field(default_factory=list)
    first: float = 0.0


def rate_for(workers: int, model: EngineModel, policy: Policy) -> float:
    """Greatest rate, within a percent, at which no role needs more workers."""
    load = Load.of(REQUESTS, model, policy.objectives)
    rate = 1.0

    def fits(rate: float) -> bool:
        need = load.at(rate).size(policy.prefill.gpus, policy.decode.gpus)
        return max(need.prefill, need.decode) <= workers

    while fits(2 * rate):
        rate *= 2
    while not fits(rate):
        rate /= 1.01
    while fits(1.01 * rate):
        rate *= 1.01
    return rate


def walk(rate: float, model: EngineModel, policy: Policy, days: float, looks: int) -> Took:
    """Look at a load that moves at random, each time after the decision of the look before."""
    chance, took, elsewhere = random.Random(1), Took(), Elsewhere()
    loop, pair = Autoscaler(forecaster=lambda: EstimatedElsewhere(elsewhere)), (1, 1)

    def demand(at_seconds: float) -> Demand:
        day = 1 - 0.5 * math.cos(2 * math.pi * at_seconds / DAY_SECONDS)
        return REQUESTS.at(rate * day / 1.5 * (1 + chance.uniform(-MOVE, MOVE)))

    def bin_of(index: int) -> PastLoad:
        return PastLoad(BIN_SECONDS * index, BIN_SECONDS, demand(BIN_SECONDS * index))

    past = [bin_of(index) for index in range(-round(days * DAY_SECONDS / BIN_SECONDS), 0)]
    for index in range(WARM_LOOKS + looks):
        now_seconds = index * policy.interval_seconds
        while past and past[-1].end_seconds + BIN_SECONDS <= now_seconds:
            past.append(bin_of(round(past[-1].end_seconds / BIN_SECONDS) + 1))
        sample = Sample(now_seconds, demand(now_seconds), 0.0)
        workers = PerRole(
            Workers(pair[0], waiting_tokens=chance.uniform(0, 2000)),
            Workers(pair[1], waiting_requests=0.0, kv_use=0.5),
        )
        before, elsewhere.seconds = time.process_time(), 0.0
        loop.observe(sample, model, policy, past)
        observed = time.process_time()
        decision = loop.decide(workers, now_seconds, model, policy)
        decided = time.process_time()
        pair = decision.pair
        observe_milliseconds = (observed - before - elsewhere.seconds) * 1e3
        if index == 0:
            took.first = observe_milliseconds
        if index >= WARM_LOOKS:
            took.observe.append(observe_milliseconds)
            took.decide.append((decided - observed) * 1e3)
            assert sample.demand
            size(sample.demand, model, policy.objectives, policy.prefill.gpus, policy.decode.gpus)
            took.size.append((time.process_time() - decided) * 1e3)
    return took


def told(milliseconds: list[float]) -> str:
    """Median and 99 %."""
    return f"{median(milliseconds):.2f} | {quantiles(milliseconds, n=100)[-1]:.2f}"


def main() -> None:
    """Print a table of CPU times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profiles", nargs="+", default=["llama-3.1-8b-h100", "llama-3.1-70b-fp8-h100"])
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 5, 20, 50])
    parser.add_argument("--looks", type=int, default=100, help="timed looks of each row")
    parser.add_argument("--days", type=float, default=14, help="history that is known at the first look")
    options = parser.parse_args()
    policy = Policy()
    print("CPU milliseconds")
    print("| profile | workers | decide | 99 % | observe | 99 % | first observe | size |\n" + "|---" * 8 + "|")
    for profile in options.profiles:
        model = EngineModel.from_profile(load_profile(profile))
        for workers in options.workers:
            took = walk(rate_for(workers, model, policy), model, policy, options.days, options.looks)
            print(
                f"| {profile} | {workers} | {told(took.decide)} | {told(took.observe)} | {took.first:.0f} "
                f"| {median(took.size):.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
