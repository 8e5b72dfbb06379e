"""What online prompts lose by a batch behind them, and what the batch gets."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from dopd_scheduling import BatchBehind, OnTimeFirst, Prompt, ServiceTimes, Settings, hopeless, make
from dopd_scheduling.batch import LEAST_TOKENS, PASS_SHARE
from dopd_scheduling.classic import FirstCome
from dopd_scheduling.on_time import CERTAIN_PART, HEADROOM
from dopd_scheduling.schedule import Job, promised

from .simulation import ROOM, TIMES, Worker, copied, prompts
from .simulation import settings as any_settings

PLAIN = ServiceTimes(((1, 0.001), (1000, 1.0)))
"""A millisecond a token and nothing for a pass: work is time."""


def keys(pieces):
    return [prompt.key for prompt, _ in pieces]


@st.composite
def batches(draw, within_seconds=10.0):
    """Batch prompts that come at any time."""
    arrived = sorted(draw(st.lists(st.floats(0, within_seconds), min_size=1, max_size=6)))
    tokens = st.integers(1, 3000)
    return [Prompt(("batch", key), at, draw(tokens), batch=True) for key, at in enumerate(arrived)]


def one_pass(settings):
    """The longest pass of batch prompts: so many of them that the pass is as short as it must be, or the least."""
    return max(PASS_SHARE * settings.ttft_seconds, settings.times.pass_seconds(LEAST_TOKENS, 0.0))


def served(order, arrivals, room=ROOM):
    worker = Worker(order, room)
    return worker.serve(copied(arrivals)).finished_seconds


@given(online=prompts(8), batch=batches(), given_settings=any_settings())
def test_all_are_served_and_each_pass_is_one_that_an_order_may_return(online, batch, given_settings):
    done = served(BatchBehind(OnTimeFirst(given_settings)), [*online, *batch])
    assert done.keys() == {prompt.key for prompt in (*online, *batch)}


@given(online=prompts(8), batch=batches(), given_settings=any_settings(), now=st.floats(0, 30))
def test_while_an_online_prompt_waits_the_pass_is_what_it_is_without_the_batch(online, batch, given_settings, now):
    assume(given_settings.most_unfinished > 1)
    begun = [replace(prompt, key="begun", batch=True) for prompt in batch[:1]]
    waiting = sorted([*online, *batch[1:]], key=lambda prompt: prompt.arrived_seconds)
    with_batch = BatchBehind(OnTimeFirst(given_settings)).next_pass(now, waiting, begun, ROOM)
    alone = OnTimeFirst(given_settings).next_pass(now, online, [], ROOM)
    assert [(p.key, t) for p, t in with_batch] == [(p.key, t) for p, t in alone]


@effort(max_examples=60)
@given(online=prompts(8, within_seconds=20), batch=batches(20), ttft=st.floats(0.05, 5), room=st.integers(256, 2000))
def test_each_online_prompt_begins_its_last_pass_no_more_than_one_batch_pass_later(online, batch, ttft, room):
    """In order of arrival, where it can be said of each; a pass that begins later may be shared with those behind."""
    settings = Settings(ttft, PLAIN, most_unfinished=3)
    alone = served(FirstCome(settings), online, room)
    both = served(BatchBehind(FirstCome(settings)), [*online, *batch], room)
    bound = one_pass(settings) + room * 1e-3
    assert all(both[key] <= at + bound + 1e-6 for key, at in alone.items())


@effort(max_examples=60)
@given(online=prompts(8, within_seconds=2), batch=batches(2), tight=st.floats(1, 2))
def test_what_can_be_on_time_one_pass_later_is_on_time_whatever_the_batch_is(online, batch, tight):
    work = sum(PLAIN.work_seconds(prompt.tokens) for prompt in online)
    settings = Settings(HEADROOM * work * tight, PLAIN, most_unfinished=3)
    now = online[-1].arrived_seconds + one_pass(settings)
    jobs = [Job(HEADROOM * PLAIN.work_seconds(p.tokens), settings.deadline_seconds(p), i) for i, p in enumerate(online)]
    assume(not promised(sorted(jobs, key=lambda job: job.deadline_seconds), now)[1])
    worker = Worker(BatchBehind(OnTimeFirst(settings)), now_seconds=now)
    done = worker.serve(copied(sorted([*online, *batch], key=lambda p: p.arrived_seconds))).finished_seconds
    assert all(done[prompt.key] <= settings.deadline_seconds(prompt) + 1e-6 for prompt in online)


@effort(max_examples=60)
@given(online=prompts(8, within_seconds=20), batch=batches(20), ttft=st.floats(0.05, 5), late_share=st.floats(0, 1))
def test_the_online_work_is_done_no_more_than_one_pass_later(online, batch, ttft, late_share):
    """Of the order that dopd ships, whose choices a wait may change: all online work together."""
    settings = Settings(ttft, PLAIN, late_share=late_share, most_unfinished=3)
    alone = served(OnTimeFirst(settings), online)
    both = served(BatchBehind(OnTimeFirst(settings)), [*online, *batch])
    assert max(both[key] for key in alone) <= max(alone.values()) + one_pass(settings) + 1e-6


def test_a_batch_prompt_stops_at_the_end_of_a_short_pass_when_an_online_one_comes():
    settings = Settings(2.0, PLAIN, most_unfinished=2)
    worker = Worker(BatchBehind(OnTimeFirst(settings)), 1000, waiting=[Prompt("job", 0.0, 5000, batch=True)])
    worker.step()
    assert worker.now_seconds == pytest.approx(LEAST_TOKENS * 1e-3)  # a tenth of the objective would be fewer
    worker.waiting.append(Prompt("chat", worker.now_seconds, 100))
    assert keys(worker.step()) == ["chat"]
    assert keys(worker.step()) == ["job"]


def test_a_pass_of_the_batch_takes_a_tenth_of_the_objective_at_most():
    settings = Settings(1.5, TIMES, most_unfinished=3)
    queue = [Prompt(i, 0.0, 3000, batch=True) for i in range(9)]
    pieces = BatchBehind(OnTimeFirst(settings)).next_pass(0.0, queue, [], ROOM)
    seconds = TIMES.seconds_of((tokens, prompt.context_tokens) for prompt, tokens in pieces)
    assert 0.14 < seconds <= 0.15


def test_with_one_place_a_batch_prompt_that_was_begun_is_ended_before_another_begins():
    settings = Settings(1.0, PLAIN, most_unfinished=1)
    worker = Worker(BatchBehind(OnTimeFirst(settings)), 1000, waiting=[Prompt("job", 0.0, 2500, batch=True)])
    worker.step()
    worker.waiting.append(Prompt("chat", worker.now_seconds, 1500))
    done = worker.serve([]).finished_seconds
    assert done["job"] < done["chat"]


def test_what_waited_too_long_gets_the_share_of_the_late_however_long_the_online_load_lasts():
    crowd = [Prompt(i, 1e-6 + 0.1 * i, 99) for i in range(2000)]
    job = Prompt("job", 0.0, 4000, batch=True)
    settings = Settings(0.5, PLAIN, late_share=1.0, most_unfinished=3)
    starved = Worker(BatchBehind(OnTimeFirst(settings))).serve([replace(job, arrived_seconds=2e-6), *copied(crowd)])
    assert starved.finished_seconds["job"] > 190
    order = BatchBehind(OnTimeFirst(replace(settings, batch_wait_seconds=20.0)))
    worker = Worker(order).serve([replace(job, arrived_seconds=2e-6), *crowd], until="job")
    assert worker.finished_seconds["job"] <= 20 + 5 / CERTAIN_PART


@effort(max_examples=50)
@given(batch=batches(), given_settings=any_settings(1))
def test_alone_the_batch_goes_in_order_of_arrival(batch, given_settings):
    same = [replace(prompt, tokens=400, arrived_seconds=float(i)) for i, prompt in enumerate(batch)]
    worker = Worker(BatchBehind(OnTimeFirst(given_settings)), now_seconds=100.0).serve(same)
    assert list(worker.finished_seconds) == [prompt.key for prompt in same]


def test_no_batch_prompt_is_refused_and_none_is_told_apart_unless_asked_for():
    settings = Settings(0.1, PLAIN)
    queue = [Prompt("job", 0.0, 900, batch=True), Prompt("chat", 0.0, 900)]
    assert [p.key for p in hopeless(settings, 0.0, queue, 0, 9)] == ["chat"]
    assert isinstance(make("fcfs", settings), FirstCome)
    assert keys(make("fcfs", settings).next_pass(0.0, queue, [], 1000))[0] == "job"
    assert keys(make("fcfs", settings, batch=True).next_pass(0.0, queue, [], 1000)) == ["chat"]
