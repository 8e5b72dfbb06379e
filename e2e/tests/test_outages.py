"""When the load can not be read the workers stay, a condition says why, and all goes on by itself once it can."""

import time
from collections.abc import Iterator

import pytest

from e2e.load import BackgroundLoad, Schedule, Target
from e2e.stack import MANIFESTS, PROMETHEUS_NAMESPACE, Stack, condition, wait_for
from e2e.tests.conftest import delete, until_ready
from e2e.tests.resources import MODEL, auto, replicas

NAME = "blind"
FAULTY = f"http://prometheus-faults.{PROMETHEUS_NAMESPACE}.svc:9090"
LOAD = Schedule.steady(requests_per_second=16, seconds=900, input_tokens=1000, output_tokens=160)
TWO_PERIODS_SECONDS = 2 * 3.0
PASS_SECONDS = 4.0
"""What a pass and its report may take on a busy machine, beyond the two periods."""
HELD_SECONDS = 8.0
CLIENT_TIMEOUT_SECONDS = 10.0
REASONS = {
    "error": "QueryFailed",
    "slow": "QueryFailed",
    "empty": "NotScraped",
    "nan": "NotANumber",
    "clock": "ClockSkew",
}


@pytest.fixture(scope="module")
def resource(stack: Stack) -> Iterator[str]:
    """A resource whose Prometheus can be spoilt, settled under a steady load."""
    stack.kubectl("apply", "-k", str(MANIFESTS / "faults"))
    stack.kubectl("-n", PROMETHEUS_NAMESPACE, "rollout", "status", "deployment/prometheus-faults", "--timeout=60s")
    stack.apply(auto(NAME, telemetry__prometheusURL=FAULTY))
    until_ready(stack, NAME)
    yield NAME
    delete(stack, NAME)
    stack.kubectl("delete", "-k", str(MANIFESTS / "faults"))


@pytest.fixture(scope="module")
def load(stack: Stack, resource: str) -> Iterator[BackgroundLoad]:
    """A steady load that plays through all outages, until the numbers of workers have settled under it."""
    with BackgroundLoad(Target(stack.gateway_url, MODEL), LOAD) as playing:
        seen: list[tuple[int, ...]] = []

        def settled() -> bool:
            seen.append(replicas(stack, resource))
            return len(seen) > 40 and len(set(seen[-40:])) == 1 and max(seen[-1]) > 1

        wait_for(settled, "the numbers of workers have settled", timeout_seconds=120)
        yield playing


def spoil(stack: Stack, fault: str) -> None:
    """Choose what the Prometheus of the resource does wrong."""
    service = f"/api/v1/namespaces/{PROMETHEUS_NAMESPACE}/services/prometheus-faults:9090/proxy"
    stack.kubectl("get", "--raw", f"{service}/fault/{fault}")


def metrics_available(stack: Stack, status: str, reason: str) -> bool:
    """Whether the condition says so."""
    told = condition(stack.inference(NAME), "MetricsAvailable")
    return (told.get("status"), told.get("reason")) == (status, reason)


def await_condition(stack: Stack, status: str, reason: str, patience_seconds: float = 0.0) -> None:
    """Wait until the condition says so, within two periods and the patience; prints how long it took."""
    began = time.monotonic()
    wait_for(
        lambda: metrics_available(stack, status, reason),
        f"MetricsAvailable is {status}, {reason}",
        timeout_seconds=TWO_PERIODS_SECONDS + PASS_SECONDS + patience_seconds,
        every_seconds=0.2,
    )
    print(f"MetricsAvailable {status} {reason} after {time.monotonic() - began:.1f} s")


def watch_replicas(stack: Stack, seconds: float) -> set[tuple[int, ...]]:
    """All numbers of replicas that are seen in so many seconds."""
    end, seen = time.monotonic() + seconds, set()
    while time.monotonic() < end:
        seen.add(replicas(stack, NAME))
        time.sleep(0.25)
    return seen


@pytest.mark.parametrize("fault", REASONS)
def test_a_fault_is_told_and_moves_nothing_and_passes(stack: Stack, load: BackgroundLoad, fault: str) -> None:
    before = replicas(stack, NAME)
    spoil(stack, fault)
    try:
        await_condition(stack, "False", REASONS[fault])
        assert watch_replicas(stack, HELD_SECONDS) == {before}
    finally:
        spoil(stack, "none")
    # Queries that hang are given up when the client's time is over.
    await_condition(stack, "True", "AsExpected", patience_seconds=CLIENT_TIMEOUT_SECONDS if fault == "slow" else 0.0)
    assert load.lost == []


def test_a_prometheus_that_is_gone_and_comes_back_empty(stack: Stack, load: BackgroundLoad) -> None:
    before = replicas(stack, NAME)
    stack.kubectl("-n", PROMETHEUS_NAMESPACE, "scale", "deployment/prometheus", "--replicas=0")
    try:
        await_condition(stack, "False", "QueryFailed")
        assert watch_replicas(stack, HELD_SECONDS) == {before}
    finally:
        stack.install_prometheus()
    wait_for(lambda: metrics_available(stack, "True", "AsExpected"), "the load is read again", timeout_seconds=30)
    # Its memory is gone: the first rates rest on two scrapes. No worker is given up on them, and few are added.
    for seen in watch_replicas(stack, HELD_SECONDS):
        assert all(then <= now <= then + 1 for now, then in zip(seen, before, strict=True)), (seen, before)
    assert load.lost == []


def test_no_traffic_is_no_outage(stack: Stack, load: BackgroundLoad) -> None:
    results = load.stop()
    assert load.lost == []
    assert len(results) > 500

    def demand() -> float:
        found: float = (stack.inference(NAME) or {})["status"]["load"]["demand"]["requestsPerSecond"]
        return found

    wait_for(lambda: demand() == 0, "a load of zero is told", timeout_seconds=30)
    assert metrics_available(stack, "True", "AsExpected")
    wait_for(lambda: replicas(stack, NAME) == (1, 1), "back at one worker of each role", timeout_seconds=90)
