"""Thirteen loads, and every decision that the planner takes on them, as text that a reviewer reads as a diff.

A world of a few lines stands in for the cluster: started workers serve after their start-up time. After a wanted
change run pytest with DOPD_WRITE_GOLDEN=1, read the difference, and commit it.
"""

import math
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from dopd.planning import Demand, Forecast, Observation, Policy, Reason, RoleBounds, Workers, plan
from dopd.planning.policy import Fallback

GOLDEN = Path(__file__).parent / "golden" / "plan"
STEP_SECONDS = 30.0
POLICY = Policy(prefill=RoleBounds(1, 20), decode=RoleBounds(1, 20), interval_seconds=STEP_SECONDS, gpu_budget=24)


@dataclass
class Fleet:
    """Workers of one role: those that serve, and when the others will."""

    serving: int
    ready_at: list[float] = field(default_factory=list)

    def settle(self, target: int, now: float, startup: float, free_gpus: float = math.inf) -> int:
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
        self.ready_at += [now + startup] * started
        return missing - started


def demand(rps, inputs=1000.0, outputs=200.0, share=1.0):
    return Demand(rps, inputs, 2 * inputs**2, outputs, share)


def diurnal(t):
    return demand(60 + 50 * math.sin(2 * math.pi * t / 7200))


SCENARIOS = {
    "diurnal": {"load": diurnal, "forecast": lambda t: diurnal(t + 120), "steps": 240},
    "step": {"load": lambda t: demand(20 if t < 600 else 120), "steps": 60},
    "flash-crowd": {"load": lambda t: demand(400 if 600 <= t < 780 else 40), "waiting": lambda t: 600 <= t < 780},
    "mix-shift-at-constant-tokens": {
        "load": lambda t: demand(60, 1500, 100) if t < 900 else demand(60, 200, 1400),
        "steps": 60,
        "budget": 8,
    },
    "backlog-at-steady-load": {"load": lambda t: demand(40), "waiting": lambda t: 600 <= t < 780},
    "ramp-12x": {"load": lambda t: demand(min(240.0, 20 + 220 * t / 1200)), "steps": 70},
    # Queues come and go in a cluster that is too small; the workers are to stay where they are.
    "budget-below-the-need": {
        "load": lambda t: demand(300 * (1 + 0.05 * math.sin(t / 40))),
        "waiting": lambda t: t % 240 < 120,
        "budget": 10,
        "steps": 60,
    },
    "outage-of-metrics": {"load": lambda t: None if 600 <= t < 1200 else demand(100 if t < 600 else 20)},
    "outage-with-a-queue-and-a-fallback": {
        "load": lambda t: None if 300 <= t < 1500 else demand(40),
        "waiting": lambda t: 600 <= t < 690,
        "fallback": Fallback(600.0, 9, 6),
    },
    "no-gpu-to-be-had": {"load": lambda t: demand(20 if t < 300 else 200), "gpus": 6},
    "engine-slower-than-its-profile": {"load": lambda t: demand(60), "ttft": lambda t: 0.4, "late": lambda t: 0.05},
    "prefix-cache-warms-up": {"load": lambda t: demand(150, share=max(0.2, 1 - t / 1500)), "steps": 80},
    # To the minimum and not to zero: a role without a worker answers nobody, and the first request of the morning would
    # wait for a whole start-up. The API allows no minimum below 1.
    "night-and-scale-to-the-minimum": {
        "load": lambda t: demand(80) if t < 900 or t >= 2700 else Demand.none(),
        "steps": 110,
    },
}


def transcript(model, scenario) -> list[str]:
    prefill, decode = Fleet(2), Fleet(2)
    previous, lines, missing = None, [], 0
    policy = replace(POLICY, gpu_budget=scenario.get("budget", 24), fallback=scenario.get("fallback"))
    for k in range(scenario.get("steps", 50)):
        now = k * STEP_SECONDS
        load = scenario["load"](now)
        ahead = scenario.get("forecast")
        waiting = 12e6 if scenario.get("waiting", lambda t: False)(now) else 0.0
        seen = Observation(
            load,
            Workers(prefill.serving, len(prefill.ready_at) + missing, unschedulable=missing, waiting_tokens=waiting),
            Workers(decode.serving, len(decode.ready_at)),
            late_share=scenario.get("late", lambda t: None)(now),
            ttft_seconds=scenario.get("ttft", lambda t: None)(now),
            window_seconds=45.0,
        )
        decision = plan(seen, Forecast(ahead(now), ahead(now)) if ahead else None, model, policy, previous, now)
        pair = (decision.prefill, decision.decode)
        if previous is None or pair != (previous.prefill, previous.decode) or decision.reason is not previous.reason:
            what = f"{load.requests_per_second:6.1f} requests/s" if load else "load unknown     "
            bounds = f"  [{', '.join(decision.limited_by)}]" if decision.limited_by else ""
            lines.append(f"{now:6.0f} s {what}  {pair[0]:2}+{pair[1]:<2} {decision.reason}{bounds}")
        previous = decision
        free = (
            scenario.get("gpus", math.inf) - prefill.serving - decode.serving - len(prefill.ready_at + decode.ready_at)
        )
        decode.settle(decision.decode, now, 60.0)
        missing = prefill.settle(decision.prefill, now, 60.0, free)
    return lines


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_transcript_is_the_one_that_was_reviewed(model, name):
    lines = transcript(replace(model, startup_seconds={"prefill": 60.0, "decode": 60.0}), SCENARIOS[name])
    path = GOLDEN / f"{name}.txt"
    text = "\n".join(lines) + "\n"
    if os.environ.get("DOPD_WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("fewest", [0, 1, 2])
def test_a_night_without_requests_never_takes_a_role_its_last_worker(model, fewest):
    policy = replace(POLICY, prefill=RoleBounds(fewest, 20), decode=RoleBounds(fewest, 20))
    pair, decision = (4, 3), None
    for k in range(40):
        seen = Observation(Demand.none(), *(Workers(count) for count in pair))
        decision = plan(seen, None, model, policy, decision, k * STEP_SECONDS)
        pair = (decision.prefill, decision.decode)
    assert pair == (max(1, fewest), max(1, fewest))


def test_the_scenarios_show_every_reason_that_a_load_can_give():
    shown = "".join(path.read_text() for path in GOLDEN.glob("*.txt"))
    expected = set(Reason) - {Reason.NO_ROOM, Reason.BOUNDS_CHANGED}
    assert {reason for reason in expected if reason in shown} == expected
