"""Some loads, and every decision that the loop takes on them, as text that a reviewer reads as a diff.

A world of a few lines stands in for the cluster: started workers serve after their start-up time. After a wanted
change run pytest with DOPD_WRITE_GOLDEN=1, read the difference, and commit it.
"""

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from dopd.autoscaler import Reason
from dopd.planning import Demand
from dopd.planning.policy import Fallback

from .fleet import POLICY, STARTUP_SECONDS, Scenario, transcript
from .worlds import bins

GOLDEN = Path(__file__).parent / "golden" / "decisions"
SWITCHING = replace(POLICY, role_switching=True)
IDLE = replace(POLICY, idle_after_seconds=900.0)
HOUR, DAY = 3600.0, 86_400.0


def demand(rps: float, inputs: float = 1000.0, outputs: float = 200.0, share: float = 1.0) -> Demand:
    return Demand(rps, inputs, 2 * inputs**2, outputs, share)


def diurnal(seconds: float) -> Demand:
    return demand(60 + 50 * math.sin(2 * math.pi * seconds / 7200))


def office(seconds: float) -> Demand:
    """Tenfold within twenty minutes; the morning begins forty minutes after each whole day."""
    risen = (seconds % DAY - 2400) / 1200
    return demand(15 + 135 * min(1.0, max(0.0, risen)) if seconds % DAY < 9 * HOUR else 15)


def shifting(seconds: float) -> Demand:
    """As many workers before as after: long prompts until half an hour past each whole day, then long answers."""
    return demand(60, 1500, 100) if (seconds - 1800) % DAY > 12 * HOUR else demand(60, 200, 1400)


def daytime(seconds: float) -> Demand:
    """Nothing at night; the day begins an hour and a half after each whole day."""
    return demand(40 if 1.5 * HOUR <= seconds % DAY < 10 * HOUR else 0)


def each_quarter(seconds: float) -> Demand:
    """As many tokens all the time: most in prompts, most in answers, each for a quarter of an hour."""
    return demand(60, 1500, 100) if seconds % 1800 < 900 else demand(160, 300, 300)


def yesterday(load, days: int = 1):
    minutes = int(days * DAY / 60)
    return tuple(bins((load(60.0 * (index - minutes)) for index in range(1, minutes + 1)), 0.0))


SCENARIOS = {
    "diurnal": Scenario(diurnal, 240),
    "step": Scenario(lambda t: demand(20 if t < 600 else 120), 60),
    "flash-crowd": Scenario(lambda t: demand(400 if 600 <= t < 780 else 40), waiting=lambda t: 600 <= t < 780),
    "mix-shift-at-constant-tokens": Scenario(
        lambda t: demand(60, 1500, 100) if t < 900 else demand(60, 200, 1400), 60, policy=replace(POLICY, gpu_budget=8)
    ),
    "backlog-at-steady-load": Scenario(lambda t: demand(40), waiting=lambda t: 600 <= t < 780),
    "ramp-12x": Scenario(lambda t: demand(min(240.0, 20 + 220 * t / 1200)), 70),
    # Queues come and go in a cluster that is too small; the workers are to stay where they are.
    "budget-below-the-need": Scenario(
        lambda t: demand(300 * (1 + 0.05 * math.sin(t / 40))),
        60,
        waiting=lambda t: t % 240 < 120,
        policy=replace(POLICY, gpu_budget=10),
    ),
    "outage-of-metrics": Scenario(lambda t: None if 600 <= t < 1200 else demand(100 if t < 600 else 20)),
    "outage-with-a-queue-and-a-fallback": Scenario(
        lambda t: None if 300 <= t < 1500 else demand(40),
        waiting=lambda t: 600 <= t < 690,
        policy=replace(POLICY, fallback=Fallback(600.0, 9, 6)),
    ),
    "no-gpu-to-be-had": Scenario(lambda t: demand(20 if t < 300 else 200), gpus=6),
    "clients-that-wait": Scenario(lambda t: demand(60 + 25 * math.sin(t / 90)), 100, late=lambda t: 0.05),
    "prefix-cache-warms-up": Scenario(lambda t: demand(150, share=max(0.2, 1 - t / 1500)), 80),
    # To the minimum and not to zero, which spec.scaling.idle alone asks for.
    "night-and-scale-to-the-minimum": Scenario(lambda t: demand(80) if t < 900 or t >= 2700 else Demand.none(), 110),
    "known-morning": Scenario(office, 160, past=yesterday(office, 2)),
    "unknown-morning": Scenario(office, 160),
    "mix-shift-of-the-day-before": Scenario(
        shifting, 120, policy=replace(POLICY, gpu_budget=8), past=yesterday(shifting, 2)
    ),
    "switching-mix-shift-at-constant-tokens": Scenario(
        lambda t: demand(60, 1500, 100) if t < 900 else demand(60, 200, 1400),
        60,
        policy=replace(SWITCHING, gpu_budget=8),
    ),
    "switching-mix-each-quarter": Scenario(each_quarter, 200, policy=SWITCHING),
    "switching-step": Scenario(lambda t: demand(20 if t < 600 else 120), 60, policy=SWITCHING),
    "idle-and-the-first-request": Scenario(
        lambda t: demand(0 if 600 <= t < 2400 or t >= 2700 else 20), 160, policy=IDLE
    ),
    "idle-and-a-known-morning": Scenario(daytime, 200, policy=IDLE, past=yesterday(daytime, 2)),
    "idle-and-a-schedule": Scenario(
        lambda t: demand(20 if t < 300 or t >= 3600 else 0), 130, policy=IDLE, reserved=lambda t: t >= 3000
    ),
    "idle-while-the-load-is-not-known": Scenario(
        lambda t: demand(20) if t < 300 else None if 600 <= t < 2400 else demand(0), 130, policy=IDLE
    ),
    "switching-idle": Scenario(
        lambda t: demand(0 if 600 <= t < 2400 else 60), 100, policy=replace(SWITCHING, idle_after_seconds=900.0)
    ),
    "switching-diurnal": Scenario(diurnal, 240, policy=SWITCHING),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_transcript_is_the_one_that_was_reviewed(model, name):
    startup = {"prefill": STARTUP_SECONDS, "decode": STARTUP_SECONDS}
    lines = transcript(replace(model, startup_seconds=startup), SCENARIOS[name])
    path = GOLDEN / f"{name}.txt"
    text = "\n".join(lines) + "\n"
    if os.environ.get("DOPD_WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_the_scenarios_show_every_reason_that_a_load_can_give():
    shown = "".join(path.read_text() for path in GOLDEN.glob("*.txt"))
    expected = set(Reason) - {Reason.NO_ROOM, Reason.BOUNDS_CHANGED, Reason.EXTERNAL}
    assert {reason for reason in expected if reason in shown} == expected
