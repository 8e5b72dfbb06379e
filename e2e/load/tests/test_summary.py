import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.load import Objectives, Outcome, Result, summarize
from e2e.load.summary import percentile


def result(outcome: Outcome = Outcome.OK, ttft: float | None = 0.1, itl: float | None = 0.01) -> Result:
    error = "" if outcome is Outcome.OK else "lost"
    return Result(0.0, 0.0, 100, 10, outcome, 200, 10, ttft, itl, 1.0, error)


def test_a_lost_request_attains_nothing() -> None:
    results = [result(), result(), result(Outcome.FAILED), result(Outcome.TRUNCATED)]
    summary = summarize(results, Objectives(ttft_seconds=1.0, itl_seconds=1.0))
    assert (summary.requests, summary.ok, summary.failed, summary.truncated) == (4, 2, 1, 1)
    assert (summary.attainment, summary.attainment_ttft, summary.attainment_itl) == (0.5, 0.5, 0.5)
    assert summary.first_error == "lost"


def test_both_objectives_must_be_met_by_the_same_request() -> None:
    results = [result(ttft=5.0), result(itl=5.0), result(), result()]
    summary = summarize(results, Objectives(ttft_seconds=1.0, itl_seconds=1.0))
    assert (summary.attainment, summary.attainment_ttft, summary.attainment_itl) == (0.5, 0.75, 0.75)


def test_latencies_are_judged_in_time_of_the_trace() -> None:
    results = [result(ttft=0.3, itl=0.01)]
    assert summarize(results, Objectives(1.0, 1.0), speedup=5.0).attainment == 0.0
    assert summarize(results, Objectives(1.5, 0.05), speedup=5.0).attainment == 1.0
    assert summarize(results, speedup=5.0).ttft_seconds["p50"] == pytest.approx(1.5)


def test_a_single_token_has_no_time_between_tokens_to_miss() -> None:
    assert summarize([result(itl=None)], Objectives(1.0, 1.0)).attainment == 1.0


def test_no_results() -> None:
    summary = summarize([], Objectives(1.0, 1.0))
    assert (summary.requests, summary.attainment, summary.late_p99_seconds) == (0, None, 0.0)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1.0))
def test_a_percentile_is_the_smallest_value_that_covers_the_share(values: list[float], share: float) -> None:
    found = percentile(values, share)
    covered = sum(value <= found for value in values)
    below = sum(value < found for value in values)
    assert found in values
    assert covered >= share * len(values) > below - 1e-9
