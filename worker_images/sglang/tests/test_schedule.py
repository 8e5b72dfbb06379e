from itertools import pairwise, permutations
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd_scheduling.schedule import Job, least_waiting, promised, slack_seconds

eighths = st.integers(1, 64).map(lambda n: n / 8)
"""Sums of them are exact, so that brute force and rule agree on what is late."""


deadlines = st.integers(0, 160).map(lambda n: n / 8)


@st.composite
def jobs(draw, most):
    drawn = draw(st.lists(st.tuples(eighths, deadlines), max_size=most))
    return [Job(work, due, i) for i, (work, due) in enumerate(sorted(drawn, key=lambda job: job[1]))]


def ends(order, now):
    done = now
    for job in order:
        done += job.work_seconds
        yield job, done


def all_on_time(order, now):
    return all(done <= job.deadline_seconds for job, done in ends(order, now))


@given(jobs=jobs(8), now=st.integers(0, 40).map(lambda n: n / 8))
def test_who_is_promised_is_on_time_and_the_others_would_be_late_behind_the_promises_before_them(jobs, now):
    kept, others = promised(jobs, now)
    assert sorted([*kept, *others], key=lambda job: job.index) == jobs
    assert all(a.index < b.index for part in (kept, others) for a, b in pairwise(part))
    assert all_on_time(kept, now)
    for job in others:
        assert not all_on_time([*(other for other in kept if other.index < job.index), job], now)


@given(jobs=jobs(7), now=st.integers(0, 40).map(lambda n: n / 8))
def test_where_all_can_be_on_time_all_are_promised(jobs, now):
    possible = any(all_on_time(order, now) for order in permutations(jobs)) if len(jobs) < 7 else all_on_time(jobs, now)
    assert (not promised(jobs, now)[1]) == possible


@given(jobs=jobs(8), now=st.integers(0, 40).map(lambda n: n / 8))
def test_what_is_due_later_breaks_no_promise(jobs, now):
    kept, _ = promised(jobs[:-1], now)
    assert promised(jobs, now)[0][: len(kept)] == kept


@given(jobs=jobs(6), now=st.integers(0, 40).map(lambda n: n / 8))
def test_none_is_late_and_the_sum_of_waits_is_the_least_that_brute_force_finds(jobs, now):
    jobs, _ = promised(jobs, now)
    order = least_waiting(jobs, now)
    assert sorted(order, key=lambda job: job.index) == jobs
    assert all_on_time(order, now)
    least = min(
        (sum(done for _, done in ends(other, now)) for other in permutations(jobs) if all_on_time(other, now)),
        default=0,
    )
    assert sum(done for _, done in ends(order, now)) == least


@given(jobs=jobs(8), now=st.sampled_from([0.0, 1.8e9]), scale=st.floats(1e-6, 1e3))
def test_jobs_on_time_stay_on_time_where_sums_are_rounded(jobs, now, scale):
    jobs = [Job(job.work_seconds * scale / 3, now + job.deadline_seconds * scale, job.index) for job in jobs]
    on_time, _ = promised(jobs, now)
    order = least_waiting(on_time, now)
    assert sorted(order, key=lambda job: job.index) == on_time
    rounding = 1e-9 + 1e-15 * (now + scale) * (1 + len(jobs))
    assert all(done <= job.deadline_seconds + rounding for job, done in ends(order, now))


@given(jobs=jobs(8), now=st.integers(0, 40).map(lambda n: n / 8), eighth=st.just(1 / 8))
def test_slack_is_how_much_later_they_could_begin_and_no_more(jobs, now, eighth):
    jobs, _ = promised(jobs, now)
    slack = slack_seconds(jobs, now)
    assert slack >= 0
    assert (slack == inf) == (not jobs)
    if jobs:
        assert all_on_time(jobs, now + slack)
        assert not any(all_on_time(order, now + slack + eighth) for order in (jobs, least_waiting(jobs, now)))


def test_one_that_is_late_behind_earlier_promises_is_not_promised_and_shorter_ones_behind_it_may_be():
    first, long, short = Job(2, 2, 0), Job(3, 4, 1), Job(1, 4, 2)
    assert promised([first, long, short], 0) == ([first, short], [long])


def test_a_long_one_goes_before_shorter_ones_when_its_time_has_come():
    urgent, short = Job(5, 5, 0), Job(1, 9, 1)
    assert least_waiting([urgent, short], 0) == [urgent, short]
    assert least_waiting([Job(5, 6, 0), short], 0)[0] is short


@pytest.mark.parametrize("function", [promised, least_waiting, slack_seconds])
def test_nothing_waits(function):
    assert function([], 3.0) in (([], []), [], inf)
