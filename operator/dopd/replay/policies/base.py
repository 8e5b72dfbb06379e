"""What a scaling policy is."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from dopd.autoscaler.past import PastLoad
from dopd.perf import EngineModel
from dopd.planning import Objectives
from dopd.planning.bounds import Pair
from dopd.replay.telemetry import Telemetry


class ScalingPolicy(Protocol):
    """Looks at the telemetry and names targets."""

    def decide(self, telemetry: Telemetry) -> tuple[Pair, float]:
        """Targets of prefill and decode workers, and seconds until the next look."""
        ...


@runtime_checkable
class RoleSwitching(Protocol):
    """A policy that lets running workers change their role."""

    @property
    def flips(self) -> int:
        """Decode workers that its last decision turns into prefill workers (negative: the other way)."""
        ...


@dataclass(frozen=True)
class Setting:
    """What every policy is told alike.

    Attributes:
        model: profile of the engine.
        objectives: latency objectives.
        startup_seconds: of both roles.
        prefill_gpus: GPUs of a prefill worker.
        decode_gpus: GPUs of a decode worker.
        most: workers of a role at most.
        on_time_first: prefill workers go by the order of that name.
        history: load of before, oldest first, bins of a minute; times are those of the trace, so they end by 0.
    """

    model: EngineModel
    objectives: Objectives
    startup_seconds: float
    prefill_gpus: int = 1
    decode_gpus: int = 1
    most: int = 200
    on_time_first: bool = False
    history: tuple[PastLoad, ...] = ()
