"""One machine, jobs with known work and deadlines: who can be on time, and in which order they wait least.

In order of deadline all are on time if they can be in any order (J. R. Jackson, 1955): that tells who can. The order of
least waiting is W. E. Smith's of 1956. Both are for one machine without release dates (M. Pinedo, Scheduling: Theory,
Algorithms, and Systems, chapters 3 and 4).
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


def promised(jobs: Sequence[Job], now_seconds: float) -> tuple[list[Job], list[Job]]:
    """Split jobs into those that can all be on time, done in order of deadline, and those that can not.

    In order of deadline each is promised that is on time behind the promises before it. So a promise holds whatever
    comes with a later deadline. (To give up the longest instead, as Moore and Hodgson do, leaves more on time of the
    jobs at hand, and fewer in the long run: what was done of the long ones is lost again and again.)

    Args:
        jobs: in order of deadline.
        now_seconds: when the machine is free.

    Returns:
        Those that are promised and those that are not, both in order of deadline.
    """
    done_seconds = now_seconds
    kept: list[Job] = []
    others: list[Job] = []
    for job in jobs:
        if done_seconds + job.work_seconds <= job.deadline_seconds:
            done_seconds += job.work_seconds
            kept.append(job)
        else:
            others.append(job)
    return kept, others


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
