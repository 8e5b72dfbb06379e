"""One exchange of operators under load: what clients saw, and whether the move went on to its end."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from e2e.cluster.docker import Docker
from e2e.cluster.errors import ClusterError
from e2e.endurance.field import Field
from e2e.faults.trial import Trial
from e2e.stack import Stack
from e2e.upgrade.middles import Middle

Json = dict[str, Any]
NAME = "upgraded"
GPUS = 6
REQUESTS_PER_SECOND = 1.5
ANSWER_TOKENS = (1500, 2500)
"""Long, so that a worker drains for longer than an operator takes to come."""
REST_SECONDS = 45.0
"""After each exchange: what an operator would do to workers for no reason, it has done by then."""


@dataclass
class Handover:
    """What one exchange showed.

    Attributes:
        way: `upgrade` or `rollback`.
        middle: what it fell into, in words.
        move_seconds: from the begin of the move until all of it was done.
        exchange_seconds: what Helm took until the other operator was ready.
        requests: that were sent.
        lost: that were not answered in whole.
        users_saw: what became of the requests, in words.
        most_gpus: the most that were held at an event of the audit log, of `GPUS`; 0 where no worker came or went.
        problems: what should not have been.
    """

    way: str
    middle: str
    move_seconds: float = 0.0
    exchange_seconds: float = 0.0
    requests: int = 0
    lost: int = 0
    users_saw: str = ""
    most_gpus: int = 0
    problems: list[str] = field(default_factory=list)

    def as_json(self) -> Json:
        """All of it."""
        return asdict(self)


def hand_over(
    stack: Stack, docker: Docker, way: str, middle: Middle, exchange: Callable[[], None], *, seconds: float = 240.0
) -> Handover:
    """Begin a move, exchange the operators in the middle of it, and wait for its end.

    Args:
        stack: the cluster, with the operator that is to go.
        docker: where its nodes are.
        way: `upgrade` or `rollback`.
        middle: the move.
        exchange: brings the other operator, and returns when that is ready.
        seconds: in which the move must be over.
    """
    found = Handover(way, middle.title)
    ground = Field(stack, NAME, gpus=GPUS, gateways=2, **middle.changes)
    trial = Trial(ground, docker, rate=REQUESTS_PER_SECOND, answer_tokens=ANSWER_TOKENS)
    try:
        ground.create(middle.start)
        with trial:
            _moved(ground, middle, exchange, found, seconds)
    except (ClusterError, TimeoutError) as error:  # the other exchanges are worth their time
        found.problems.append(str(error))
    ground.delete()
    found.requests, found.lost, found.users_saw = len(trial.results), len(trial.lost), trial.users_saw()
    found.most_gpus = trial.most_gpus
    if found.lost:
        found.problems.append("no request should be lost")
    if found.most_gpus > GPUS:
        found.problems.append(f"{found.most_gpus} GPUs were held, of {GPUS}")
    return found


def _moved(ground: Field, middle: Middle, exchange: Callable[[], None], found: Handover, seconds: float) -> None:
    before = ground.uids()
    began = time.monotonic()
    middle.begin(ground)
    ground.until(lambda: middle.under_way(ground, before), f"{middle.title} has begun", 60)
    asked = time.monotonic()
    exchange()
    found.exchange_seconds = round(time.monotonic() - asked, 1)
    if not middle.under_way(ground, before):
        found.problems.append("the move was over before the other operator was ready: it proves nothing")
    ground.until(lambda: _done(ground, middle, before), f"{middle.title} is over", seconds)
    found.move_seconds = round(time.monotonic() - began, 1)
    time.sleep(REST_SECONDS)
    if not _done(ground, middle, before):
        found.problems.append(f"not as the move left it {REST_SECONDS:.0f} s later: {ground.troubles()}")


def _done(ground: Field, middle: Middle, before: set[str]) -> bool:
    return ground.settled(middle.end) and len(before - ground.uids()) == middle.leaves


def table(found: list[Handover], version: str) -> str:
    """All exchanges as Markdown; `version` is the earlier one."""
    lines = [
        f"Between {version} and this version:",
        "",
        "| in the middle of | way | the move, s | other operator ready after, s | requests | lost | most GPUs |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in found:
        cells = (each.middle, each.way, f"{each.move_seconds:.0f}", f"{each.exchange_seconds:.0f}", each.requests,
                 each.lost, f"{each.most_gpus} of {GPUS}" if each.most_gpus else "-")  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += [f"\n**{each.middle}, {each.way}: {problem}.**" for each in found for problem in each.problems]
    return "\n".join(lines) + "\n"
