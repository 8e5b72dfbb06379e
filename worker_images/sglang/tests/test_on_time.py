from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from dopd_scheduling import OnTimeFirst, Prompt, ServiceTimes, Settings
from dopd_scheduling.on_time import CERTAIN_PART, HEADROOM
from dopd_scheduling.schedule import Job, promised

from .simulation import ROOM, TIMES, Worker, copied, pieces_seconds, prompts

PLAIN = ServiceTimes(((1, 0.001), (1000, 1.0)))
"""A millisecond a token and nothing for a pass: work is time."""


def keys(pieces):
    return [prompt.key for prompt, _ in pieces]


def all_promised(queue, settings, now):
    """Whether all can be on time with the headroom that the order keeps."""
    work = settings.times.work_seconds
    jobs = [
        Job(HEADROOM * work(p.tokens, p.context_tokens), settings.deadline_seconds(p), i) for i, p in enumerate(queue)
    ]
    return not promised(sorted(jobs, key=lambda job: job.deadline_seconds), now)[1]


def lateness(queue, settings, room):
    """The most that one of them is late when nothing else comes."""
    due = {prompt.key: settings.deadline_seconds(prompt) for prompt in queue}
    worker = Worker(OnTimeFirst(settings), room)
    worker.now_seconds = queue[-1].arrived_seconds
    return max(at - due[key] for key, at in worker.serve(copied(queue)).finished_seconds.items())


queues = prompts(8, within_seconds=2)
tightness = st.floats(1, 2)


@given(queue=queues, tight=tightness, room=st.integers(200, 8192), most=st.integers(1, 4))
def test_what_can_be_on_time_is_on_time(queue, tight, room, most):
    work = sum(PLAIN.work_seconds(prompt.tokens) for prompt in queue)
    settings = Settings(HEADROOM * work * tight, PLAIN, most_unfinished=most)
    assume(all_promised(queue, settings, queue[-1].arrived_seconds))
    assert lateness(queue, settings, room) <= 1e-6


@given(queue=queues, tight=tightness, room=st.integers(200, 8192), most=st.integers(1, 4))
def test_where_passes_cost_something_that_can_be_on_time_with_it_is_on_time(queue, tight, room, most):
    """Without that time a prompt that was promised may become late, and then it waits as the late do."""
    work = sum(TIMES.work_seconds(prompt.tokens, prompt.context_tokens) for prompt in queue)
    cost = TIMES.pass_seconds(1) * sum(1 + prompt.tokens // room for prompt in queue)
    settings = Settings(HEADROOM * work * tight + cost, TIMES, most_unfinished=most)
    assume(all_promised(queue, settings, queue[-1].arrived_seconds + cost))
    assert lateness(queue, settings, room) <= 1e-6


def test_the_shortest_goes_first_and_a_long_one_when_its_time_has_come():
    long, short = Prompt("long", 0.0, 800), Prompt("short", 0.1, 100)
    order = OnTimeFirst(Settings(1.3, PLAIN))
    assert keys(order.next_pass(0.1, [long, short], [], 1000)) == ["short"]  # 0.1 + 1.25 (0.1 + 0.8) < 1.3
    assert keys(order.next_pass(0.2, [long, short], [], 1000)) == ["long"]


def test_one_that_can_not_be_on_time_waits_for_those_that_can():
    queue = [Prompt("long", 0.0, 900), *(Prompt(i, 0.01, 200) for i in range(4))]
    order = OnTimeFirst(Settings(1.1, PLAIN, late_share=0.0))
    worker = Worker(order, 1000, waiting=queue, now_seconds=0.01).serve([])
    assert list(worker.finished_seconds)[-1] == "long"
    assert all(worker.finished_seconds[i] <= 1.11 for i in range(4))


def test_where_all_are_late_the_first_that_came_goes_first():
    queue = [Prompt(i, 0.1 * i, tokens) for i, tokens in enumerate([900, 100, 500, 20])]
    worker = Worker(OnTimeFirst(Settings(1.0, PLAIN)), 1000, waiting=queue, now_seconds=60.0).serve([])
    assert list(worker.finished_seconds) == [0, 1, 2, 3]


def test_a_late_one_goes_first_where_it_makes_nobody_late():
    late, short = Prompt("late", 0.0, 500), Prompt("short", 9.9, 100)
    order = OnTimeFirst(Settings(2.0, PLAIN))
    assert keys(order.next_pass(10.0, [late, short], [], 1000))[0] == "late"
    order = OnTimeFirst(Settings(0.5, PLAIN))
    assert keys(order.next_pass(10.0, [late, short], [], 1000))[0] == "short"


@st.composite
def overloads(draw):
    """Prompts that come for good, faster than they can be served; lengths in turn."""
    turn = draw(st.lists(st.integers(5, 600), min_size=1, max_size=5))
    load = draw(st.floats(0.9, 1.6))
    return turn, sum(turn) / len(turn) * 1e-3 / load


@effort(max_examples=60)
@given(
    overload=overloads(),
    tokens=st.integers(1, 2500),
    before=st.lists(st.integers(1, 1500), max_size=3),
    share=st.sampled_from([1.0, 0.6]),
    ttft=st.floats(0.2, 3),
    room=st.integers(200, 1000),
    most=st.integers(1, 2),
)
def test_the_wait_of_a_late_one_is_bounded_however_long_a_shortage_lasts(
    overload, tokens, before, share, ttft, room, most
):
    """The bound, in seconds of work (here: of time).

        W = (A + w + B + R) / c + O + (n + m + 2) R

    w work of the prompt, A of the n that came before it, R of one full pass, c = CERTAIN_PART x late_share, B of the m
    longer than a pass that may be begun before it, O the objective: for so long one of these that is not yet late for
    certain may keep it from beginning.
    """
    settings = Settings(ttft, PLAIN, late_share=share, most_unfinished=most)
    one_pass = room * 1e-3
    work = 1e-3 * (sum(before) + tokens)
    turn, gap = overload
    begun = 1e-3 * most * max(turn)
    bound = (work + begun + one_pass) / (CERTAIN_PART * share) + ttft + (len(before) + most + 2) * one_pass
    ahead = [Prompt(("before", i), 0.0, each) for i, each in enumerate(before)]
    crowd = [Prompt(i, 1e-6 + gap * i, turn[i % len(turn)]) for i in range(int(1.1 * bound / gap))]
    worker = Worker(OnTimeFirst(settings), room)
    worker.serve([*ahead, Prompt("it", 1e-9, tokens), *crowd], until="it")
    assert worker.finished_seconds["it"] <= bound


def test_one_that_is_begun_and_became_late_keeps_no_other_from_its_share():
    """The first may not be cut while the second is in part computed, which stood behind it, and behind everybody."""
    first, second = Prompt("first", 0.0, 8000), Prompt("second", 0.001, 3500)
    crowd = [Prompt(i, 0.01 + 0.09 * i, 100) for i in range(3000)]
    worker = Worker(OnTimeFirst(Settings(5.0, PLAIN)), 1000, now_seconds=0.002)
    worker.serve([first, second, *crowd], until="first")
    assert worker.finished_seconds["second"] < 10
    assert worker.finished_seconds["first"] < 8 / (CERTAIN_PART / 3) + 5


@pytest.mark.parametrize("gap", [0.002, 0.004, 0.007])
def test_the_share_is_one_of_time_also_where_passes_are_small(gap):
    """Prompts of ten tokens keep a worker busy with passes that do next to nothing."""
    late = Prompt("late", 0.0, 40_000)
    crowd = [Prompt(i, 1e-4 + gap * i, 10) for i in range(round(20 / gap))]
    settings = Settings(0.3, TIMES, late_share=0.5)
    alone = sum(pieces_seconds(TIMES, [(Prompt(0, 0.0, n, at), n)]) for n, at in pieces_of(40_000))
    worker = Worker(OnTimeFirst(settings)).serve([late, *crowd], until="late")
    assert worker.finished_seconds["late"] <= (
        alone + TIMES.pass_seconds(ROOM, TIMES.piece_attention_seconds(ROOM))
    ) / (CERTAIN_PART * 0.5)


def pieces_of(tokens):
    return [(min(ROOM, tokens - at), at) for at in range(0, tokens, ROOM)]


@pytest.mark.parametrize("share", [0.0, 1 / 3, 1.0])
def test_the_late_take_no_more_than_their_share_from_those_that_can_be_on_time(share):
    """A hopeless backlog and as many short ones as there is time for: what the backlog gets while they come."""
    backlog = [Prompt(("late", i), 0.0, 1000) for i in range(60)]
    crowd = [Prompt(i, 100 + 0.2 * i, 199) for i in range(150)]
    worker = Worker(OnTimeFirst(Settings(3.0, PLAIN, late_share=share)), 1000, now_seconds=100.0)
    worker.serve([*backlog, *crowd], until=149)
    given = sum(1 for key in worker.finished_seconds if isinstance(key, tuple))
    assert given <= share * (worker.now_seconds - 100) + 2
    assert given >= CERTAIN_PART * share * (worker.now_seconds - 100) - 2


@given(queue=prompts(6), share=st.floats(0, 1))
def test_it_forgets_what_it_owes_when_nobody_is_late(queue, share):
    settings = Settings(1e9, TIMES, late_share=share)
    fresh, used = OnTimeFirst(settings), OnTimeFirst(replace(settings, ttft_seconds=0.01))
    used.next_pass(100.0, copied(queue), [], 500)
    used.settings = settings
    for order in (fresh, used):
        order.next_pass(100.0, copied(queue), [], 500)
    later = [replace(prompt, arrived_seconds=1e6) for prompt in queue]  # the worker was idle in between
    passes = [keys(order.next_pass(1e6, copied(later), [], 500)) for order in (fresh, used)]
    assert passes[0] == passes[1]
