import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from dopd_scheduling import ORDERS, Prompt, Settings, make

from .simulation import TIMES, ServiceTimes, Worker, prompts

PLAIN = ServiceTimes(((1, 0.001), (1000, 1.0)))
STARVE = {"shortest-first", "hrrn", "lpm", "dopd-paper"}
"""Under an overload that lasts these put somebody off as long as it does."""


def order_of(name, queue, now=10.0, room=100_000, **more):
    settings = Settings(1.5, TIMES, **more)
    return [prompt.key for prompt, _ in make(name, settings).next_pass(now, queue, [], room)]


@given(queue=prompts())
def test_each_goes_by_its_own_rank(queue):
    work = {prompt.key: TIMES.work_seconds(prompt.tokens, prompt.context_tokens) for prompt in queue}
    ratio = {prompt.key: (10 - prompt.arrived_seconds) / work[prompt.key] for prompt in queue}
    cached = {prompt.key: prompt.context_tokens for prompt in queue}
    room = sum(prompt.tokens for prompt in queue)
    assert order_of("fcfs", queue, room=room) == [prompt.key for prompt in queue]
    assert order_of("shortest-first", queue, room=room) == sorted(work, key=work.__getitem__)
    assert order_of("hrrn", queue, room=room) == sorted(work, key=ratio.__getitem__, reverse=True)
    assert order_of("lpm", queue, room=room) == sorted(work, key=cached.__getitem__, reverse=True)


def test_fcfs_goes_on_with_what_it_has_begun():
    first, begun = Prompt("first", 0.0, 500), Prompt("begun", 1.0, 500)
    pieces = make("fcfs", Settings(1.5, TIMES)).next_pass(2.0, [first], [begun], 700)
    assert [(prompt.key, tokens) for prompt, tokens in pieces] == [
        ("begun", 500)
    ]  # the first would have to be cut, too


def test_can_make_it_first_serves_the_late_in_one_pass_of_ten():
    order = make("can-make-it-first", Settings(1.0, PLAIN))
    late, short = Prompt("late", 0.0, 500), Prompt("short", 9.9, 100)
    firsts = [order.next_pass(10.0, [late, short], [], 500)[0][0].key for _ in range(20)]
    assert firsts == [*["short"] * 9, "late"] * 2


@effort(max_examples=25)
@given(
    name=st.sampled_from(sorted(set(ORDERS) - STARVE)),
    tokens=st.integers(1, 2500),
    turn=st.lists(st.integers(20, 600), min_size=1, max_size=4),
    load=st.floats(0.9, 1.5),
    most=st.integers(1, 2),
)
def test_nobody_starves_while_an_overload_lasts(name, tokens, turn, load, most):
    gap = sum(turn) / len(turn) * 1e-3 / load
    crowd = [Prompt(i, 1e-6 + gap * i, turn[i % len(turn)]) for i in range(int(80 / gap))]
    worker = Worker(make(name, Settings(1.0, PLAIN, late_share=1.0, most_unfinished=most)), 1000)
    worker.serve([Prompt("it", 0.0, tokens), *crowd], until="it")
    assert worker.finished_seconds["it"] < 60


@pytest.mark.parametrize("name", sorted(STARVE))
def test_known_to_starve(name):
    """The cost of what they do, so that a change of it is seen."""
    tokens = 2000 if name == "dopd-paper" else 900
    crowd = [Prompt(i, 0.05 * i, 100, context_tokens=1) for i in range(1200)]
    settings = Settings(1.0, PLAIN, predicted_tokens=500)
    worker = Worker(make(name, settings), 1000, now_seconds=0.0)
    worker.serve([Prompt("it", 5.001, tokens), *crowd], until="it")
    assert worker.finished_seconds["it"] > 60
