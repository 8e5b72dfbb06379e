"""A cluster of a few lines: started workers serve after their start-up time, if there is a GPU for them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from dopd.autoscaler import Autoscaler, PastLoad, Sample
from dopd.perf import EngineModel
from dopd.planning import Demand, PerRole, Policy, RoleBounds, Workers

STEP_SECONDS, STARTUP_SECONDS, FLIP_SECONDS = 30.0, 60.0, 11.0
POLICY = Policy(prefill=RoleBounds(1, 20), decode=RoleBounds(1, 20), interval_seconds=STEP_SECONDS, gpu_budget=24)


@dataclass
class Fleet:
    """Workers of one role: those that serve, and when the others will."""

    serving: int
    ready_at: list[float] = field(default_factory=list)

    def take(self, giver: "Fleet", count: int, now: float) -> None:
        """Workers of the other role change to this one."""
        giver.serving -= count
        self.ready_at += [now + FLIP_SECONDS] * count

    def settle(self, target: int, now: float, free_gpus: float = math.inf) -> int:
        """Move to the target; returns how many find no GPU."""
        self.serving += sum(1 for at in self.ready_at if at <= now)
        self.ready_at = [at for at in self.ready_at if at > now]
        while self.serving + len(self.ready_at) > target:
            if self.ready_at:
                self.ready_at.pop()
            else:
                self.serving -= 1
        missing = target - self.serving - len(self.ready_at)
        started = int(min(missing, max(0, free_gpus)))
        self.ready_at += [now + STARTUP_SECONDS] * started
        return missing - started


@dataclass(frozen=True)
class Scenario:
    """A load, and what happens to the cluster meanwhile.

    Attributes:
        load: at a time; None while nobody knows it.
        steps: looks, 30 s apart.
        waiting: whether 12 million prompt tokens wait at a time.
        late: share of late requests at a time.
        policy: objectives and bounds.
        gpus: of the cluster.
        past: the load before, until time 0.
        forecasts: a forecaster of the project takes part; without, the day and the week are known from the past alone.
        start: workers of each role at the beginning.
        reserved: whether a schedule asks for workers at a time, or soon after.
    """

    load: Callable[[float], Demand | None]
    steps: int = 50
    waiting: Callable[[float], bool] = lambda seconds: False
    late: Callable[[float], float | None] = lambda seconds: None
    policy: Policy = POLICY
    gpus: float = math.inf
    past: Sequence[PastLoad] = ()
    forecasts: bool = False
    start: tuple[int, int] = (2, 2)
    reserved: Callable[[float], bool] = lambda seconds: False


def transcript(model: EngineModel, scenario: Scenario) -> list[str]:
    """The looks at which the target or the reason changes, a line each."""
    loop = Autoscaler() if scenario.forecasts else Autoscaler(forecaster=None)
    prefill, decode = (Fleet(count) for count in scenario.start)
    previous, lines, missing, counted = None, [], 0, 0.0
    for index in range(scenario.steps):
        now = index * STEP_SECONDS
        load, policy = scenario.load(now), replace(scenario.policy, reserved=scenario.reserved(now))
        counted += load.requests_per_second * STEP_SECONDS if load else 0.0
        seen = PerRole(
            Workers(
                prefill.serving,
                len(prefill.ready_at) + missing,
                unschedulable=missing,
                waiting_tokens=12e6 if scenario.waiting(now) else 0.0,
            ),
            Workers(decode.serving, len(decode.ready_at)),
        )
        loop.observe(Sample(now, load, scenario.late(now)), model, policy, scenario.past)
        decision = loop.decide(seen, now, model, policy, {"gateway": counted} if policy.idle_after_seconds else None)
        if previous is None or decision.pair != previous.pair or decision.reason is not previous.reason:
            what = f"{load.requests_per_second:6.1f} requests/s" if load else "load unknown     "
            bounds = f"  [{', '.join(decision.limited_by)}]" if decision.limited_by else ""
            found = "".join(f", {r.means.lower()} {r.workers} {r.role}" for r in decision.remedies)
            pair = f"{decision.prefill:2}+{decision.decode:<2}"
            lines.append(f"{now:6.0f} s {what}  {pair} {decision.reason}{bounds}{found}")
        previous = decision
        taker, giver = (prefill, decode) if decision.flips > 0 else (decode, prefill)
        taker.take(giver, abs(decision.flips), now)
        free = scenario.gpus - prefill.serving - decode.serving - len(prefill.ready_at + decode.ready_at)
        decode.settle(decision.decode, now)
        missing = prefill.settle(decision.prefill, now, free)
    return lines
