from itertools import combinations, pairwise, permutations
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd_scheduling.schedule import Job, least_waiting, most_on_time, slack_seconds

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


@given(jobs=jobs(7), now=st.integers(0, 40).map(lambda n: n / 8))
def test_as_many_are_on_time_as_brute_force_finds(jobs, now):
    on_time, late = most_on_time(jobs, now)
    assert sorted([*on_time, *late], key=lambda job: job.index) == jobs
    assert all(a.index < b.index for part in (on_time, late) for a, b in pairwise(part))
    assert all_on_time(on_time, now)
    most = next(n for n in range(len(jobs), -1, -1) if any(all_on_time(some, now) for some in combinations(jobs, n)))
    assert len(on_time) == most


@given(jobs=jobs(6), now=st.integers(0, 40).map(lambda n: n / 8))
def test_none_is_late_and_the_sum_of_waits_is_the_least_that_brute_force_finds(jobs, now):
    jobs, _ = most_on_time(jobs, now)
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
    on_time, _ = most_on_time(jobs, now)
    order = least_waiting(on_time, now)
    assert sorted(order, key=lambda job: job.index) == on_time
    rounding = 1e-9 + 1e-15 * (now + scale) * (1 + len(jobs))
    assert all(done <= job.deadline_seconds + rounding for job, done in ends(order, now))


@given(jobs=jobs(8), now=st.integers(0, 40).map(lambda n: n / 8), eighth=st.just(1 / 8))
def test_slack_is_how_much_later_they_could_begin_and_no_more(jobs, now, eighth):
    jobs, _ = most_on_time(jobs, now)
    slack = slack_seconds(jobs, now)
    assert slack >= 0
    assert (slack == inf) == (not jobs)
    if jobs:
        assert all_on_time(jobs, now + slack)
        assert not any(all_on_time(order, now + slack + eighth) for order in (jobs, least_waiting(jobs, now)))


def test_the_longest_is_given_up_and_of_equal_ones_the_first_due():
    short, long, other = Job(1, 2, 0), Job(3, 3, 1), Job(1, 4, 2)
    assert most_on_time([short, long, other], 0) == ([short, other], [long])
    first, second = Job(2, 2, 0), Job(2, 3, 1)
    assert most_on_time([first, second], 0) == ([second], [first])


def test_a_long_one_goes_before_shorter_ones_when_its_time_has_come():
    urgent, short = Job(5, 5, 0), Job(1, 9, 1)
    assert least_waiting([urgent, short], 0) == [urgent, short]
    assert least_waiting([Job(5, 6, 0), short], 0)[0] is short


@pytest.mark.parametrize("function", [most_on_time, least_waiting, slack_seconds])
def test_nothing_waits(function):
    assert function([], 3.0) in (([], []), [], inf)
