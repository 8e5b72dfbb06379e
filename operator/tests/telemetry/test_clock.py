"""Clocks that differ are found, and the time that the answer took is not held against anyone."""

import time
from typing import Any

import pytest

from dopd.api.conditions import ConditionReason
from dopd.telemetry.clock import clock_check, difference_seconds
from dopd.telemetry.connection import NoAnswer
from dopd.telemetry.prometheus import QueryFailed


class Clock:
    """A Prometheus that knows only the time."""

    def __init__(self, seconds: str, takes_seconds: float = 0.0) -> None:
        self.seconds, self.takes_seconds = seconds, takes_seconds

    def custom_query(self, query: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        time.sleep(self.takes_seconds)
        return [{"metric": {}, "value": [0, self.seconds]}] if self.seconds else []

    def custom_query_range(self, *_: Any) -> list[dict[str, Any]]:
        raise AssertionError


@pytest.mark.parametrize("seconds", ["1000", "1029.9", "970.1"])
def test_clocks_that_agree_well_enough(seconds: str):
    clock_check("http://p", 1000.0)(Clock(seconds))


@pytest.mark.parametrize(("seconds", "words"), [("1600", "600 s ahead"), ("400", "600 s behind")])
def test_clocks_that_do_not_agree(seconds: str, words: str):
    with pytest.raises(QueryFailed, match=words) as failure:
        clock_check("http://p", 1000.0)(Clock(seconds))
    assert failure.value.reason is ConditionReason.CLOCK_SKEW


def test_the_time_that_the_answer_took_is_no_difference():
    assert difference_seconds(Clock("1000.05", takes_seconds=0.05), 1000.0) == 0.0


@pytest.mark.parametrize("seconds", ["", "NaN"])
def test_no_time_at_all(seconds: str):
    with pytest.raises(NoAnswer, match="no time"):
        clock_check("http://p", 1000.0)(Clock(seconds))
