import time
from typing import Any

import pytest

from e2e.demo.watch import Sample, SeenDecision, Watcher, Workers, gpu_seconds, journey, served_after_seconds


def workers(desired: int, ready: int, starting: int = 0, draining: int = 0) -> Workers:
    return Workers(desired, ready, starting, draining)


def decision(at_seconds: float, to: str) -> SeenDecision:
    return SeenDecision(at_seconds, "1+1", to, "DemandRose", "")


STARTING = Sample(5.0, workers(2, 1, starting=1), workers(1, 1))
SERVING = Sample(9.0, workers(2, 2), workers(1, 1))
SUPERSEDED = Sample(7.0, workers(3, 1, starting=2), workers(1, 1))
DRAINING = Sample(20.0, workers(1, 1, draining=1), workers(1, 1))
DRAINED = Sample(26.0, workers(1, 1), workers(1, 1))


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


def test_gpu_time_counts_starting_and_draining_workers() -> None:
    samples = [Sample(0.0, workers(2, 1, starting=1), workers(1, 1)), Sample(10.0, workers(1, 1), workers(1, 1))]
    assert gpu_seconds(samples, (2, 1)) == 10 * (2 * 2 + 1)
    assert gpu_seconds(samples[:1], (2, 1)) == 0


def status(prefill: int, *decisions: dict[str, str]) -> dict[str, Any]:
    role = {"desired": prefill, "ready": 1, "summary": ""}
    return {"status": {"prefill": role, "decode": role, "decisions": list(decisions)}}


def test_each_decision_is_seen_once_and_in_order() -> None:
    first = {"time": "1", "from": "0+0", "to": "1+1", "reason": "DemandRose", "message": ""}
    second = {"time": "2", "from": "1+1", "to": "2+1", "reason": "DemandRose", "message": ""}
    answers = [None, {}, status(1, first), status(2, second, first)]
    watcher = Watcher(lambda: answers.pop(0) if len(answers) > 1 else answers[0])
    watcher.stop()
    for _ in range(5):
        watcher.look()
    assert [seen.to for seen in watcher.decisions] == ["1+1", "2+1"]
    assert watcher.decisions[-1].target == (2, 1)
    assert [sample.prefill.desired for sample in watcher.samples[-2:]] == [2, 2]


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
