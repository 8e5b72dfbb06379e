import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd_scheduling import Prompt

from .simulation import lengths, pieces_seconds, times

cached = st.integers(0, 100_000)


@given(times=times, tokens=lengths, more=lengths, context=cached, further=cached)
def test_more_tokens_and_a_longer_context_never_take_less(times, tokens, more, context, further):
    work = times.work_seconds(tokens, context)
    assert times.work_seconds(tokens + more, context) >= work > 0
    assert times.work_seconds(tokens, context + further) >= work
    assert times.pass_seconds(tokens + more) >= times.pass_seconds(tokens) >= times.pass_seconds(0)


@given(times=times, tokens=st.integers(2, 40_000), cut=st.floats(0, 1), context=cached)
def test_a_prompt_in_pieces_is_as_much_work_as_whole(times, tokens, cut, context):
    first = max(1, min(tokens - 1, round(cut * tokens)))
    pieces = times.work_seconds(first, context) + times.work_seconds(tokens - first, context + first)
    assert pieces == pytest.approx(times.work_seconds(tokens, context))


@given(times=times, queue=st.lists(st.tuples(lengths, cached), min_size=1, max_size=5))
def test_together_takes_no_longer_than_one_by_one_and_no_less_than_the_longest(times, queue):
    pieces = [(Prompt(i, 0.0, tokens, context), tokens) for i, (tokens, context) in enumerate(queue)]
    alone = [pieces_seconds(times, [piece]) for piece in pieces]
    together = pieces_seconds(times, pieces)
    assert max(alone) <= together * (1 + 1e-12)
    assert together <= sum(alone) * (1 + 1e-12)


@given(times=times, tokens=lengths, context=cached, computed=st.floats(0, 1))
def test_the_hand_over_is_that_of_the_whole_prompt_whatever_is_computed(times, tokens, context, computed):
    done = int(computed * (tokens - 1))
    before, after = Prompt(0, 0.0, tokens, context), Prompt(0, 0.0, tokens - done, context + done)
    assert times.handover_seconds(before) == pytest.approx(times.handover_seconds(after))


def test_prompts_are_told_apart_by_themselves_and_not_by_what_they_say():
    assert Prompt(1, 0.0, 5) != Prompt(1, 0.0, 5)
