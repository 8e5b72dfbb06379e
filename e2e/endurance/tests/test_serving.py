"""Which worker came to serve, how, and when; and the table of it."""

import pytest

from e2e.endurance import times
from e2e.endurance.serving import Arrivals, Look, Served, Way, decided_at, moves, summary, table

BEFORE = [Look("p", "prefill", ready=True), Look("d", "decode", ready=True)]


def test_a_started_decode_worker_serves_with_its_first_request_once_it_is_ready() -> None:
    watch = Arrivals(BEFORE)
    watch.look(1.0, Look("new", "decode", ready=False, requests=1))
    watch.look(2.0, Look("new", "decode", ready=True))
    watch.look(3.0, Look("new", "decode", ready=True))
    assert not watch.served
    watch.look(4.0, Look("new", "decode", ready=True, requests=1))
    watch.look(5.0, Look("new", "decode", ready=True, requests=2))
    assert list(watch.served.values()) == [Served(Way.START, "decode", 2.0, 4.0)]
    assert not watch.awaits("new", "decode")


def test_what_an_engine_computed_before_it_was_able_is_no_answer_of_prefill() -> None:
    watch = Arrivals(BEFORE)
    watch.look(1.0, Look("new", "prefill", ready=True, computed_tokens=7))  # its own first request
    watch.look(2.0, Look("new", "prefill", ready=True, computed_tokens=7, requests=1))
    assert not watch.served
    watch.look(3.0, Look("new", "prefill", ready=True, computed_tokens=207))
    assert list(watch.served.values()) == [Served(Way.START, "prefill", 1.0, 3.0)]


def test_a_worker_that_changed_its_role_is_a_flip_and_waits_for_its_label() -> None:
    watch = Arrivals(BEFORE)
    watch.look(1.0, Look("d", "decode", ready=True, requests=4))
    watch.look(2.0, Look("d", "", ready=True, requests=1))
    watch.look(3.0, Look("d", "prefill", ready=True, computed_tokens=5))  # canaries came before the label
    watch.look(4.0, Look("d", "prefill", ready=True, computed_tokens=90))
    assert list(watch.served.values()) == [Served(Way.FLIP, "prefill", 3.0, 4.0)]


def test_those_that_served_before_are_not_awaited() -> None:
    watch = Arrivals(BEFORE)
    watch.look(1.0, Look("p", "prefill", ready=True, computed_tokens=10))
    watch.look(2.0, Look("p", "prefill", ready=True, computed_tokens=20))
    assert not watch.served


def event(note: str, at: str, name: str = "m") -> dict[str, object]:
    return {"regarding": {"name": name}, "note": note, "eventTime": at}


def test_the_decision_is_the_first_event_of_the_change_since_it_was_asked_for() -> None:
    events = [
        event("1+1 -> 2+2 (prefill+decode): as asked", "1970-01-01T00:00:50.000000Z"),
        event("1+1 -> 2+2 (prefill+decode): as asked", "1970-01-01T00:01:40.250000Z"),
        event("1+1 -> 2+2 (prefill+decode): as asked", "1970-01-01T00:02:40.000000Z"),
        event("1+1 -> 2+2 (prefill+decode): of another", "1970-01-01T00:01:35.000000Z", name="other"),
        event("1+1 -> 2+20 (prefill+decode): as asked", "1970-01-01T00:01:36.000000Z"),
    ]
    assert decided_at(events, "m", "1+1 -> 2+2", since=90.0) == 100.25
    assert decided_at(events, "m", "2+2 -> 1+1", since=90.0) is None


def test_the_table_tells_starts_and_flips_by_role() -> None:
    took = [Served(Way.START, "prefill", 106.0, 108.0), Served(Way.START, "decode", 107.0, 110.0)]
    took += [Served(Way.FLIP, "prefill", 103.0, 100.0 + seconds) for seconds in (4.0, 5.0, 9.0)]
    found = moves(100.0, took)
    lines = table(found).splitlines()
    assert "| start of a prefill worker | 1 | 6.0 | 8.0 | 8.0 | 8.0 |" in lines
    assert "| **all starts** | 2 | 6.0 | 8.0 | 10.0 | 10.0 |" in lines
    assert "| decode worker that becomes prefill | 3 | 3.0 | 5.0 | 9.0 | 9.0 |" in lines
    assert "| prefill worker that becomes decode | 0 | | | | |" in lines
    assert summary(found)["flip"] == {"times": 3, "median_seconds": 5.0, "p90_seconds": 9.0}


@pytest.mark.parametrize(("starts", "flips"), [(10, 10), (1, 1), (3, 0)])
def test_each_move_of_the_sequence_is_a_start_or_a_flip(starts: int, flips: int) -> None:
    sequence = times.sequence(starts, flips)
    grown = [sum(end) - sum(start) for start, end in sequence]
    assert starts <= sum(grown) <= starts + 1
    assert sum(growth == 0 for growth in grown) == flips
    ends = [end for start, end in sequence if sum(start) == sum(end)]
    starts_of_flips = [start for start, end in sequence if sum(start) == sum(end)]
    assert starts_of_flips[1:] == ends[:-1], "each flip begins where the last one ended"
    assert all(max(sum(start), sum(end)) <= times.GPUS for start, end in sequence)


def test_the_page_takes_the_table_between_its_marks() -> None:
    page = times.PAGE.read_text()
    once = times.with_table(page, "| new |\n")
    assert f"{times.BEGIN}\n| new |\n{times.END}" in once
    assert times.with_table(once, "| new |\n") == once
    with pytest.raises(ValueError, match="no marks"):
        times.with_table("a page", "| new |\n")
