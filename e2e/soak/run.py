"""A run: the day under faults, one after the other, and what it cost."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from e2e.cluster.docker import Docker
from e2e.endurance.cap import Held, held, pod_events
from e2e.endurance.field import Field
from e2e.endurance.run import stuck
from e2e.load import BackgroundLoad, Schedule, Target
from e2e.load.client import Result
from e2e.soak.agreement import Decision
from e2e.soak.causes import CAUSES, Place, until_well
from e2e.soak.losses import Happened, whole
from e2e.soak.memory import Reading
from e2e.soak.plan import Planned, fits
from e2e.soak.watch import Look, Watch
from e2e.stack import wait_for

Json = dict[str, Any]
WELL_SECONDS = 300.0
"""In which all must be well again after a fault."""
LINE_EVERY_SECONDS = 60.0


@dataclass
class Record:
    """What a run found. Times are seconds since the load began.

    Attributes:
        name: of the resource.
        seed: of faults and load.
        gpus: the budget.
        seconds: that the day takes, of the clock.
        hours: that it stands for.
        schedule: the load.
        began: when it did.
        planned: faults that should come.
        faults: those that came; the last may have broken the run.
        results: all requests.
        looks: at the cluster.
        readings: of the operator's memory.
        decisions: of the log.
        missed: looks that failed.
        ended_at: when the load ended.
        held: GPUs after each creation and each end of a worker, from the first of the resource on.
        stuck: what engines still hold half a minute after the last answer, by pod.
        broken_off: why the run ended early; "" when it did not.
    """

    name: str
    seed: int
    gpus: int
    seconds: float
    hours: float
    schedule: Schedule
    began: datetime
    planned: Sequence[Planned]
    faults: list[Happened] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    ended_at: float = 0.0
    held: list[Held] = field(default_factory=list)
    stuck: dict[str, Json] = field(default_factory=dict)
    broken_off: str = ""


class Run:
    """One run of the day on a resource that serves already.

    Args:
        ground: the resource.
        docker: where the nodes are.
        record: what is played and planned; takes what is found.
        settle_seconds: from a fault that is over to the next, at least.
        say: told of each step.
    """

    def __init__(
        self, ground: Field, docker: Docker, record: Record, *, settle_seconds: float, say: Callable[[str], None]
    ) -> None:
        self.record = record
        self._ground, self._place = ground, Place(ground, docker)
        self._settle_seconds, self._say = settle_seconds, say

    def play(self) -> Record:
        """Play it to its end, or until something breaks; what was found until then is kept in either case."""
        record, ground = self.record, self._ground
        load = BackgroundLoad(Target(ground.stack.gateway_url, ground.engines.model), record.schedule)
        record.began = datetime.now().astimezone()
        watch = Watch(ground.stack, ground.name, record.began, self._say)
        self._keep(lambda: self._under(load, watch), "the run")
        record.ended_at = watch.seconds
        self._say("the load ends; what was sent is waited for")
        self._keep(lambda: record.results.extend(load.stop()), "the end of the load")
        watch.stop()
        record.looks, record.readings = watch.looks, watch.readings
        record.decisions, record.missed = watch.decisions, watch.missed
        self._say("what engines still hold, half a minute later at most")
        self._keep(lambda: record.stuck.update(stuck(ground)), "the look at the engines")
        self._say("the audit log is read")
        self._keep(self._read_audit_log, "the audit log")
        return record

    def _keep(self, step: Callable[[], object], what: str) -> None:
        """Do a step; what breaks it is written down, and what was found before stays."""
        try:
            step()
        except (Exception, KeyboardInterrupt) as error:
            self.record.broken_off = self.record.broken_off or f"{what}: {type(error).__name__}: {error}"
            self._say(f"broken off: {self.record.broken_off}")

    def _under(self, load: BackgroundLoad, watch: Watch) -> None:
        load.start()
        wait_for(lambda: len(load.results) >= 5, "the load flows", timeout_seconds=90)
        self._say(f"the load flows; {len(self.record.planned)} faults are planned, the first in a moment")
        earliest = 0.0
        for number, planned in enumerate(self.record.planned, 1):
            at = max(planned.at_seconds, earliest)
            if not fits(planned.kind, at, self.record.seconds / 60):
                self._say(f"{number}. {planned.kind} has no time left")
                continue
            self._wait_until(at, load, watch)
            happened = self._caused(planned, watch)
            earliest = happened.well_at_seconds + self._settle_seconds
            took = happened.well_at_seconds - happened.at_seconds
            self._say(f"{number}. {planned.kind} ({happened.hit}): well after {took:.0f} s; {_counted(load)}")
        self._wait_until(self.record.seconds, load, watch)

    def _caused(self, planned: Planned, watch: Watch) -> Happened:
        """Cause a fault and wait until all is well; one that breaks the run is written down too."""
        self._say(f"{watch.seconds:.0f} s: {planned.kind}")
        at, hit = watch.seconds, "not done"
        try:
            caused = CAUSES[planned.kind](self._place, random.Random(planned.seed))
            hit = caused.hit
            until_well(self._place, caused, WELL_SECONDS)
        finally:
            self.record.faults.append(Happened(planned.kind, at, watch.seconds, hit))
        return self.record.faults[-1]

    def _wait_until(self, at_seconds: float, load: BackgroundLoad, watch: Watch) -> None:
        while (left := at_seconds - watch.seconds) > 0:
            time.sleep(min(left, LINE_EVERY_SECONDS))
            look = watch.looks[-1] if watch.looks else None
            workers = f"{look.prefill.ready}+{look.decode.ready} workers serve" if look else "no worker seen yet"
            self._say(f"{watch.seconds:.0f} s: {workers}, {_counted(load)}")

    def _read_audit_log(self) -> None:
        self.record.held = list(held(pod_events(self._ground.stack, self._place.docker), self._ground.name))


def _counted(load: BackgroundLoad) -> str:
    return f"{len(load.results)} requests, {sum(not whole(each) for each in list(load.results))} not whole"
