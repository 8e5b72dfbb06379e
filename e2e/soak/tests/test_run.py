"""How a run goes from fault to fault, on a clock of its own and without a cluster."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from e2e.cluster.docker import Docker
from e2e.endurance.field import Field
from e2e.load.client import Result
from e2e.soak import report, run
from e2e.soak.causes import CAUSES, Caused, Place
from e2e.soak.losses import Happened
from e2e.soak.page import page
from e2e.soak.plan import TRAITS, Kind, Planned
from e2e.soak.run import Record, Run
from e2e.soak.tests.conftest import answered

TOOK_SECONDS = 25.0
GROUND = SimpleNamespace(
    name="soak", stack=SimpleNamespace(gateway_url="http://gateway"), engines=SimpleNamespace(model="m")
)


@dataclass
class Clock:
    """Time that passes only where somebody waits."""

    now: float = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class World:
    """What the run sees instead of a cluster."""

    clock: Clock
    until_well: Callable[[], None]
    said: list[str] = field(default_factory=list)
    caused: list[tuple[Kind, float]] = field(default_factory=list)

    def played(self, record: Record, settle_seconds: float = 60.0) -> Record:
        ground = cast("Field", GROUND)
        docker = cast("Docker", None)
        return Run(ground, docker, record, settle_seconds=settle_seconds, say=self.said.append).play()


class Load:
    def __init__(self, *_: Any) -> None:
        self.results: list[Result] = [answered(float(at)) for at in range(9)]

    def start(self) -> None:
        pass

    def stop(self) -> list[Result]:
        return self.results


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    clock = Clock()

    class Watch:
        looks: list[Any] = []  # noqa: RUF012
        readings: list[Any] = []  # noqa: RUF012
        decisions: list[Any] = []  # noqa: RUF012
        missed: list[str] = []  # noqa: RUF012

        def __init__(self, *_: Any) -> None: ...

        @property
        def seconds(self) -> float:
            return clock.now

        def stop(self) -> None: ...

    made = World(clock, lambda: clock.sleep(TOOK_SECONDS))

    def cause(kind: Kind) -> Callable[[Place, random.Random], Caused]:
        def caused(_: Place, __: random.Random) -> Caused:
            made.caused.append((kind, clock.now))
            return Caused(f"hit by {kind}")

        return caused

    monkeypatch.setattr(run, "BackgroundLoad", Load)
    monkeypatch.setattr(run, "Watch", Watch)
    monkeypatch.setattr(run, "CAUSES", {kind: cause(kind) for kind in Kind})
    monkeypatch.setattr(run, "until_well", lambda *_: made.until_well())
    monkeypatch.setattr(time, "sleep", clock.sleep)
    monkeypatch.setattr(run, "stuck", lambda _: {})
    monkeypatch.setattr(run, "pod_events", lambda *_: [])
    return made


def empty(record: Record, *planned: Planned) -> Record:
    return Record("soak", 24, 7, 600.0, 8.0, record.schedule, record.began, planned)


def test_a_fault_comes_when_it_is_planned_or_once_the_one_before_is_settled(world: World, record: Record) -> None:
    planned = (Planned(30.0, Kind.EVICTION, 1), Planned(90.0, Kind.BOUNDS, 2), Planned(300.0, Kind.EVICTION, 3))
    found = world.played(empty(record, *planned))
    assert world.caused == [(Kind.EVICTION, 30.0), (Kind.BOUNDS, 30 + TOOK_SECONDS + 60), (Kind.EVICTION, 300.0)]
    assert found.faults[0] == Happened(Kind.EVICTION, 30.0, 30.0 + TOOK_SECONDS, "hit by eviction")
    assert found.ended_at == 600.0
    assert (found.broken_off, len(found.results)) == ("", 9)


def test_a_fault_for_which_no_time_is_left_is_told_and_left_out(world: World, record: Record) -> None:
    late = Planned(601 - TRAITS[Kind.ROLLOUT].usual_seconds, Kind.ROLLOUT, 1)
    assert world.played(empty(record, late)).faults == []
    assert "1. rollout has no time left" in world.said


def test_an_operator_is_not_killed_so_late_that_its_memory_can_not_be_judged(world: World, record: Record) -> None:
    planned = (Planned(1190.0, Kind.EVICTION, 1), Planned(1199.0, Kind.OPERATOR_KILL, 2))
    found = world.played(replace(empty(record, *planned), seconds=2400.0))
    assert [fault.kind for fault in found.faults] == [Kind.EVICTION]
    assert "2. operator-kill has no time left" in world.said


@pytest.mark.parametrize("error", [TimeoutError("not well within 300 s"), OSError("refused"), KeyboardInterrupt()])
def test_what_was_found_is_kept_when_the_run_breaks_off(world: World, record: Record, error: BaseException) -> None:
    def never() -> None:
        raise error

    world.until_well = never
    found = world.played(empty(record, Planned(30.0, Kind.EVICTION, 1), Planned(300.0, Kind.BOUNDS, 2)))
    assert found.broken_off == f"the run: {type(error).__name__}: {error}"
    assert found.faults == [Happened(Kind.EVICTION, 30.0, 30.0, "hit by eviction")]
    assert len(found.results) == 9
    made = report.as_json(found)
    assert "broken off after 30 of 600 s" in "; ".join(report.problems(made))
    assert "Not as it should be" in page(made)


def test_an_audit_log_that_can_not_be_read_loses_nothing_else(
    world: World, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise OSError("no such node")

    monkeypatch.setattr(run, "pod_events", refused)
    found = world.played(empty(record))
    assert found.broken_off == "the audit log: OSError: no such node"
    assert len(found.results) == 9


def test_every_kind_has_a_cause_and_traits() -> None:
    assert set(CAUSES) == set(TRAITS) == set(Kind)
    assert all(trait.weight > 0 for trait in TRAITS.values())
