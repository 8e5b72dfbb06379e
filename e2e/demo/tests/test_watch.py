import re
import time
from typing import Any

import pytest
from prometheus_client import generate_latest

from dopd.api.names import Role
from dopd.reconcile import metrics
from dopd.reconcile.queue import Key
from e2e.demo.seen import DEMAND, FORECAST, LEAD, Load, Sample, SeenDecision, Workers, held_gpus
from e2e.demo.watch import Watcher, gpu_seconds, journey, served_after_seconds


def workers(desired: int, ready: int, starting: int = 0, draining: int = 0) -> Workers:
    return Workers(desired, ready, starting, draining)


def decision(at_seconds: float, to: str) -> SeenDecision:
    return SeenDecision(at_seconds, "1+1", to, "DemandRose", "")


STARTING = Sample(5.0, workers(2, 1, starting=1), workers(1, 1), 3)
SERVING = Sample(9.0, workers(2, 2), workers(1, 1), 3)
SUPERSEDED = Sample(7.0, workers(3, 1, starting=2), workers(1, 1), 4)
DRAINING = Sample(20.0, workers(1, 1, draining=1), workers(1, 1), 3)
DRAINED = Sample(26.0, workers(1, 1), workers(1, 1), 2)


@pytest.mark.parametrize(
    ("taken", "samples", "seconds"),
    [
        (decision(5.0, "2+1"), [STARTING, SERVING], 4.0),
        (decision(5.0, "2+1"), [STARTING], None),
        (decision(5.0, "2+1"), [STARTING, SUPERSEDED, SERVING], None),
        (decision(20.0, "1+1"), [STARTING, SERVING, DRAINING, DRAINED], 6.0),
    ],
    ids=["started", "not yet", "superseded", "drained"],
)
def test_a_decision_serves_once_its_workers_do(
    taken: SeenDecision, samples: list[Sample], seconds: float | None
) -> None:
    assert served_after_seconds(taken, samples) == seconds


def test_a_journey_is_start_peak_and_end() -> None:
    assert journey([1, 2, 4, 3, 1]) == "1->4->1"
    assert journey([]) == "unknown"


def test_gpu_time_is_what_pods_held_between_two_moments() -> None:
    samples = [STARTING, SERVING, DRAINING, DRAINED]
    assert gpu_seconds(samples, 0.0, 100.0) == 3 * 21
    assert gpu_seconds(samples, 6.0, 8.0) == 3 * 2
    assert gpu_seconds(samples[:1], 0.0, 100.0) == 0


def pod(pool: str, node: str | None = "worker", **meta: str) -> dict[str, Any]:
    return {"metadata": {"labels": {"dopd.dev/pool": pool}, **meta}, "spec": {"nodeName": node} if node else {}}


def test_a_pod_holds_its_gpus_from_its_node_until_it_is_gone() -> None:
    pods = [pod("prefill"), pod("decode", deletionTimestamp="now"), pod("decode", node=None), pod("router")]
    assert held_gpus(pods, {Role.PREFILL: 4, Role.DECODE: 2}) == 6


def series(name: str, value: str, **labels: str) -> dict[str, Any]:
    return {"metric": {"__name__": name, **labels}, "value": [0, value]}


def test_the_load_is_read_from_the_operators_metrics() -> None:
    planned = "dopd_planned_requests_per_second"
    answer = [
        series("dopd_demand_requests_per_second", "7.5"),
        series(planned, "9", role="prefill"),
        series(planned, "9.5", role="decode"),
        series("dopd_lead_seconds", "4.2", role="decode"),
    ]
    assert Load.of(answer) == Load(demand=7.5, forecast=9.5, lead_seconds={Role.DECODE: 4.2})


def test_the_operator_has_the_metrics_that_are_asked_for() -> None:
    metrics.DEMAND_RATE.labels("default", "asked-for").set(1.0)
    text = generate_latest().decode()
    labels = re.search(r'dopd_demand_requests_per_second({.*"asked-for".*})', text)
    assert labels
    assert 'inference="asked-for"' in labels.group(1)
    assert 'inference="asked-for"' in Load.query("asked-for")
    for name in (DEMAND, FORECAST, LEAD):
        assert f"# TYPE {name} gauge" in text
    metrics.forget(Key("default", "asked-for"))


def test_a_load_that_the_operator_does_not_know_is_no_number() -> None:
    assert Load.of([series("dopd_demand_requests_per_second", "NaN")]) == Load()


def status(prefill: int, *decisions: dict[str, str]) -> dict[str, Any]:
    role = {"desired": prefill, "ready": 1, "summary": ""}
    return {"status": {"prefill": role, "decode": role, "decisions": list(decisions)}}


def taken(time: str, before: str, to: str) -> dict[str, str]:
    return {"time": time, "from": before, "to": to, "reason": "DemandRose", "message": ""}


def test_each_decision_is_seen_once_and_in_order_and_older_ones_are_not() -> None:
    first, second, third = taken("1", "0+0", "1+1"), taken("2", "1+1", "2+1"), taken("3", "2+1", "3+1")
    answers = [None, {}, status(1, first), status(3, third, second, first)]
    watcher = Watcher(lambda: answers.pop(0) if len(answers) > 1 else answers[0], period_seconds=60.0)
    watcher.stop()
    for _ in range(5):
        watcher.look()
    assert [seen.to for seen in watcher.decisions] == ["2+1", "3+1"]
    assert watcher.decisions[-1].target == (3, 1)
    assert [sample.prefill.desired for sample in watcher.samples[-2:]] == [3, 3]


def test_an_answer_that_fails_does_not_end_the_watching(capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[None] = []

    def read() -> dict[str, Any]:
        calls.append(None)
        if len(calls) == 1:
            raise ConnectionError("reset")
        return status(1)

    watcher = Watcher(read, period_seconds=0.01)
    deadline = time.monotonic() + 5
    while not watcher.samples and time.monotonic() < deadline:
        time.sleep(0.01)
    watcher.stop()
    assert watcher.samples
    assert "reset" in capsys.readouterr().out
