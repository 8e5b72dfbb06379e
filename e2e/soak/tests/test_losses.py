"""What is lost, and what a fault may cost."""

from dataclasses import replace

import pytest

from e2e.load.client import Outcome, Result
from e2e.soak.losses import Happened, losses
from e2e.soak.plan import Kind

ANSWERED = Result(100.0, 0.5, 100, 20, Outcome.OK, 200, 20, 0.1, 0.02, 4.5, "")
GATEWAY_SAID = '{"error":{"type":"server_error","code":"PD disaggregation request failed"}}'
FAILED = replace(ANSWERED, outcome=Outcome.FAILED, status=502, got_tokens=None, error=GATEWAY_SAID)
"""Ends at 105 s."""
NO_ANSWER = replace(FAILED, status=0, error="ServerDisconnectedError: Server disconnected")


def engine_kill(at_seconds: float) -> Happened:
    return Happened(Kind.ENGINE_KILL, at_seconds, at_seconds + 50.0)


def test_what_is_whole_is_no_loss() -> None:
    found = losses([ANSWERED, ANSWERED], [engine_kill(100.0)])
    assert (found.lost, found.own) == ([], {})


@pytest.mark.parametrize("at_seconds", [86.0, 95.0, 105.2])
def test_a_clear_error_within_the_seconds_of_a_kill_is_its_own(at_seconds: float) -> None:
    found = losses([ANSWERED, FAILED], [Happened(Kind.EVICTION, 90.0, 120.0), engine_kill(at_seconds)])
    assert (found.lost, found.own) == ([], {1: [FAILED]})


@pytest.mark.parametrize("at_seconds", [80.0, 106.0])
def test_an_error_before_or_long_after_a_kill_is_lost(at_seconds: float) -> None:
    assert losses([FAILED], [engine_kill(at_seconds)]).lost == [FAILED]


@pytest.mark.parametrize(
    "result",
    [
        replace(FAILED, outcome=Outcome.TRUNCATED, status=200),
        replace(FAILED, error="not whole after 120 s"),
        replace(ANSWERED, got_tokens=19),
        NO_ANSWER,
    ],
    ids=["cut", "time-out", "another number of tokens", "no answer"],
)
def test_what_is_not_a_clear_error_is_lost_whatever_was_killed(result: Result) -> None:
    assert losses([result], [engine_kill(100.0)]).lost == [result]


@pytest.mark.parametrize("kind", [k for k in Kind if k is not Kind.ENGINE_KILL])
def test_no_other_fault_may_cost_a_request(kind: Kind) -> None:
    assert losses([FAILED, NO_ANSWER], [Happened(kind, 100.0, 120.0)]).lost == [FAILED, NO_ANSWER]
