"""How a number of workers comes about, step by step: the formulas of `queueing` with their values.

For people who ask why. Nothing is decided here: the numbers are those that `sizing` decides with, kept instead of
thrown away, and what one worker more or less would change.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dopd.perf import EngineModel
from dopd.planning.bounds import Pair
from dopd.planning.demand import Demand
from dopd.planning.per_role import PerRole
from dopd.planning.policy import Policy
from dopd.planning.queueing import DecodeLoad, PrefillLoad, erlang_c, largest_batch
from dopd.planning.sizing import Expected, Load, joined


@dataclass(frozen=True)
class PrefillRow:
    """So many prefill workers under the load.

    Attributes:
        workers: how many.
        use: share of their time that they compute.
        waiting: chance that a prompt waits (Erlang C).
        wait_seconds: mean wait.
        late_share: share of the prompts whose first token comes after the objective.
    """

    workers: int
    use: float
    waiting: float
    wait_seconds: float
    late_share: float


@dataclass(frozen=True)
class DecodeRow:
    """So many decode workers under the load.

    Attributes:
        workers: how many.
        running: mean requests that each runs; infinite where they can not keep up.
        itl_seconds: time of a decode step at that many.
        late_share: chance that a worker is asked to run more than its limit.
    """

    workers: int
    running: float
    itl_seconds: float
    late_share: float


@dataclass(frozen=True)
class PairRow:
    """Both roles together.

    Attributes:
        pair: prefill and decode workers.
        gpus: that they hold.
        expected: what clients meet.
    """

    pair: Pair
    gpus: int
    expected: Expected


@dataclass(frozen=True)
class Workings:
    """All that leads from a demand to a pair.

    Attributes:
        load: what both roles are to carry.
        demands: that each role is planned for.
        needed: the cheapest workers that meet the objectives, before bounds.
        limits: most requests of a decode worker by what sets it: kv, itl, engine.
        prefill: prefill workers around the target.
        decode: decode workers around the target.
        pairs: the target first, then with one prefill worker less, with one decode worker less.
        infeasible: why no number of workers meets the objectives; "" if some does.
    """

    load: Load
    demands: PerRole[Demand]
    needed: Pair
    limits: Mapping[str, int]
    prefill: tuple[PrefillRow, ...]
    decode: tuple[DecodeRow, ...]
    pairs: tuple[PairRow, ...]
    infeasible: str


def work_out(demands: PerRole[Demand], engine: EngineModel, policy: Policy, target: Pair | None = None) -> Workings:
    """Work out the workers for a load.

    Args:
        demands: that each role is planned for.
        engine: performance of one engine, corrected as far as it was measured.
        policy: objectives and GPUs of a worker.
        target: the workers that there are to be; those that are needed if absent.
    """
    objectives = policy.objectives
    loads = demands.map(lambda demand: Load.of(demand, engine, objectives, on_time_first=policy.on_time_first))
    sizes = loads.map(lambda load: load.size(policy.prefill.gpus, policy.decode.gpus))
    load, needed = joined(loads.prefill, loads.decode), (sizes.prefill.prefill, sizes.decode.decode)
    prefill, decode = target or needed
    pairs = [(prefill, decode), (prefill - 1, decode), (prefill, decode - 1)]
    return Workings(
        load=load,
        demands=demands,
        needed=needed,
        limits=_limits(demands.decode, engine, load.feasible.itl_seconds),
        prefill=tuple(_prefill(load, n) for n in _around(prefill)),
        decode=tuple(_decode(load.decode, n) for n in _around(decode)),
        pairs=tuple(PairRow(p, policy.gpus(*p), load.expect(*p)) for p in pairs if min(p) > 0),
        infeasible=sizes.prefill.infeasible or sizes.decode.infeasible,
    )


def _around(workers: int) -> range:
    return range(max(1, workers - 1), max(1, workers) + 2)


def _limits(demand: Demand, engine: EngineModel, itl_seconds: float) -> dict[str, int]:
    curve = engine.itl_curve(demand.running_context_tokens)
    return {
        "kv": max(1, engine.kv_batch(demand.input_tokens + demand.output_tokens)),
        "itl": largest_batch(curve, itl_seconds, engine.max_running_requests),
        "engine": engine.max_running_requests,
    }


def _prefill(load: Load, workers: int) -> PrefillRow:
    work: PrefillLoad = load.prefill
    busy = work.busy_workers
    waiting = erlang_c(workers, busy) if 0 < busy < workers else float(busy >= workers)
    return PrefillRow(
        workers, busy / workers, waiting, work.mean_wait_seconds(workers), load.prefill_late_share(workers)
    )


def _decode(work: DecodeLoad, workers: int) -> DecodeRow:
    running = work.running(workers)
    return DecodeRow(workers, running, work.step_seconds(min(running, work.batch_limit)), work.late_share(workers))


def at_lengths(
    demand: Demand,
    *,
    requests_per_second: float | None = None,
    input_tokens: float | None = None,
    output_tokens: float | None = None,
) -> Demand:
    """A demand of another rate or other mean lengths, which spread as before.

    Args:
        demand: as it is.
        requests_per_second: another arrival rate.
        input_tokens: another mean prompt length, tokens.
        output_tokens: another mean generation length, tokens.
    """
    inputs = demand.input_tokens if input_tokens is None else input_tokens
    outputs = demand.output_tokens if output_tokens is None else output_tokens
    second = demand.output_tokens_second_moment
    return replace(
        demand,
        requests_per_second=demand.requests_per_second if requests_per_second is None else requests_per_second,
        input_tokens=inputs,
        input_tokens_second_moment=demand.input_tokens_second_moment * _squared_ratio(inputs, demand.input_tokens),
        output_tokens=outputs,
        output_tokens_second_moment=None if second is None else second * _squared_ratio(outputs, demand.output_tokens),
    )


def _squared_ratio(after: float, before: float) -> float:
    return (after / before) ** 2 if before else 1.0
