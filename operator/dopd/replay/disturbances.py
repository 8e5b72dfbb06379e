"""What goes otherwise than the profile says: a service is noisy, workers differ, start late and fail. Seeded."""

import math
import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Disturbances:
    """How much of each; all nothing by default.

    Attributes:
        startup_cv: coefficient of variation of the time that a worker takes to start.
        service_cv: of the time of a forward pass, and of a decode step between two changes of its batch.
        worker_cv: of how fast a worker is; drawn once for each.
        failures_seconds: mean time until a serving worker fails; infinite if none does. It is gone at once. A new
            one is started in its place, what had no first token yet is sent again, and answers that ran are lost.
    """

    startup_cv: float = 0.0
    service_cv: float = 0.0
    worker_cv: float = 0.0
    failures_seconds: float = math.inf

    def draws(self, seed: int) -> "Draws":
        """Draws for one replay."""
        return Draws(self, random.Random(f"disturbances {seed}"))


NO_DISTURBANCES = Disturbances()


class Draws:
    """Factors with mean 1, lognormal, and times until a failure.

    Attributes:
        noisy: whether services vary.
    """

    def __init__(self, sizes: Disturbances, generator: random.Random) -> None:
        self._sizes, self._generator = sizes, generator
        self.noisy = sizes.service_cv > 0

    def startup_factor(self) -> float:
        """By which a start takes longer."""
        return self._factor(self._sizes.startup_cv)

    def service_factor(self) -> float:
        """By which a pass takes longer."""
        return self._factor(self._sizes.service_cv)

    def slowness(self) -> float:
        """By which all that a worker does takes longer."""
        return self._factor(self._sizes.worker_cv)

    def until_failure(self) -> float:
        """Seconds that a worker serves before it fails; infinite if none does."""
        mean = self._sizes.failures_seconds
        return self._generator.expovariate(1 / mean) if math.isfinite(mean) else math.inf

    def _factor(self, cv: float) -> float:
        if not cv:
            return 1.0
        variance = math.log1p(cv * cv)
        return self._generator.lognormvariate(-variance / 2, math.sqrt(variance))
