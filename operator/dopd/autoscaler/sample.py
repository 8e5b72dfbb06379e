"""What the autoscaler is told of the load: one sample after the other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dopd.autoscaler.calibration import EngineSample
from dopd.planning.demand import Demand


@dataclass(frozen=True)
class Sample:
    """The load at one time.

    Attributes:
        at_seconds: when it was measured, on a clock that does not jump.
        demand: what arrives; None if that is not known, which is not the same as no load.
        late_share: share of the requests since the sample before that missed an objective; None if unknown.
        window_seconds: over which the demand was measured.
        engines: what the running engines count, to compare the profile with.
        batch_waits: requests without a deadline wait or are served, which are in no demand.
    """

    at_seconds: float
    demand: Demand | None
    late_share: float | None = None
    window_seconds: float = 45.0
    engines: Sequence[EngineSample] = ()
    batch_waits: bool = False

    def __post_init__(self) -> None:
        late = self.late_share
        if late is not None and not 0 <= late <= 1:
            raise ValueError(f"sample: late_share is {late}; expected 0 to 1, or None for what could not be measured")
        if not (math.isfinite(self.window_seconds) and self.window_seconds > 0):
            raise ValueError(f"sample: window_seconds is {self.window_seconds}; expected a finite number above 0")
        if not math.isfinite(self.at_seconds):
            raise ValueError(f"sample: at_seconds is {self.at_seconds}; expected a finite number")
