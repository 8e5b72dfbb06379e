"""What the days before had is met before it comes: by an operator that has just started, from Prometheus alone.

A worker takes three minutes to start, as the profile says: where it takes seconds, nothing has to be known in advance.
"""

import copy
import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from e2e.load import BackgroundLoad, Schedule, Target
from e2e.stack import OPERATOR_NAMESPACE, Stack, wait_for
from e2e.tests.conftest import Apply, until_ready
from e2e.tests.past import STEP_SECONDS, Mix, write_past
from e2e.tests.resources import MODEL, auto, profile_objects, replicas

Json = dict[str, Any]
SLOW_START = "slow-start"
DAY_SECONDS = 86_400
DAYS, AROUND_SECONDS = 8, 3 * 3600
"""Days of the past, each known from so long before to so long after the change."""
AHEAD_SECONDS = 10 * 60
"""From the start of the test to the morning and the shift. Up to two minutes go by until Prometheus has the past and
everything is ready, one until the load of now is measured; both are to be known some five minutes before they come."""
START_UP_SECONDS = 180.0
NIGHT, MORNING = Mix(0.0), Mix(30.0)
TALK, READ = Mix(4.0, 100, 600), Mix(15.0, 2060, 40)


@pytest.mark.timeout(1000, func_only=True)
def test_a_morning_and_a_shift_of_the_mix_are_met_before_they_come(stack: Stack, apply: Apply) -> None:
    now = int(time.time())
    shift = (now + AHEAD_SECONDS) // 60 * 60

    dice = random.Random(1)

    def noisy(before: Mix, after: Mix) -> Callable[[float], Mix]:
        def mix_at(at_seconds: float) -> Mix:
            mix = after if 0 <= (at_seconds - shift) % DAY_SECONDS < AROUND_SECONDS else before
            return replace(mix, requests_per_second=mix.requests_per_second * dice.uniform(0.85, 1.15))

        return mix_at

    known = [
        at
        for day in range(DAYS, -1, -1)
        for at in range(
            shift - day * DAY_SECONDS - AROUND_SECONDS, shift - day * DAY_SECONDS + AROUND_SECONDS, STEP_SECONDS
        )
        if at < now - 60
    ]
    write_past(stack, {"morning": noisy(NIGHT, MORNING), "shift": noisy(TALK, READ)}, known)
    restart_operator(stack)
    stack.apply(slow_start())
    scaling = {"scaling__forecast": {"bin": "60s"}, "scaling__profileRef": {"name": SLOW_START}}
    apply(auto("morning", **scaling, router__service={"type": "ClusterIP"}))
    apply(
        auto(
            "shift",
            **scaling,
            scaling__gpuBudget={"min": 4, "max": 4},
            scaling__prefill={"min": 1, "max": 3},
            scaling__decode={"min": 1, "max": 3},
        )
    )
    until_ready(stack, "morning")
    until_ready(stack, "shift")
    assert replicas(stack, "morning") == (1, 1)
    talk = Schedule.steady(
        requests_per_second=TALK.requests_per_second,
        seconds=shift - time.time(),
        input_tokens=TALK.input_tokens,
        output_tokens=TALK.output_tokens,
    )
    with BackgroundLoad(Target(stack.gateway_url, MODEL), talk) as load:
        time.sleep(60)  # the load of now is measured
        talking = replicas(stack, "shift")
        early = wait_for(lambda: met(stack, talking), "both are met", timeout_seconds=shift - time.time() - 30)
        print(f"{shift - time.time():.0f} s before they come: {early}, talking {talking}")
        assert load.lost == []
        assert sum(replicas(stack, "shift")) == 4


def slow_start() -> Json:
    """The demo's profile of a worker that takes longer to start."""
    profile = next(copy.deepcopy(one) for one in profile_objects() if one["kind"] == "EngineProfile")
    profile["metadata"]["name"] = SLOW_START
    profile["spec"]["startup"].update(prefillSeconds=START_UP_SECONDS, decodeSeconds=START_UP_SECONDS)
    return profile


def met(stack: Stack, talking: tuple[int, ...]) -> str:
    """Whether the morning has more workers and the other mix more prefill workers; what there is."""
    morning, shifted = replicas(stack, "morning"), replicas(stack, "shift")
    return f"morning {morning}, shift {shifted}" if min(morning) > 1 and shifted[0] > talking[0] else ""


def restart_operator(stack: Stack) -> None:
    """End the operator, and wait until another has begun."""
    scale = ("-n", OPERATOR_NAMESPACE, "scale", "deployment/dopd")
    stack.kubectl(*scale, "--replicas=0")
    stack.kubectl("-n", OPERATOR_NAMESPACE, "wait", "pods", "-l", "app.kubernetes.io/name=dopd", "--for=delete")
    stack.kubectl(*scale, "--replicas=1")
    stack.kubectl("-n", OPERATOR_NAMESPACE, "rollout", "status", "deployment/dopd", "--timeout=60s")
