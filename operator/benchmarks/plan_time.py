"""CPU time of one plan(), with and without a forecast, from one worker of a role to many; and one size().

Usage: python operator/benchmarks/plan_time.py [--profiles NAME ...] [--workers 1 5 20 50] [--looks 100]

Each row walks a load with random moves around the rate at which the greater role needs so many workers. The first hour
is not timed: the looks that are carry a full memory of past loads, as in service.
"""

import argparse
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median, quantiles

from dopd.perf import EngineModel
from dopd.planning import Decision, Demand, Forecast, Load, Observation, Policy, Workers, plan, size
from dopd.replay.profiles import load_profile

REQUESTS = Demand(1.0, 1155.0, 2_563_000.0, 211.0, 1.0, 71_000.0)
"""Lengths of azure2023-conv, which the replay uses too."""
MEMORY_LOOKS = 250
"""More than an hour of them, which is what a plan remembers."""
MOVE = 0.05
"""The load moves by so much at most, up or down."""


@dataclass(frozen=True)
class Look:
    """The arguments of one plan() that change from look to look."""

    observation: Observation
    forecast: Forecast | None
    previous: Decision | None
    now_seconds: float


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


def walk(rate: float, model: EngineModel, policy: Policy, *, forecast: bool) -> Iterator[Look]:
    """Looks at a load that moves at random, each after the decision of the one before; endless."""
    chance, previous, now_seconds = random.Random(1), None, 0.0
    pair = (1, 1)
    while True:
        demand = REQUESTS.at(rate * (1 + chance.uniform(-MOVE, MOVE)))
        observation = Observation(
            demand,
            Workers(pair[0], waiting_tokens=chance.uniform(0, 2000)),
            Workers(pair[1], waiting_requests=0.0, kv_use=0.5),
            late_share=0.0,
            ttft_seconds=0.2,
            window_seconds=45.0,
        )
        ahead = Forecast(demand.scaled(1.1), demand.scaled(1.12)) if forecast else None
        yield Look(observation, ahead, previous, now_seconds)
        previous = plan(observation, ahead, model, policy, previous, now_seconds)
        pair, now_seconds = (previous.prefill, previous.decode), now_seconds + policy.interval_seconds


def plan_milliseconds(looks: list[Look], model: EngineModel, policy: Policy) -> list[float]:
    """CPU time of each plan."""
    took = []
    for look in looks:
        start = time.process_time()
        plan(look.observation, look.forecast, model, policy, look.previous, look.now_seconds)
        took.append((time.process_time() - start) * 1e3)
    return took


def size_milliseconds(looks: list[Look], model: EngineModel, policy: Policy) -> list[float]:
    """CPU time of sizing each observed demand."""
    took = []
    for demand in [look.observation.demand for look in looks if look.observation.demand]:
        start = time.process_time()
        size(demand, model, policy.objectives, policy.prefill.gpus, policy.decode.gpus)
        took.append((time.process_time() - start) * 1e3)
    return took


def main() -> None:
    """Print a table of CPU times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profiles", nargs="+", default=["llama-3.1-8b-h100", "llama-3.1-70b-fp8-h100"])
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 5, 20, 50])
    parser.add_argument("--looks", type=int, default=100, help="timed looks of each row")
    options = parser.parse_args()
    policy = Policy()
    print("| profile | workers | forecast | plan() median | plan() 99 % | size() median |\n|---|---|---|---|---|---|")
    for profile in options.profiles:
        model = EngineModel.from_profile(load_profile(profile))
        for workers in options.workers:
            rate = rate_for(workers, model, policy)
            for forecast in (False, True):
                walking = walk(rate, model, policy, forecast=forecast)
                looks = [next(walking) for _ in range(MEMORY_LOOKS + options.looks)][MEMORY_LOOKS:]
                plans, sizes = plan_milliseconds(looks, model, policy), size_milliseconds(looks, model, policy)
                print(
                    f"| {profile} | {workers} | {'yes' if forecast else 'no'} | {median(plans):.2f} ms "
                    f"| {quantiles(plans, n=100)[-1]:.2f} ms | {median(sizes):.2f} ms |"
                )


if __name__ == "__main__":
    main()
