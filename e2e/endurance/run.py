"""A run: steps one after the other under load; what each took, and what it cost."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from e2e.cluster.daemon import docker_session
from e2e.cluster.errors import ClusterError
from e2e.endurance.cap import held, pod_events
from e2e.endurance.engines import Engines
from e2e.endurance.field import Field
from e2e.endurance.moves import MOVES
from e2e.endurance.plan import Kind, Step
from e2e.load import Arrival, BackgroundLoad, Schedule, Target
from e2e.load.client import Result
from e2e.stack import wait_for

Json = dict[str, Any]
LONGEST_SECONDS = 7200.0


@dataclass
class Record:
    """What a run found.

    Attributes:
        seed: of the sequence and the load.
        gpus: the budget.
        requests_per_second: mean rate of the load.
        began: when the load began.
        steps: what was done: kind, workers before and after, start and length in seconds since `began`; of
            flips the workers that changed their role, and those that were replaced instead.
        growth_seconds: what each scale-up between the steps took.
        results: all requests.
        most_gpus: the most that were held at an event of the audit log.
        events: creations and ends of workers in the audit log.
        over: those events after which more than the budget was held.
        stuck: what engines still hold half a minute after the last answer, by pod.
        broken_off: why the sequence ended early; "" when it did not.
    """

    seed: int
    gpus: int
    requests_per_second: float
    began: datetime = field(default_factory=lambda: datetime.now().astimezone())
    steps: list[Json] = field(default_factory=list)
    growth_seconds: list[float] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    most_gpus: int = 0
    events: int = 0
    over: list[str] = field(default_factory=list)
    stuck: dict[str, Json] = field(default_factory=dict)
    broken_off: str = ""


def arrivals(engines: Engines, requests_per_second: float, seconds: float, seed: int) -> Schedule:
    """Independent arrivals (exponential gaps) of prompts and answers of all lengths that the engines are sent."""
    chance, at, found = random.Random(seed), 0.0, []
    while at < seconds:
        at += chance.expovariate(requests_per_second)
        found.append(Arrival(at, chance.randint(*engines.prompt_tokens), chance.randint(*engines.answer_tokens)))
    return Schedule(tuple(found))


def run(
    ground: Field,
    steps: Sequence[Step],
    *,
    requests_per_second: float,
    seed: int,
    seconds: float,
    say: Any = print,
) -> Record:
    """Play steps under load until they or the time are over.

    Args:
        ground: the resource; must serve already.
        steps: what is done, in order.
        requests_per_second: mean rate of the load.
        seed: of the load and of which worker is evicted.
        seconds: no step begins later.
        say: told of each step.
    """
    chance = random.Random(seed)
    schedule = arrivals(ground.engines, requests_per_second, LONGEST_SECONDS, seed)
    load = BackgroundLoad(Target(ground.stack.gateway_url, ground.engines.model), schedule)
    record = Record(seed, ground.gpus, requests_per_second)
    zero = time.monotonic()
    with load:
        wait_for(lambda: len(load.results) >= 10, "the load flows", timeout_seconds=60)
        try:
            for number, step in enumerate(steps):
                if time.monotonic() - zero > seconds:
                    break
                record.steps.append(_played(ground, step, chance, record, zero))
                last = record.steps[-1]
                say(f"{number + 1}/{len(steps)} {last['kind']} {last['from']} -> {last['to']} {last['seconds']:.1f} s, "
                    f"{len(load.results)} requests, {len(load.lost)} lost")  # fmt: skip
        except (ClusterError, TimeoutError) as error:  # the run is over, and what it found is worth keeping
            record.broken_off = str(error)
            say(record.broken_off)
        record.results = load.stop()
    record.stuck = stuck(ground)
    with docker_session(ground.stack.cluster.docker_host) as docker:
        counted = [h for h in held(pod_events(ground.stack, docker), ground.name) if h.at >= record.began]
    record.events = len(counted)
    record.most_gpus = max((h.gpus for h in counted), default=0)
    record.over = [f"{h.at:%H:%M:%S.%f} {h.pod}: {h.gpus}" for h in counted if h.gpus > ground.gpus]
    return record


def _played(ground: Field, step: Step, chance: random.Random, record: Record, zero: float) -> Json:
    if not ground.settled(step.start):
        grew = time.monotonic()
        ground.scale(step.start)
        ground.until_settled(step.start)
        record.growth_seconds.append(time.monotonic() - grew)
    before = ground.uids()
    began = time.monotonic()
    gone = MOVES[step.kind](ground, step, chance)
    ground.until_settled(step.end, gone=gone)
    took = time.monotonic() - began
    flips = {"flips": abs(step.end[0] - step.start[0]), "replaced": len(before - ground.uids())}
    return {
        **(flips if step.kind is Kind.FLIP else {}),
        "kind": str(step.kind),
        "from": f"{step.start[0]}+{step.start[1]}",
        "to": f"{step.end[0]}+{step.end[1]}",
        "at_seconds": round(began - zero, 1),
        "seconds": round(took, 1),
    }


def stuck(ground: Field, seconds: float = 30.0) -> dict[str, Json]:
    """What engines still hold though nobody asks for anything any more, after so long."""

    def busy() -> dict[str, Json]:
        return {
            pod: load
            for pod, load in ground.loads().items()
            if load["num_running_reqs"] or load["num_waiting_reqs"] or load["token_usage"] > 0.001
        }

    end = time.monotonic() + seconds
    while busy() and time.monotonic() < end:
        time.sleep(1.0)
    return busy()
