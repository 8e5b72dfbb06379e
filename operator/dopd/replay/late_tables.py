"""How many requests of each step are late if so many workers serve in it: what the offline optimum is made of.

Prefill is taken for one server that is as fast as all workers together. That is a relaxation: it could do what they do,
and wastes nothing of itself as long as anything waits. A prompt takes from it what it adds to full passes; it is late
if it ends after its deadline. In the order of arrival the times of all follow from the sums of what came before. With
the order chosen freely the fewest are late if, whenever one would be, the longest prompt so far is given up (Moore and
Hodgson; deadlines come in the order of arrivals here). Each step begins with an empty queue.

Decode makes, at most, what its workers make at the largest batch within the ITL objective; answers are made evenly
over as long as the objective lets them take.
"""

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappush, heappushpop

import numpy as np
import numpy.typing as npt

from dopd.perf import EngineModel
from dopd.planning import Objectives
from dopd.planning.queueing import largest_batch
from dopd.replay.trace import Trace

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Table = Floats
"""Late requests, shape (steps, workers from 0 on)."""

LOWEST = 0.5
"""Workers below this share of what is kept busy are not looked at one by one."""


@dataclass(frozen=True)
class Work:
    """What the requests of a trace take.

    Attributes:
        step_seconds: length of a step.
        first: of each step, the index of its first request; one more at the end.
        arrivals: seconds.
        seconds: of a prefill worker, each.
        slack_seconds: from arrival to the last moment at which its prefill may end; below 0 if it can not be on time.
        tokens: of all answers together that decode makes in each step.
        capacity: tokens a second of a decode worker, in each step.
        outputs: answer tokens of each.
    """

    step_seconds: float
    first: Ints
    arrivals: Floats
    seconds: Floats
    slack_seconds: Floats
    tokens: Floats
    capacity: Floats
    outputs: Floats

    @property
    def steps(self) -> int:
        """How many."""
        return len(self.first) - 1


def work(trace: Trace, model: EngineModel, objectives: Objectives, step_seconds: float) -> Work:
    """What a trace takes of an engine."""
    steps = int(trace.duration_seconds // step_seconds) + 1
    arrivals = trace.arrival_seconds
    computed = (trace.uncached_tokens if trace.uncached_tokens is not None else trace.input_tokens).astype(float)
    lengths, back = np.unique(computed.astype(np.int64), return_inverse=True)
    packed = np.array([model.packed_seconds(float(n)) for n in lengths])[back]
    alone = np.array([model.passes_seconds(float(n)) for n in lengths])[back]
    transfer = model.transfer_base_seconds + trace.input_tokens / model.transfer_tokens_per_second
    slack = objectives.ttft_seconds - transfer
    slack = np.where(alone > slack, -1.0, slack)
    first = np.searchsorted(arrivals, np.arange(steps + 1) * step_seconds)
    first[-1] = len(trace)
    tokens, capacity = _decode(trace, model, objectives, steps, step_seconds)
    outputs = trace.output_tokens.astype(float)
    return Work(step_seconds, first.astype(np.int64), arrivals, packed, slack, tokens, capacity, outputs)


def _decode(
    trace: Trace, model: EngineModel, objectives: Objectives, steps: int, step_seconds: float
) -> tuple[Floats, Floats]:
    """Tokens to make in each step, and how many a worker makes in a second."""
    made = np.maximum(0, trace.output_tokens - 1).astype(float)
    takes = np.maximum(made * objectives.itl_seconds, 1e-9)
    context = trace.input_tokens + trace.output_tokens / 2
    tokens = _spread(trace.arrival_seconds, takes, made, steps, step_seconds)
    contexts = _spread(trace.arrival_seconds, takes, made * context, steps, step_seconds)
    mean = np.divide(contexts, tokens, out=np.full(steps, float(context.mean())), where=tokens > 0)
    grid = np.unique(np.geomspace(max(1.0, mean.min()), max(2.0, mean.max()), 24))
    rates = []
    for length in grid:
        most = max(1, min(int(model.kv_tokens // length), model.max_running_requests))
        batch = largest_batch(model.itl_curve(length), objectives.itl_seconds, most)
        rates.append(batch / model.itl_seconds(batch, length))
    return tokens, np.interp(mean, grid, rates)


def _spread(begins: Floats, takes: Floats, amounts: Floats, steps: int, step_seconds: float) -> Floats:
    """Amounts that come evenly from their begins on for as long as each takes, summed for each step."""
    edges = np.arange(steps + 1) * step_seconds
    rates = amounts / takes
    # The sum until an edge is that of rate x (edge - begin) of what has begun, less the same of what has ended.
    total = np.zeros(steps + 1)
    for times, sign in ((begins, 1.0), (begins + takes, -1.0)):
        order = np.argsort(times, kind="stable")
        sorted_times, sorted_rates = times[order], rates[order]
        count = np.searchsorted(sorted_times, edges)
        rate = np.concatenate(([0.0], np.cumsum(sorted_rates)))[count]
        moment = np.concatenate(([0.0], np.cumsum(sorted_rates * sorted_times)))[count]
        total += sign * (rate * edges - moment)
    together: Floats = np.maximum(0.0, np.diff(total))
    return together


Speed = Callable[[int], float]
"""How many workers' work so many workers do."""


def prefill(work: Work, speed: Speed, in_order: bool) -> Table:
    """Late requests of each step.

    Args:
        work: what the requests take.
        speed: of so many workers.
        in_order: the order is chosen freely; else prompts come in order of arrival.
    """
    rows: list[dict[int, float]] = []
    for k in range(work.steps):
        part = slice(work.first[k], work.first[k + 1])
        rows.append(_row(work.arrivals[part], work.seconds[part], work.slack_seconds[part], work, k, speed, in_order))
    most = max((max(row) for row in rows if row), default=1)
    table = np.zeros((work.steps, most + 2))
    for k, row in enumerate(rows):
        if row:
            table[k] = _filled(row, len(table[k]), work.first[k + 1] - work.first[k], in_order)
    table[:, 0] = work.first[1:] - work.first[:-1]
    return table


def _row(
    arrivals: Floats, seconds: Floats, slack: Floats, work: Work, k: int, speed: Speed, in_order: bool
) -> dict[int, float]:
    """Late requests by workers, from few workers up to as many as leave none late that can be on time."""
    if not len(arrivals):
        return {}
    hopeless = float((slack < 0).sum())
    if in_order:  # those that can not be on time wait for a quieter moment
        can = slack >= 0
        arrivals, seconds, slack = arrivals[can], seconds[can], slack[can]
    workers = max(1, int(LOWEST * seconds.sum() / work.step_seconds))
    until = (k + 1) * work.step_seconds
    row: dict[int, float] = {}
    while True:
        rate = speed(workers)
        ends = _in_order_of_arrival(arrivals, seconds / rate)
        # What is not done as the step ends may still be: it is not counted.
        late = (ends > arrivals + slack) & (arrivals + slack <= until)
        count = float(late.sum())
        if count and in_order:
            count = float(_fewest_late(arrivals, seconds / rate, arrivals + slack, until))
        row[workers] = count + (hopeless if in_order else 0.0)
        if not count or (not in_order and count <= hopeless):
            return row
        workers += 1


def _in_order_of_arrival(arrivals: Floats, seconds: Floats) -> Floats:
    """When each ends on one server."""
    until = np.cumsum(seconds)
    ends: Floats = until + np.maximum.accumulate(arrivals - (until - seconds))
    return ends


def _fewest_late(arrivals: Floats, seconds: Floats, deadlines: Floats, until: float) -> int:
    """Requests that have to be late on one server, whatever the order; deadlines ascend nearly as arrivals do."""
    end, late = 0.0, 0
    held: list[float] = []
    for arrival, takes, deadline in zip(arrivals.tolist(), seconds.tolist(), deadlines.tolist(), strict=True):
        if end <= arrival:
            end = arrival
            held.clear()
        end += takes
        if end > deadline and deadline <= until:
            end += heappushpop(held, -takes)
            late += 1
        else:
            heappush(held, -takes)
    return late


def _filled(row: dict[int, float], length: int, arrived: int, in_order: bool) -> Floats:
    """A row for all numbers of workers: below the known ones along the line of the first two, above them the last."""
    lowest, highest = min(row), max(row)
    values = np.full(length, row[highest])
    for workers, late in row.items():
        values[workers] = late
    slope = row[lowest] - row[lowest + 1] if lowest + 1 in row else float(arrived)
    for workers in range(lowest - 1, 0, -1):
        values[workers] = min(arrived, values[workers + 1] + slope) if in_order else arrived
    return values


def decode(work: Work, speed: Speed, fewest: bool) -> Table:
    """Late requests of each step.

    Args:
        work: what the requests take.
        speed: of so many workers.
        fewest: where the tokens are too many, answers are given up as if each were the longest of the trace; that
            frees tokens in several steps, so of one answer a part counts in each. Else all that arrived in the step are
            late, as they share the batch.
    """
    needed = work.tokens / (work.capacity * work.step_seconds)
    most = 1
    while speed(most) < needed.max():
        most += 1
    rates = np.array([0.0] + [speed(workers) for workers in range(1, most + 1)])
    made = rates * (work.capacity * work.step_seconds)[:, None]
    beyond = np.maximum(0.0, work.tokens[:, None] - made)
    arrived = np.diff(work.first).astype(float)[:, None]
    table: Table = beyond / max(1.0, float(work.outputs.max())) if fewest else np.where(beyond > 0, arrived, 0.0)
    return table
