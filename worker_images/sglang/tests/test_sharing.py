from hypothesis import assume, given
from hypothesis import strategies as st

from dopd_scheduling import OnTimeFirst, Prompt, ServiceTimes, Settings
from dopd_scheduling.sharing import Sharing

from .simulation import ROOM, TIMES, Worker, lengths, pieces_seconds, times

WEIGHTS = ServiceTimes(pass_points=((1, 0.01), (1000, 0.01), (8000, 0.08)))
"""A pass of up to 1,000 tokens takes as long as one of a single token."""


def joins(times: ServiceTimes, tokens: int, more: int, behind: int, served: int = 0, deadline_seconds: float = 1e9):
    """Whether a prompt joins one that the pass completes, where so many others can be on time, too."""
    first, prompt = Prompt(0, 0.0, tokens), Prompt(1, 0.0, more)
    others = [Prompt(2, 0.0, 100) for _ in range(behind - 1)]
    deadlines = {id(first): deadline_seconds} | {id(one): 1e9 for one in (prompt, *others)}
    return Sharing(times, 0.0, deadlines, served)([(first, tokens)], prompt, more)


def test_what_costs_no_time_joins():
    assert joins(WEIGHTS, 100, 100, behind=1)


def test_a_short_prompt_is_not_glued_to_a_long_one_where_few_wait():
    assert not joins(TIMES, 300, 8000, behind=3)


@given(times=times, tokens=lengths, more=lengths, behind=st.integers(1, 50), served=st.integers(0, 1000))
def test_the_more_gain_by_it_the_sooner_a_piece_joins(times, tokens, more, behind, served):
    assume(joins(times, tokens, more, behind, served))
    assert joins(times, tokens, more, behind + 1, served)
    assert joins(times, tokens, more, behind, served + 1)


@given(times=times, tokens=lengths, more=lengths, deadline_seconds=st.floats(0, 2))
def test_nothing_joins_that_makes_a_prompt_of_the_pass_late(times, tokens, more, deadline_seconds):
    pieces = [(Prompt(0, 0.0, tokens), tokens), (Prompt(1, 0.0, more), more)]
    if joins(times, tokens, more, 10, 10**6, deadline_seconds):
        assert pieces_seconds(times, pieces) <= deadline_seconds + 1e-9


def test_nobody_who_is_late_is_waited_for():
    late = [Prompt(i, 0.0, 500) for i in range(100)]
    first, long = Prompt("first", 0.0, 300), Prompt("long", 0.0, 4000)
    assert not Sharing(TIMES, 0.0, {id(first): 1e9, id(long): 1e9}, 0)([(first, 300)], long, 4000)
    assert not Sharing(TIMES, 0.0, {id(first): 1e9}, 0)([(first, 300)], late[0], 500)


def test_a_worker_that_is_seldom_idle_fills_its_passes():
    """As many very short prompts as it can take in large passes, and not in small ones; one in a hundred is long."""
    settings = Settings(ttft_seconds=1.5, times=WEIGHTS, most_unfinished=3)
    arrivals = [Prompt(i, i * 0.004, 7000 if i % 100 == 99 else 260) for i in range(3000)]
    arrived = {prompt.key: prompt.arrived_seconds for prompt in arrivals}
    worker = Worker(OnTimeFirst(settings), ROOM).serve(arrivals)
    assert all(done - arrived[key] < 0.5 for key, done in worker.finished_seconds.items())
