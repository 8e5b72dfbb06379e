"""The number of workers follows the load, and no request is lost by it."""

import json
import time
from collections.abc import Iterator

import pytest

from e2e.demo.watch import Watcher
from e2e.load import BackgroundLoad, Schedule, Target
from e2e.stack import OPERATOR_NAMESPACE, Stack, wait_for
from e2e.tests.conftest import delete, until_ready
from e2e.tests.resources import MODEL, auto, replicas

NAME = "scaled"
LOAD = Schedule.steady(requests_per_second=20, seconds=600, input_tokens=1000, output_tokens=240)
RISE_SECONDS = 45
FALL_SECONDS = 90
WATCH_SECONDS = 20


@pytest.fixture(scope="module")
def resource(stack: Stack) -> Iterator[str]:
    """A resource that scales, ready and at rest."""
    stack.apply(auto(NAME))
    until_ready(stack, NAME)
    yield NAME
    delete(stack, NAME)


@pytest.fixture(scope="module")
def load(stack: Stack, resource: str) -> Iterator[BackgroundLoad]:
    """A steady load that needs about two workers of each role; it plays through the tests of this module."""
    with BackgroundLoad(Target(stack.gateway_url, MODEL), LOAD) as playing:
        yield playing


@pytest.fixture(scope="module")
def watcher(stack: Stack, resource: str) -> Iterator[Watcher]:
    """What the operator reports, from the beginning of the module on."""
    watching = Watcher(lambda: stack.inference(resource))
    yield watching
    watching.stop()


def test_workers_come_with_the_load(stack: Stack, watcher: Watcher, load: BackgroundLoad) -> None:
    def both_grew() -> bool:
        last = watcher.samples[-1] if watcher.samples else None
        return last is not None and last.prefill.ready >= 2 and last.decode.ready >= 2

    wait_for(both_grew, "two workers of each role serve", timeout_seconds=RISE_SECONDS)
    assert load.lost == []
    decision = watcher.decisions[-1]
    assert decision.reason in ("DemandRose", "Backlog", "MixShifted")
    assert "requests/s" in decision.message


def test_a_restart_of_the_operator_under_load_moves_nothing(
    stack: Stack, watcher: Watcher, load: BackgroundLoad, resource: str
) -> None:
    def settled() -> bool:
        recent = [s for s in watcher.samples if s.at_seconds > watcher.seconds - 10]
        return len({(s.prefill.present, s.decode.present) for s in recent}) == 1 and len(recent) >= 8

    wait_for(settled, "the numbers of workers have settled", timeout_seconds=90)
    before = replicas(stack, resource)
    stack.kubectl("-n", OPERATOR_NAMESPACE, "delete", "pods", "-l", "app.kubernetes.io/name=dopd", "--wait=false")
    end, seen = time.monotonic() + WATCH_SECONDS, set()
    while time.monotonic() < end:
        seen.add(replicas(stack, resource))
        time.sleep(0.5)
    assert all(abs(now - then) <= 1 for counts in seen for now, then in zip(counts, before, strict=True)), seen
    assert all(now >= 1 for counts in seen for now in counts)
    stack.kubectl("-n", OPERATOR_NAMESPACE, "rollout", "status", "deployment/dopd", "--timeout=60s")
    assert load.lost == []


def test_workers_go_when_the_load_has_gone_and_no_request_was_lost(
    stack: Stack, watcher: Watcher, load: BackgroundLoad
) -> None:
    results = load.stop()

    def at_rest() -> bool:
        last = watcher.samples[-1]
        return (last.prefill.present, last.decode.present) == (1, 1)

    wait_for(at_rest, "back at one worker of each role", timeout_seconds=FALL_SECONDS)
    assert len(results) > 20 * RISE_SECONDS / 2
    assert load.lost == []
    assert all(result.got_tokens == result.asked_tokens for result in results)
    assert any(sample.decode.draining for sample in watcher.samples)
    assert watcher.decisions[-1].reason == "DemandFell"


def test_a_restarted_operator_dares_as_much_as_before(stack: Stack, resource: str) -> None:
    dared = 0.05
    scale = ("-n", OPERATOR_NAMESPACE, "scale", "deployment/dopd")
    stack.kubectl(*scale, "--replicas=0")
    stack.kubectl("-n", OPERATOR_NAMESPACE, "wait", "pods", "-l", "app.kubernetes.io/name=dopd", "--for=delete")
    edited = json.dumps({"status": {"missShare": dared, "mode": "Edited"}})
    stack.kubectl("patch", "pdi", resource, "--subresource=status", "--type=merge", "-p", edited)
    stack.kubectl(*scale, "--replicas=1")

    def reported() -> bool:
        return ((stack.inference(resource) or {}).get("status") or {}).get("mode") == "Auto"

    wait_for(reported, "the new operator has reported", timeout_seconds=60)
    told = stack.inference(resource)
    assert told
    assert told["status"]["missShare"] == dared
