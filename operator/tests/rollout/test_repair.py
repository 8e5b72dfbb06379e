"""Gateways that list others than they should, on their way back: transcripts, and that clients always reach one.

Set DOPD_GOLDEN=write to write the files anew.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dopd.api.pairs import ANY, Pair
from dopd.rollout import Door, repair

GOLDEN = Path(__file__).parent / "golden"
PAIR = Pair("a", "a")
SHOULD = {"P0": "prefill", "D0": "decode", "D1": "decode"}
BOOT_TICKS = 2
OVERDUE_TICKS = 3


@dataclass
class Pod:
    name: str
    born: int
    listed: dict[str, str]
    differs_since: int | None = None
    deleted: bool = False

    def ready(self, now: int) -> bool:
        """As its probe says: it knows a worker of either role."""
        return now - self.born >= BOOT_TICKS and set(self.listed.values()) == {"prefill", "decode"}


@dataclass
class Gateways:
    """The gateway of one pair, and its Deployment.

    Attributes:
        unreachable: workers that no gateway comes to list, however young it is.
    """

    replicas: int
    unreachable: frozenset[str] = frozenset()
    now: int = 0
    wanted: int = 0
    pods: list[Pod] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    outages: int = 0

    def __post_init__(self) -> None:
        self.wanted = self.replicas
        self.pods = [Pod(f"g{number}", -10, self.fresh()) for number in range(self.replicas)]

    def fresh(self) -> dict[str, str]:
        return {name: role for name, role in SHOULD.items() if name not in self.unreachable}

    def doors(self) -> list[Door]:
        found = []
        for pod in self.pods:
            booted = self.now - pod.born >= BOOT_TICKS
            differs = booted and pod.listed != SHOULD
            pod.differs_since = (self.now if pod.differs_since is None else pod.differs_since) if differs else None
            lasting = pod.differs_since is not None and self.now - pod.differs_since >= OVERDUE_TICKS
            found.append(Door(pod.name, PAIR, pod.ready(self.now), booted, differs, lasting))
        return found

    def tick(self) -> None:
        step = repair(self.doors(), {PAIR: self.replicas})
        said = [f"delete {name}" for name in step.delete]
        if step.replicas[PAIR] != self.wanted:
            said.append(f"gateways: {step.replicas[PAIR]}")
        self.wanted = step.replicas[PAIR]
        self.lines.append(f"{self.now:3d}  {', '.join(said) or '-':24} {'  '.join(map(self.show, self.pods))}".rstrip())
        self.pods = [pod for pod in self.pods if pod.name not in step.delete]
        self.pods.sort(key=lambda pod: pod.ready(self.now), reverse=True)  # as a ReplicaSet lets them go
        born = sum(1 for line in self.lines if "+" in line)
        del self.pods[self.wanted :]
        while len(self.pods) < self.wanted:
            self.pods.append(Pod(f"g{self.replicas + born}", self.now, self.fresh()))
            self.lines[-1] += f"  +g{self.replicas + born}"
            born += 1
        self.now += 1
        self.outages += not any(pod.ready(self.now) for pod in self.pods)

    def show(self, pod: Pod) -> str:
        if self.now - pod.born < BOOT_TICKS:
            return f"{pod.name}:starts"
        state = "ready" if pod.ready(self.now) else "not ready"
        told = [f"without {name}" for name in sorted(SHOULD.keys() - pod.listed.keys())]
        told += [f"{name} as {pod.listed[name]}" for name in sorted(pod.listed) if pod.listed[name] != SHOULD.get(name)]
        return f"{pod.name}:{state}" + (f"({', '.join(told)})" if told else "")


def stale_entry(gateways: Gateways) -> None:
    gateways.pods[0].listed["D9"] = "decode"


def missing_entry(gateways: Gateways) -> None:
    del gateways.pods[0].listed["D1"]


def wrong_role(gateways: Gateways) -> None:
    gateways.pods[0].listed["D1"] = "prefill"


def restart_with_empty_memory(gateways: Gateways) -> None:
    gateways.pods[0].listed.clear()


def two_replicas_that_disagree(gateways: Gateways) -> None:
    gateways.pods[1].listed["D1"] = "prefill"


def two_replicas_that_are_both_wrong(gateways: Gateways) -> None:
    stale_entry(gateways)
    two_replicas_that_disagree(gateways)


SCENARIOS: list[tuple[Callable[[Gateways], None], int]] = [
    (stale_entry, 1),
    (missing_entry, 1),
    (wrong_role, 1),
    (restart_with_empty_memory, 1),
    (two_replicas_that_disagree, 2),
    (two_replicas_that_are_both_wrong, 2),
]


@pytest.mark.parametrize(("fault", "replicas"), SCENARIOS, ids=[fault.__name__ for fault, _ in SCENARIOS])
def test_a_gateway_that_is_wrong_is_replaced_by_one_that_is_right(fault: Callable[[Gateways], None], replicas: int):
    gateways = Gateways(replicas)
    gateways.tick()
    fault(gateways)
    served = any(pod.ready(gateways.now) for pod in gateways.pods)
    for _ in range(14):
        gateways.tick()
    assert [pod.listed for pod in gateways.pods] == [SHOULD] * replicas
    assert all(pod.ready(gateways.now) for pod in gateways.pods)
    assert not served or not gateways.outages, "clients always reach one"
    path, text = GOLDEN / f"gateway_{fault.__name__}.txt", "\n".join(gateways.lines) + "\n"
    if os.environ.get("DOPD_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("replicas", [1, 2])
def test_none_leaves_where_a_fresh_one_lists_the_same(replicas: int):
    gateways = Gateways(replicas, unreachable=frozenset({"D1"}))
    for _ in range(50):
        gateways.tick()
    assert [pod.name for pod in gateways.pods] == [f"g{number}" for number in range(replicas + 1)]
    assert not gateways.outages


def test_those_of_earlier_versions_and_those_that_are_to_leave_are_let_be():
    wrong = Door("g", ANY, ready=True, differs=True, lasting=True)
    assert repair([wrong], {ANY: 1}).replicas == {ANY: 1}
    assert repair([wrong], {PAIR: 1}).replicas == {PAIR: 1}


def test_one_that_did_not_answer_is_no_reason_to_take_another_away():
    wrong = Door("g0", PAIR, ready=True, differs=True, lasting=True)
    silent = Door("g1", PAIR, ready=True, known=False)
    assert repair([wrong, silent], {PAIR: 1}).delete == ()
