from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd_scheduling import ORDERS, Prompt, Settings, make
from dopd_scheduling.order import fill

from .simulation import TIMES, Worker, check, copied, prompts, settings

names = st.sampled_from(list(ORDERS))
rooms = st.integers(1, 16_384)


@given(name=names, settings=settings(), queue=prompts(), begun=st.integers(0, 4), room=rooms, later=st.floats(0, 10))
def test_every_order_returns_a_pass_that_it_may(name, settings, queue, begun, room, later):
    begun = min(begun, settings.most_unfinished, len(queue))
    order, now = make(name, settings), queue[-1].arrived_seconds + later
    unfinished, waiting = queue[:begun], queue[begun:]
    for _ in range(3):  # its memory, too
        pieces = order.next_pass(now, waiting, unfinished, room)
        check(pieces, waiting, unfinished, room, settings.most_unfinished)


@given(name=names, settings=settings(), queue=prompts(), room=st.integers(500, 16_384))
def test_every_order_serves_everything_in_no_more_work_than_there_is(name, settings, queue, room):
    times = settings.times
    work = sum(times.work_seconds(prompt.tokens, prompt.context_tokens) for prompt in queue)
    pieces = sum(-(-prompt.tokens // room) for prompt in queue)
    keys = {prompt.key for prompt in queue}
    worker = Worker(make(name, settings), room).serve(queue)
    assert worker.finished_seconds.keys() == keys
    assert worker.work_seconds == pytest.approx(work)
    assert worker.passes <= pieces + len(keys)


@given(name=names, settings=settings(), queue=prompts(), room=st.integers(100, 8192))
def test_equal_inputs_give_equal_decisions(name, settings, queue, room):
    one, other = (Worker(make(name, settings), room).serve(some) for some in (copied(queue), copied(queue[::-1])[::-1]))
    assert list(one.finished_seconds.items()) == list(other.finished_seconds.items())


@given(queue=prompts(), room=rooms, most=st.integers(1, 4), begun=st.integers(0, 4))
def test_a_pass_is_filled_in_the_order_given_and_to_the_brim(queue, room, most, begun):
    begun = min(begun, most, len(queue))
    pieces = fill(queue, queue[:begun], room, most)
    check(pieces, queue[begun:], queue[:begun], room, most)
    places = [queue.index(prompt) for prompt, _ in pieces]
    assert all(a < b for a, b in pairwise(places))
    left = room - sum(tokens for _, tokens in pieces)
    if left:  # what is left out could only have been begun
        assert all(prompt.tokens > left for i, prompt in enumerate(queue) if i not in places and i >= begun)
        assert set(range(begun)) <= set(places)


def test_what_does_not_fit_is_cut_and_a_shorter_one_passes_what_may_not_be():
    long, other, short = Prompt("long", 0, 900), Prompt("other", 0, 800), Prompt("short", 0, 100)
    assert fill([long, other, short], [], 1000, 2) == [(long, 900), (other, 100)]
    assert fill([other, long, short], [], 700, 1) == [(other, 700)]
    assert fill([short, long, other], [other], 700, 1) == [(short, 100), (other, 600)]


def test_a_piece_joins_only_where_it_is_worth_it():
    first, second, third = (Prompt(key, 0, 100) for key in range(3))
    asked = []
    pieces = fill([first, second, third], [], 1000, 1, lambda pieces, prompt, tokens: asked.append(prompt) or False)
    assert pieces == [(first, 100)]
    assert asked == [second]


def test_the_hand_over_is_taken_off_the_deadline():
    times = replace(TIMES, transfer_seconds=0.005, transfer_token_seconds=1e-5)
    prompt = Prompt(0, 3.0, 600, 400)
    assert Settings(1.5, times).deadline_seconds(prompt) == pytest.approx(4.5 - 0.005 - 0.01)
