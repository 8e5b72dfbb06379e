"""A recorded run that is small enough to count by hand."""

from datetime import UTC, datetime, timedelta

import pytest

from e2e.demo.seen import Workers
from e2e.endurance.cap import Held
from e2e.load import Schedule
from e2e.load.client import Outcome, Result
from e2e.soak.agreement import Decision
from e2e.soak.losses import Happened
from e2e.soak.memory import Reading
from e2e.soak.plan import Kind, Planned
from e2e.soak.run import Record
from e2e.soak.watch import Look

BEGAN = datetime(2026, 11, 24, 10, tzinfo=UTC)
SECONDS = 2400.0


def held(*events: tuple[float, str, int]) -> list[Held]:
    return [Held(BEGAN + timedelta(seconds=at), pod, gpus) for at, pod, gpus in events]


def answered(at_seconds: float) -> Result:
    return Result(at_seconds, 0.001, 100, 20, Outcome.OK, 200, 20, 0.1, 0.02, 0.5, "")


@pytest.fixture
def record() -> Record:
    """Forty minutes in which all went well: a restart of the operator, an engine that was killed, one more worker."""
    return Record(
        name="soak",
        seed=24,
        gpus=7,
        seconds=SECONDS,
        hours=8.0,
        schedule=Schedule(()),
        began=BEGAN,
        planned=[Planned(30.0, Kind.OPERATOR_KILL, 1), Planned(150.0, Kind.ENGINE_KILL, 2)],
        faults=[
            Happened(Kind.OPERATOR_KILL, 30.0, 60.0, "dopd-a"),
            Happened(Kind.ENGINE_KILL, 150.0, 190.0, "soak-decode-b <of two>"),
        ],
        results=[answered(10.0 * step) for step in range(240)],
        looks=[Look(10.0 * step, Workers(2, 2, 0, 0), Workers(1, 1, 0, 0), 3) for step in range(240)],
        readings=[Reading(10.0 * step, "a" if step < 4 else "b", 120.0 + step % 2) for step in range(240)],
        decisions=[Decision(-30.0, (0, 0), (1, 1), "Start"), Decision(500.0, (1, 1), (2, 1), "DemandRose")],
        ended_at=SECONDS,
        held=held((-29.0, "soak-prefill-a", 1), (-28.0, "soak-decode-b", 2), (501.0, "soak-prefill-c", 3)),
    )
