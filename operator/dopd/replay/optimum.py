"""The offline optimum: the least GPU-hours with which the objective can be met over the whole trace, known in advance.

Two figures close it in. The **relaxation** is below it: workers of a role as one fast server, queues empty at each
step, free choice of who is late (`dopd.replay.late_tables`), start-ups paid, counts that change at steps. Lateness
has a price in GPU-hours; for each price the cheapest schedule is found by dynamic programming, and the best price gives
the bound (Lagrange; what it leaves is the price of whole workers). The **verified schedule** is above it: the same
programme, for the order of prompts that runs, with workers that are less than one fast server by a knob and with
a share of the late requests that are allowed; it is replayed, and the cheapest that attains the objective counts.
"""

import math
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import numpy.typing as npt

from dopd.perf import EngineModel
from dopd.planning.bounds import Pair
from dopd.replay import late_tables
from dopd.replay.late_tables import Table, Work
from dopd.replay.policies.base import Setting
from dopd.replay.policies.schedule import Schedule
from dopd.replay.search import Search, Try, highest_pair
from dopd.replay.trace import Trace

Ints = npt.NDArray[np.int64]

LEAST_STEP_SECONDS, MOST_STEPS = 15.0, 1440
LOSSES = (0.0, 0.03, 0.06, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7)
"""Of one worker, what is lost to queueing, by role; of n it is the root of n times as much."""
LATE_SHARES = (1.0, 0.4)
"""Of the late requests that are allowed, those that the schedule plans with."""
PRICES = 40
"""Halvings of the price of a late request."""


@dataclass(frozen=True)
class Roles:
    """Late requests and costs of both roles.

    Attributes:
        tables: late requests of prefill and of decode.
        gpus: of a worker.
        startup_seconds: paid before a worker serves.
        step_seconds: length of a step.
    """

    tables: tuple[Table, Table]
    gpus: tuple[int, int]
    startup_seconds: float
    step_seconds: float

    def cheapest(self, price: float) -> tuple[Ints, float, float]:
        """Workers of each step, GPU-seconds and late requests where a late request costs so many GPU-seconds."""
        columns, seconds, late = [], 0.0, 0.0
        for table, gpus in zip(self.tables, self.gpus, strict=True):
            counts = cheapest(table, price / gpus, self.step_seconds, self.startup_seconds)
            grown = np.maximum(0, np.diff(counts)).sum()
            seconds += gpus * (counts.sum() * self.step_seconds + grown * self.startup_seconds)
            late += float(table[np.arange(len(counts)), counts].sum())
            columns.append(counts)
        return np.stack(columns, axis=1), seconds, late

    def within(self, late: float) -> tuple[Ints, float]:
        """The schedule of the lowest price with no more late requests, and the bound that all prices give, GPU-seconds.

        The bound is for the cheapest of all schedules with so few late.
        """
        low, high = 0.0, 1e7
        chosen, seconds, made = self.cheapest(high)
        bound = seconds + high * (made - late)
        for _ in range(PRICES):
            price = math.sqrt(max(low, 1e-3) * high)
            counts, seconds, made = self.cheapest(price)
            bound = max(bound, seconds + price * (made - late))
            if made <= late:
                chosen, high = counts, price
            else:
                low = price
            if high / max(low, 1e-3) < 1.02:
                break
        return chosen, bound


def cheapest(table: Table, price: float, step_seconds: float, startup_seconds: float) -> Ints:
    """Workers of each step, at least one, with the least of worker-seconds + price x late requests.

    Each worker more than in the step before pays its start-up; those of the first step do not.
    """
    steps, length = table.shape
    counts = np.arange(length)
    own = counts * step_seconds + price * table
    own[:, 0] = math.inf
    value = np.empty_like(own)
    value[0] = own[0]
    for k in range(1, steps):
        fewer = np.minimum.accumulate(value[k - 1] - counts * startup_seconds) + counts * startup_seconds
        more = np.minimum.accumulate(value[k - 1][::-1])[::-1]
        value[k] = own[k] + np.minimum(fewer, more)
    chosen = np.empty(steps, dtype=np.int64)
    chosen[-1] = int(value[-1].argmin())
    for k in range(steps - 1, 0, -1):
        chosen[k - 1] = int((value[k - 1] + startup_seconds * np.maximum(0, chosen[k] - counts)).argmin())
    return chosen


class Optimum:
    """Both figures for one trace.

    Args:
        setting: what every policy is told.
        trace: all of it.
        engine: what the engines are, where the profile that policies are told is wrong.
    """

    def __init__(self, setting: Setting, trace: Trace, engine: EngineModel | None = None) -> None:
        self.setting = setting
        self.step_seconds = max(LEAST_STEP_SECONDS, math.ceil(trace.duration_seconds / MOST_STEPS / 15) * 15.0)
        self.work: Work = late_tables.work(trace, engine or setting.model, setting.objectives, self.step_seconds)
        self._late = (1 - setting.objectives.attainment) * len(trace)
        self._overhang = self.step_seconds * self.work.steps - trace.duration_seconds

    def at_least_gpu_hours(self) -> float:
        """The relaxation's bound."""
        roles = self._roles(late_tables.prefill(self.work, float, True), late_tables.decode(self.work, float, True))
        counts, bound = roles.within(self._late)
        last = float((counts[-1] * np.array(roles.gpus)).sum())  # its last step reaches beyond the trace
        return (bound - last * self._overhang) / 3600

    def search(self) -> Search:
        """Schedules to replay."""
        order = self.setting.on_time_first

        @cache
        def prefill(loss: float) -> Table:
            return late_tables.prefill(self.work, partial(_speed, loss), order)

        @cache
        def decode(loss: float) -> Table:
            return late_tables.decode(self.work, partial(_speed, loss), False)

        def try_of(share: float, prefill_index: int, decode_index: int) -> Try:
            losses = LOSSES[-1 - prefill_index], LOSSES[-1 - decode_index]
            counts, _ = self._roles(prefill(losses[0]), decode(losses[1])).within(self._late * share)
            label = f"lost of a worker {losses[0]:g} and {losses[1]:g}, {share:g} of the late requests planned with"
            return Try(label, self._start(counts), partial(Schedule, self.setting, counts, self.step_seconds))

        for share in LATE_SHARES:
            yield from highest_pair(partial(try_of, share), len(LOSSES), self.setting.objectives.attainment)

    def _roles(self, prefill: Table, decode: Table) -> Roles:
        gpus = self.setting.prefill_gpus, self.setting.decode_gpus
        return Roles((prefill, decode), gpus, self.setting.startup_seconds, self.step_seconds)

    def _start(self, counts: Ints) -> Pair:
        """What the first start-up time needs serves from the start."""
        steps = int(self.setting.startup_seconds // self.step_seconds) + 1
        prefill, decode = counts[:steps].max(axis=0)
        return int(prefill), int(decode)


def _speed(loss: float, workers: int) -> float:
    """How many workers' work so many workers do."""
    return max(0.05, workers - loss * math.sqrt(workers))
