"""One draw of a load, and the simulated cluster that serves it: on this every policy runs."""

import sys
import time
from dataclasses import dataclass

from dopd.perf import EngineModel
from dopd.replay.policies.base import Setting
from dopd.replay.policies.catalogue import search
from dopd.replay.runner import NO_LIMITS, Limits, Result, run
from dopd.replay.search import Search, Try
from dopd.replay.seeds import Seed
from dopd.replay.trace import Trace
from dopd.replay.workers import Settings


@dataclass(frozen=True)
class Ground:
    """One draw of the load, and the cluster that serves it.

    Attributes:
        setting: what every policy is told.
        trace: the requests.
        settings: of the cluster.
        engine: what its engines are.
    """

    setting: Setting
    trace: Trace
    settings: Settings
    engine: EngineModel

    def serve(self, attempt: Try, limits: Limits = NO_LIMITS) -> Result:
        """One run."""
        policy = attempt.policy() if attempt.policy else None
        return run(self.trace, self.engine, self.setting.objectives, attempt.start, self.settings, policy, limits)

    def seed(self, quiet: bool) -> Seed:
        """For a search over seeds."""

        def serve(attempt: Try, limits: Limits) -> Result:
            began = time.monotonic()
            result = self.serve(attempt, limits)
            if not quiet:
                took, stopped = time.monotonic() - began, result.stopped_seconds
                end = (
                    f", given up at {stopped:.0f} s" if stopped is not None else f" at {result.gpu_hours:.2f} GPU-hours"
                )
                print(f"  {attempt.label}: {result.attainment:.2%}{end} in {took:.0f} s", file=sys.stderr, flush=True)
            return result

        def searched(name: str) -> Search:
            return search(name, self.setting, self.trace, self.engine)

        return Seed(self.settings.seed, len(self.trace), searched, serve)
