"""Worlds: in which ways the replayed cluster and its metrics are worse than a policy is told. All changes are seeded.

`--world delay,failures` takes the named ones at their usual size, `--world delay=120` at another, `all` all of them.
"""

import math
import random
from dataclasses import dataclass, replace

from dopd.perf import EngineModel
from dopd.replay.disturbances import Disturbances
from dopd.replay.workers import Settings

GAP_EVERY_SECONDS = 1800.0


@dataclass(frozen=True)
class Kind:
    """One way in which a world is worse.

    Attributes:
        usual: its size when none is given.
        least: that it can have.
        most: that it can have.
        what: the size and what it does, for messages and help.
    """

    usual: float
    least: float
    most: float
    what: str


KINDS = {
    "bursty": Kind(1.0, 1.0, 1.0, "arrivals as bursty as the trace's clients file says"),
    "delay": Kind(60.0, 0.0, 3600.0, "age of all metrics, seconds"),
    "jitter": Kind(0.3, 0.0, 2.0, "coefficient of variation of the start-up time"),
    "noise": Kind(0.2, 0.0, 2.0, "coefficient of variation of the time of a forward pass"),
    "unequal": Kind(0.1, 0.0, 1.0, "coefficient of variation of how fast workers are"),
    "failures": Kind(7200.0, 60.0, math.inf, "mean time until a serving worker fails, seconds"),
    "profile": Kind(1.1, 0.2, 5.0, "time that engines take over what the profile says"),
    "gaps": Kind(120.0, 0.0, 3600.0, "mean length of the scrape gaps, seconds; one each half hour"),
}
ALL = "all"


@dataclass(frozen=True)
class World:
    """Sizes of what is worse; what is not named is as told.

    Attributes:
        sizes: by kind.
    """

    sizes: tuple[tuple[str, float], ...] = ()

    @classmethod
    def parse(cls, text: str) -> "World":
        """A world from `NAME[=SIZE],...`.

        Raises:
            ValueError: a name is not known, or a size not above 0.
        """
        sizes: dict[str, float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, size = part.partition("=")
            if name == ALL and not size:
                sizes |= {kind: about.usual for kind, about in KINDS.items() if kind not in sizes}
                continue
            if name not in KINDS:
                raise ValueError(f"world {part!r}: expected some of {', '.join((*KINDS, ALL))}, comma separated")
            sizes[name] = _size(part, KINDS[name], size) if size else KINDS[name].usual
        return cls(tuple(sorted(sizes.items())))

    def get(self, kind: str, otherwise: float) -> float:
        """The size of a kind."""
        return dict(self.sizes).get(kind, otherwise)

    @property
    def bursty(self) -> bool:
        """Whether arrivals are as bursty as each client's are."""
        return bool(self.get("bursty", 0.0))

    def __str__(self) -> str:
        return ",".join(f"{kind}={size:g}" for kind, size in self.sizes)

    def settings(self, settings: Settings, trace_seconds: float) -> Settings:
        """The cluster in this world."""
        disturbances = Disturbances(
            startup_cv=self.get("jitter", 0.0),
            service_cv=self.get("noise", 0.0),
            worker_cv=self.get("unequal", 0.0),
            failures_seconds=self.get("failures", math.inf),
        )
        delay, gap = self.get("delay", settings.delay_seconds), self.get("gaps", 0.0)
        gaps = _gaps(gap, trace_seconds, settings.seed) if gap else ()
        return replace(settings, disturbances=disturbances, delay_seconds=delay, gaps_seconds=gaps)

    def engine(self, model: EngineModel) -> EngineModel:
        """What the engines are, where the policy is told `model`."""
        factor = self.get("profile", 1.0)
        return model.corrected(factor, factor) if factor != 1.0 else model


def _size(part: str, kind: Kind, text: str) -> float:
    try:
        size = float(text)
    except ValueError:
        size = math.nan
    if not (0 < size < math.inf and kind.least <= size <= kind.most):
        between = f"above 0, {kind.least:g} to {kind.most:g}"
        raise ValueError(f"world {part!r}: expected NAME or NAME=SIZE with a number {between} ({kind.what})")
    return size


def _gaps(mean_seconds: float, trace_seconds: float, seed: int) -> tuple[tuple[float, float], ...]:
    """Stretches without metrics: begins as a Poisson process, exponential lengths."""
    generator = random.Random(f"gaps {seed}")
    found: list[tuple[float, float]] = []
    at = 0.0
    while True:
        at += generator.expovariate(1 / GAP_EVERY_SECONDS)
        if at >= trace_seconds:
            return tuple(found)
        end = at + generator.expovariate(1 / mean_seconds)
        found.append((at, end))
        at = end
