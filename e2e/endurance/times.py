"""How long it takes from a decision until the worker answers through the gateway: starts and flips, in turn."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import REPOSITORY
from e2e.endurance.field import Field
from e2e.endurance.plan import Pair
from e2e.endurance.run import arrivals
from e2e.endurance.serving import Arrivals, Look, decided_at, moves, summary
from e2e.load import BackgroundLoad, Target
from e2e.marked import marked
from e2e.stack import Stack, wait_for

Json = dict[str, Any]
PAGE = REPOSITORY / "docs" / "faults.md"
BEGIN, END = "<!-- times: begin -->", "<!-- times: end -->"
GPUS = 4
REQUESTS_PER_SECOND = 8.0
ONE_EACH, TWO_EACH, PREFILL_HEAVY = (1, 1), (2, 2), (3, 1)
MOST_SECONDS = 90.0
"""Of one move, until its workers answer."""
LONGEST_SECONDS = 1800.0
EVENTS_PATH = "/apis/events.k8s.io/v1/namespaces/default/events"


def measure(stack: Stack, *, starts: int, flips: int, say: Callable[[str], None] = print) -> Json:
    """Starts and flips under a load that reaches each worker several times a second.

    Starts come in pairs, one of each role; flips one at a time, with every GPU of the budget in use.

    Args:
        stack: the cluster.
        starts: how many at least.
        flips: how many.
        say: told of each move.
    """
    ground = Field(stack, "times", gpus=GPUS, roleSwitching__enabled=True, scaling__mode="External")
    ground.create(ONE_EACH)
    began, found = datetime.now().astimezone(), []
    schedule = arrivals(ground.engines, REQUESTS_PER_SECOND, LONGEST_SECONDS, seed=3)
    load = BackgroundLoad(Target(stack.gateway_url, ground.engines.model), schedule)
    broken_off = ""
    with load:
        wait_for(lambda: len(load.results) >= 10, "the load flows", timeout_seconds=60)
        try:
            for start, end in sequence(starts, flips):
                found += _moved(ground, start, end, say)
        except (ClusterError, TimeoutError) as error:  # what was measured is worth keeping
            broken_off = str(error)
            say(broken_off)
        load.stop()
    ground.delete()
    return {
        "began": began.isoformat(timespec="seconds"),
        "requests_per_second": REQUESTS_PER_SECOND,
        "requests": len(load.results),
        "lost": len(load.lost),
        "summary": summary(found),
        "moves": found,
        "broken_off": broken_off,
    }


def sequence(starts: int, flips: int) -> list[tuple[Pair, Pair]]:
    """Numbers of workers before and after each move that is measured."""
    there_and_back = [(TWO_EACH, PREFILL_HEAVY), (PREFILL_HEAVY, TWO_EACH)]
    return [(ONE_EACH, TWO_EACH)] * ((starts + 1) // 2) + [there_and_back[turn % 2] for turn in range(flips)]


def passed(result: Json) -> bool:
    """Whether all was measured, and no request was lost on the way."""
    return not (result["broken_off"] or result["lost"])


def with_table(page: str, table: str) -> str:
    """The page with this table between its marks.

    Raises:
        ValueError: it has no marks.
    """
    head, _, tail = marked(page, BEGIN, END)
    return f"{head}\n{table}{tail}"


def _moved(ground: Field, start: Pair, end: Pair, say: Callable[[str], None]) -> list[Json]:
    """One move, from numbers of workers that serve to others."""
    if not ground.settled(start):
        ground.scale(start)
        ground.until_settled(start)
    watch, asked = Arrivals(map(_look, ground.pods())), time.time()
    more = sum(max(after - before, 0) for before, after in zip(start, end, strict=True))
    ground.scale(end)

    def all_serve() -> bool:
        for pod in ground.pods():
            look = _look(pod)
            awaited = look.ready and watch.awaits(look.uid, look.role)
            if awaited and (told := ground.load(pod["metadata"]["name"])):
                requests = told["num_running_reqs"] + told["num_waiting_reqs"]
                computed = told["total_prefill_uncached_tokens"]
                watch.look(time.time(), replace(look, requests=requests, computed_tokens=computed))
        return len(watch.served) >= more

    change = f"{_written(start)} -> {_written(end)}"
    wait_for(all_serve, f"those of {change} answer", timeout_seconds=MOST_SECONDS, every_seconds=0.1)
    decided = wait_for(
        lambda: decided_at(ground.stack.items(EVENTS_PATH), ground.name, change, asked),
        f"an Event tells {change}",
        timeout_seconds=20,
    )
    assert decided is not None
    took = moves(decided, watch.served.values())
    for each in took:
        say(f"{change}: {each['way']} {each['role']}, {each['seconds']:.1f} s")
    ground.until_settled(end)
    return took


def _look(pod: Json) -> Look:
    meta, conditions = pod["metadata"], pod.get("status", {}).get("conditions", [])
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return Look(meta["uid"], meta["labels"].get("dopd.dev/role", ""), ready)


def _written(workers: Pair) -> str:
    return "+".join(map(str, workers))
