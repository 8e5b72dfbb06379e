"""A worker that is sent away while no operator runs: gateway, kubelet and preStop alone bring it out without a loss."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from e2e.load import Schedule
from e2e.stack import OPERATOR_NAMESPACE, OPERATOR_PODS_PATH, Stack, wait_for
from e2e.tests.conftest import Apply, until_ready
from e2e.tests.losses import none_lost
from e2e.tests.resources import GATEWAY_NODE_PORT, static
from e2e.tests.test_drain import settled, uids

Json = dict[str, Any]
SHORT_ANSWERS = Schedule.steady(requests_per_second=6, seconds=300, input_tokens=200, output_tokens=100)
EXIT_SECONDS = 3
"""An idle engine that was told to stop takes so long here: a real one takes 8 s and more."""
QUIET_SECONDS = 1.5
"""Before its end a worker gets nothing for at least so long. Its share of the load is three requests a second."""


@dataclass(frozen=True)
class Sample:
    """What an engine told of itself.

    Attributes:
        at_seconds: when, of a steady clock.
        requests: that it runs or that wait.
        computed_tokens: of prompts, since its start; a decode worker computes none.
    """

    at_seconds: float
    requests: int
    computed_tokens: int


def test_a_worker_that_is_sent_away_without_an_operator_is_out_of_the_gateway_and_idle_before_it_ends(
    stack: Stack, apply: Apply
) -> None:
    resource = static("alone", prefill=2, decode=2, node_port=GATEWAY_NODE_PORT)
    resource["spec"]["engine"]["args"] += ["--sim-exit-seconds", str(EXIT_SECONDS)]
    name = apply(resource)
    until_ready(stack, name)
    wait_for(lambda: settled(stack, name), "all workers serve", timeout_seconds=60)
    scale = ("-n", OPERATOR_NAMESPACE, "scale", "deployment/dopd")
    stack.kubectl(*scale, "--replicas=0")
    try:
        wait_for(lambda: not stack.items(OPERATOR_PODS_PATH), "no operator is there", timeout_seconds=90)
        with none_lost(stack, SHORT_ANSWERS):
            _leaves_alone(stack, name, "decode", _delete)
            _leaves_alone(stack, name, "prefill", Stack.evict)
    finally:
        stack.kubectl(*scale, "--replicas=1")
    wait_for(lambda: settled(stack, name), "the operator is back, and so are both workers", timeout_seconds=120)


def _delete(stack: Stack, pod: str) -> None:
    stack.kubectl("delete", "pod", pod, "--wait=false")


def _leaves_alone(stack: Stack, name: str, role: str, send_away: Callable[[Stack, str], None]) -> None:
    """A worker of this role is sent away at work, and nobody is there but gateway, kubelet and engine."""
    meta = stack.pods(name, role)[0]["metadata"]
    pod, uid = meta["name"], meta["uid"]
    wait_for(lambda: _has_worked(_look(stack, pod), role), f"{pod} has work", timeout_seconds=30, every_seconds=0.1)
    send_away(stack, pod)
    seen: list[Sample] = []

    def gone() -> bool:
        sample = _look(stack, pod)
        if sample:
            seen.append(sample)
        return uid not in uids(stack, name)

    wait_for(gone, f"{pod} is gone", timeout_seconds=90, every_seconds=0.1)
    print(f"{role} {pod}: {len(seen)} looks, quiet for the last {_quiet_seconds(seen):.1f} s of its life")
    assert seen, "it tells its load while it leaves"
    assert seen[-1].requests == 0, "it ended at work"
    assert _quiet_seconds(seen) >= QUIET_SECONDS, f"the gateway still sent to it: {seen[-20:]}"
    assert len(stack.pods(name, role)) == 1, "nobody replaces it"


def _look(stack: Stack, pod: str) -> Sample | None:
    """What an engine reports; None where it does not answer."""
    try:
        answer: Json = stack.engine_load(pod) or {}
        load = answer["loads"][0]
    except Exception:  # a pod that ends answers in many ways
        return None
    requests = load["num_running_reqs"] + load["num_waiting_reqs"]
    return Sample(time.monotonic(), requests, load["total_prefill_uncached_tokens"])


def _has_worked(sample: Sample | None, role: str) -> bool:
    """A decode worker is seen at work; a prompt of prefill is computed before anybody looks, so that is counted."""
    if sample is None:
        return False
    return sample.computed_tokens > 0 if role == "prefill" else sample.requests > 0


def _quiet_seconds(seen: list[Sample]) -> float:
    """How long nothing had been asked of it at the last look."""
    since = None
    for sample in reversed(seen):
        if sample.requests or sample.computed_tokens != seen[-1].computed_tokens:
            break
        since = sample.at_seconds
    return 0.0 if since is None else seen[-1].at_seconds - since
