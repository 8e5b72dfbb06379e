"""Who can not be on time any more."""

import pytest

from dopd_scheduling import Prompt, ServiceTimes, Settings, hopeless

SETTINGS = Settings(ttft_seconds=5.0, times=ServiceTimes(((10, 0.01), (1000, 1.0)), transfer_seconds=0.5))
LATE, EARLY = Prompt("late", 0.0, 1000), Prompt("early", 9.0, 100)


def keys(*waiting: Prompt, unfinished: int = 0, most: int = 9, now: float = 10.0) -> list[str]:
    return [str(prompt.key) for prompt in hopeless(SETTINGS, now, waiting, unfinished, most)]


def test_who_would_be_late_even_if_it_were_next():
    assert keys(LATE, EARLY) == ["late"]
    assert keys(LATE, EARLY, now=3.4) == []
    assert keys(LATE, EARLY, now=3.6) == ["late"], "the way to decode counts"


def test_the_only_one_there_is_takes_time_from_nobody():
    assert keys(LATE) == []
    assert keys(LATE, unfinished=1) == ["late"]


@pytest.mark.parametrize("most", [1, 2])
def test_so_many_at_a_time(most: int):
    assert keys(*(Prompt(str(number), 0.0, 1000) for number in range(3)), most=most) == ["0", "1"][:most]
