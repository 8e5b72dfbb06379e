"""One machine, jobs with known work and deadlines: who can be on time, and in which order they wait least.

Both rules are textbook results for one machine without release dates (M. Pinedo, Scheduling: Theory, Algorithms, and
Systems, chapters 3 and 4).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush


@dataclass(slots=True, eq=False)
class Job:
    """Something to be done.

    Attributes:
        work_seconds: how long it takes alone.
        deadline_seconds: when it should be done.
        index: its place in the caller's list.
    """

    work_seconds: float
    deadline_seconds: float
    index: int


def most_on_time(jobs: Sequence[Job], now_seconds: float) -> tuple[list[Job], list[Job]]:
    """Split jobs so that as many as possible can be on time (J. M. Moore and T. J. Hodgson, 1968).

    In order of deadline they are taken in one by one; when one would be late, the longest of those taken in is put out.

    Args:
        jobs: in order of deadline.
        now_seconds: when the machine is free.

    Returns:
        Those that can all be on time, done in order of deadline, and those given up; both in order of deadline.
    """
    done_seconds = now_seconds
    longest: list[tuple[float, int]] = []
    out: set[int] = set()
    for place, job in enumerate(jobs):
        done_seconds += job.work_seconds
        heappush(longest, (-job.work_seconds, place))
        if done_seconds > job.deadline_seconds:
            negative_work, given_up = heappop(longest)
            done_seconds += negative_work
            out.add(given_up)
    if not out:
        return list(jobs), []
    return [job for place, job in enumerate(jobs) if place not in out], [jobs[place] for place in sorted(out)]


def least_waiting(jobs: Sequence[Job], now_seconds: float) -> list[Job]:
    """Order jobs that can all be on time so that they wait least in the mean and none is late (W. E. Smith, 1956).

    From the last place to the first: of the jobs whose deadline allows that place, the longest gets it.

    Args:
        jobs: in order of deadline; done in that order, all are on time.
        now_seconds: when the machine is free.
    """
    end_seconds = now_seconds + sum(job.work_seconds for job in jobs)
    placed: list[Job] = []
    may_be_last: list[tuple[float, int, Job]] = []
    unseen = len(jobs)
    while len(placed) < len(jobs):
        while unseen and jobs[unseen - 1].deadline_seconds >= end_seconds - 1e-9:
            unseen -= 1
            heappush(may_be_last, (-jobs[unseen].work_seconds, -unseen, jobs[unseen]))
        if not may_be_last:  # rounding: the sum of what is left exceeds the last deadline by less than it shows
            unseen -= 1
            heappush(may_be_last, (0.0, -unseen, jobs[unseen]))
        job = heappop(may_be_last)[2]
        placed.append(job)
        end_seconds -= job.work_seconds
    placed.reverse()
    return placed


def slack_seconds(jobs: Sequence[Job], now_seconds: float) -> float:
    """How much later jobs could begin, in order of deadline, and all still be on time; infinite without jobs."""
    slack, done_seconds = float("inf"), now_seconds
    for job in jobs:
        done_seconds += job.work_seconds
        slack = min(slack, job.deadline_seconds - done_seconds)
    return slack
