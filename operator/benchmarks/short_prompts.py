"""Short prompts without a transfer: from which length a transfer pays, and what else they would be worth.

OMP_NUM_THREADS=1 python operator/benchmarks/short_prompts.py TRACE [--rate-scale 20]
    [--profiles NAME,...] [--up-to 0,64,...] [--slo-ttft 1.5 --slo-itl 0.05 --attainment 0.99] [--counts 6,3]

First a table of lengths for each profile (`dopd.perf.crossover`), then for the first profile the GPU-hours of the trace
when each minute gets the workers that it needs by the planner's formulas (`dopd.planning.queueing`), with prompts up to
a length served

    P, D            as all others: on prefill workers, then moved
    on decode       by the decode worker itself, a pass of their own between two decode steps
    mixed           the same, but within a decode step (as SGLang's mixed chunks): the pass costs its tokens alone
    regular         by a third pool of workers that do both, and nothing else

and the mean TTFT of these prompts. Left out: prefix caches, start-up, and that
a gateway does not know lengths in tokens. With --counts at last what the order of prompts alone does for short ones,
in the replay of the whole trace on so many workers.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.perf.crossover import crossover
from dopd.planning.demand import Demand, squared_cv
from dopd.planning.policy import Objectives
from dopd.planning.queueing import DecodeLoad, PrefillLoad
from dopd.replay.cluster import Cluster
from dopd.replay.profiles import load_profile, shipped
from dopd.replay.trace import Trace, load
from dopd.replay.workers import Settings

MINUTE = 60.0
CELLS = 40
"""Equal parts of the prompts, by length, that stand for all."""

Lengths = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Minute:
    """Requests of one minute: prompt and answer lengths, tokens."""

    prompts: Lengths
    answers: Lengths

    def where(self, chosen: npt.NDArray[np.bool_]) -> "Minute":
        """Some of them."""
        return Minute(self.prompts[chosen], self.answers[chosen])

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.prompts) / MINUTE

    def demand(self) -> Demand:
        """As the planner reads it."""
        if not self.rate:
            return Demand.none()
        prompts, answers = self.prompts.astype(float), self.answers.astype(float)
        return Demand(self.rate, prompts.mean(), (prompts**2).mean(), answers.mean(), 1.0, float((answers**2).mean()))


def prefill_load(minute: Minute, model: EngineModel) -> PrefillLoad:
    """The queue of these very prompts."""
    if not minute.rate:
        return PrefillLoad(0.0, (), 0.0, 0.0)
    lengths = [float(part.mean()) for part in np.array_split(np.sort(minute.prompts), min(CELLS, len(minute.prompts)))]
    idle = tuple((1 / len(lengths), model.prefill_seconds(n) + model.transfer_seconds(n)) for n in lengths)
    costs = np.array([model.packed_seconds(n) for n in lengths])
    return PrefillLoad(minute.rate, idle, costs.mean(), squared_cv(costs.mean(), (costs**2).mean()))


@dataclass(frozen=True)
class Pool:
    """Workers that decode, and compute some prompts themselves."""

    minute: Minute
    local_seconds: tuple[float, ...]
    model: EngineModel
    itl_seconds: float

    def busy_share(self, workers: int) -> float:
        """Share of the time that goes to these prompts."""
        return sum(self.local_seconds) / MINUTE / workers

    def decode(self, workers: int) -> DecodeLoad:
        """Its decode load, with steps stretched by the passes between them."""
        demand = self.minute.demand()
        slower = self.model.corrected(decode=1 / (1 - self.busy_share(workers)))
        return DecodeLoad.of(demand, slower, slower.itl_curve(demand.running_context_tokens), self.itl_seconds)

    def late_share(self, workers: int) -> float:
        """Chance that it runs more than it should; 1 where prompts leave no time."""
        if not self.minute.rate:
            return 0.0
        if self.busy_share(workers) >= 1:
            return 1.0
        load = self.decode(workers)
        if load.curve[-1][1] > self.itl_seconds:
            return 1.0
        return load.late_share(workers)

    def wait_seconds(self, workers: int) -> float:
        """Mean wait of a prompt: half a decode step, and those that came before it (Pollaczek and Khinchine)."""
        share, own = self.busy_share(workers), np.array(self.local_seconds)
        if not len(own):
            return 0.0
        load = self.decode(workers)
        step = load.step_seconds(min(load.running(workers), load.batch_limit)) * (1 - share)
        return float(step / 2 + share * (own**2).mean() / own.mean() / 2 / (1 - share))


def fewest(late: Callable[[int], float], allowed: float) -> int:
    """Fewest workers, 1 at least, with no more late than allowed."""
    return next(n for n in range(1, 1000) if late(n) <= allowed)


@dataclass
class Sum:
    """Over the minutes of a trace."""

    gpu_minutes: float = 0.0
    ttft_seconds: float = 0.0
    short: int = 0


def serve(minute: Minute, up_to: int, way: str, model: EngineModel, objectives: Objectives) -> tuple[int, float]:
    """Workers that a minute needs, and the mean TTFT of its short prompts (0 where there are none)."""
    is_short = minute.prompts <= up_to
    short, long = minute.where(is_short), minute.where(~is_short)
    allowed = 1 - objectives.attainment
    alone = [model.prefill_seconds(float(n)) for n in short.prompts]
    seconds = tuple(model.packed_seconds(float(n)) for n in short.prompts) if way == "mixed" else tuple(alone)
    third = 0
    if way == "P, D":
        prefill, pool = prefill_load(minute, model), Pool(minute, (), model, objectives.itl_seconds)
    elif way == "regular":
        prefill, pool = prefill_load(long, model), Pool(long, (), model, objectives.itl_seconds)
        own = Pool(short, seconds, model, objectives.itl_seconds)
        third = fewest(own.late_share, allowed / 2) if short.rate else 0
    else:
        prefill, pool = prefill_load(long, model), Pool(minute, seconds, model, objectives.itl_seconds)
    weight = prefill.requests_per_second / minute.rate if minute.rate else 0.0
    best = (math.inf, 0, 0)
    least = fewest(pool.late_share, allowed * 0.99)
    for decode_workers in range(least, least + 3):
        left = allowed - pool.late_share(decode_workers)
        prefill_workers = fewest(lambda n: weight * prefill.late_share(n, objectives.ttft_seconds), left)
        best = min(best, (prefill_workers + decode_workers, prefill_workers, decode_workers))
    ttft = 0.0
    if short.rate:
        if way == "P, D":
            moved = [model.transfer_seconds(float(n)) for n in short.prompts]
            ttft = float(np.mean(alone) + np.mean(moved)) + prefill.mean_wait_seconds(best[1])
        elif way == "regular":
            ttft = float(np.mean(alone)) + own.wait_seconds(third)
        else:
            ttft = float(np.mean(alone)) + pool.wait_seconds(best[2])
    return int(best[0]) + third, ttft


def minutes_of(trace: Trace) -> list[Minute]:
    """The trace in equal parts."""
    edges = np.arange(0, trace.duration_seconds, MINUTE)
    at = np.searchsorted(trace.arrival_seconds, [*edges, math.inf])
    return [Minute(trace.input_tokens[a:b], trace.output_tokens[a:b]) for a, b in pairwise(at) if b > a]


def lengths_table(names: list[str], trace: Trace, objectives: Objectives) -> None:
    """Print the lengths of each profile, at the fullest batch that the planner allows."""
    whole = Minute(trace.input_tokens, trace.output_tokens).demand()
    print(
        "| profile | batch, step | S(1) | fixed cost | S(n) <= fixed | S(n) <= transfer | fits a gap | prefill share |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        model = EngineModel.from_profile(load_profile(name))
        context = whole.running_context_tokens
        batch = DecodeLoad.of(whole, model, model.itl_curve(context), objectives.itl_seconds).batch_limit
        found = crossover(model, batch, context, objectives.itl_seconds)
        print(
            f"| {name} | {batch}, {1e3 * found.step_seconds:.1f} ms | {1e3 * found.first_pass_seconds:.1f} ms | "
            f"{1e3 * model.transfer_base_seconds:.0f} ms | {found.handshake_tokens:.0f} | "
            f"{found.transfer_tokens:.0f} | {found.gap_tokens:.0f} | {found.prefill_share:.0%} |"
        )


def orders_table(trace: Trace, model: EngineModel, counts: tuple[int, int], lengths: list[int]) -> None:
    """Print the mean TTFT of the short prompts under each order, served as all others."""
    print("\n| order | " + " | ".join(f"up to {up_to}" for up_to in lengths) + " | all |")
    print("|---" * (len(lengths) + 2) + "|")
    for order in ("fcfs", "on-time-first"):
        settings = Settings(startup_seconds=dict.fromkeys(Role, 60.0), order=order)
        cluster = Cluster(model, trace, *counts, settings)
        cluster.run()
        ttft = np.array(cluster.ttft_seconds)
        means = [ttft[trace.input_tokens <= up_to].mean() for up_to in (*lengths, math.inf)]
        print(f"| {order} | " + " | ".join(f"{1e3 * mean:.0f} ms" for mean in means) + " |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace")
    parser.add_argument("--rate-scale", type=float, default=20.0)
    parser.add_argument("--profiles", default=",".join(shipped()))
    parser.add_argument("--up-to", default="0,64,128,256,512,1024", help="longest short prompt, tokens")
    parser.add_argument("--slo-ttft", type=float, default=1.5)
    parser.add_argument("--slo-itl", type=float, default=0.05)
    parser.add_argument("--attainment", type=float, default=0.99)
    parser.add_argument("--counts", metavar="P,D", help="prefill and decode workers of the replay")
    args = parser.parse_args()
    objectives = Objectives(args.slo_ttft, args.slo_itl, args.attainment)
    trace, names = load(args.trace, args.rate_scale), args.profiles.split(",")
    lengths_table(names, trace, objectives)

    profile = load_profile(names[0])
    model = EngineModel.from_profile(profile)
    minutes = minutes_of(trace)
    work = sum(model.packed_seconds(float(n)) for n in trace.input_tokens)
    print(f"\n{names[0]}, {args.trace} x{args.rate_scale:g}: {len(trace)} requests, {len(minutes)} minutes\n")
    print("| short is up to | requests | prefill work | way | GPU-hours | TTFT of the short ones |")
    print("|---|---|---|---|---|---|")
    for up_to in (int(text) for text in args.up_to.split(",")):
        short = trace.input_tokens[trace.input_tokens <= up_to]
        share = sum(model.packed_seconds(float(n)) for n in short) / work
        for way in ("P, D", "on decode", "mixed", "regular") if up_to else ("P, D",):
            total = Sum()
            for minute in minutes:
                workers, ttft = serve(minute, up_to, way, model, objectives)
                count = int((minute.prompts <= up_to).sum())
                total.gpu_minutes += workers * profile.gpus
                total.ttft_seconds += ttft * count
                total.short += count
            mean = f"{1e3 * total.ttft_seconds / total.short:.0f} ms" if total.short else "-"
            print(
                f"| {up_to} | {len(short) / len(trace):.1%} | {share:.1%} | {way} | "
                f"{total.gpu_minutes / 60:.1f} | {mean} |",
                flush=True,
            )
    if args.counts:
        prefill, decode = (int(count) for count in args.counts.split(","))
        orders_table(trace, model, (prefill, decode), [int(text) for text in args.up_to.split(",") if int(text)])


if __name__ == "__main__":
    main()
