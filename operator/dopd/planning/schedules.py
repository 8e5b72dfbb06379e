"""Which limits hold at a time: those of spec.scaling, in whose place those of the schedules that are active come.

A schedule is active from each start until the end or the duration after it. Where several are active, the greatest
min and the greatest max count, field by field: nobody's reservation is undercut, and a min never exceeds its max.
Only the spec and the time go in, so the answer for any time can be had at any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim

from dopd.api.base import seconds
from dopd.api.inference import Scaling
from dopd.api.limits import Bounds, GpuBudget, Schedule

_LONGEST_CLOCK_CHANGE_SECONDS = 2 * 3600


@dataclass(frozen=True)
class Limits:
    """What holds at one time.

    Attributes:
        prefill: bounds of the prefill workers.
        decode: bounds of the decode workers.
        gpu_budget: GPUs of both roles; None for no limit.
        schedules: names of the active schedules.
    """

    prefill: Bounds
    decode: Bounds
    gpu_budget: GpuBudget | None
    schedules: tuple[str, ...] = ()


def limits_at(scaling: Scaling, now_seconds: float) -> Limits:
    """The limits that hold at a time, in seconds since the epoch."""
    active = [schedule for schedule in scaling.schedules if is_active(schedule, now_seconds)]
    return Limits(
        prefill=_greatest([s.prefill for s in active if s.prefill], scaling.prefill),
        decode=_greatest([s.decode for s in active if s.decode], scaling.decode),
        gpu_budget=_greatest_budget([s.gpu_budget for s in active if s.gpu_budget], scaling.gpu_budget),
        schedules=tuple(schedule.name for schedule in active),
    )


def is_active(schedule: Schedule, now_seconds: float) -> bool:
    """Whether a schedule holds at a time: from its start, that second included, to its end, that second not."""
    zone = ZoneInfo(schedule.time_zone)
    started = last_seconds(schedule.start, zone, now_seconds)
    if started is None:
        return False
    if schedule.duration is not None:
        return now_seconds < started + seconds(schedule.duration)
    assert schedule.end is not None
    ended = last_seconds(schedule.end, zone, now_seconds)
    return ended is None or started > ended


def last_seconds(cron: str, zone: ZoneInfo, now_seconds: float) -> float | None:
    """When a cron expression came last, at `now_seconds` at the latest; None if it did not within 50 years.

    What falls into the hour that is left out in spring comes right after it, and what falls into the hour that
    comes twice in autumn comes in the first of the two, as with cron.
    """
    # By wall clock a moment of the first of two equal hours may lie ahead: begin later, and pass over the future.
    ahead = datetime.fromtimestamp(now_seconds + _LONGEST_CLOCK_CHANGE_SECONDS, zone)
    return next(
        (at for moment in CronSim(cron, ahead, reverse=True) if (at := moment.timestamp()) <= now_seconds), None
    )


def _greatest(scheduled: Sequence[Bounds], otherwise: Bounds) -> Bounds:
    if not scheduled:
        return otherwise
    return Bounds(min=max(b.min for b in scheduled), max=max(b.max for b in scheduled))


def _greatest_budget(scheduled: Sequence[GpuBudget], otherwise: GpuBudget | None) -> GpuBudget | None:
    if not scheduled:
        return otherwise
    fewest = max((b.min for b in scheduled if b.min is not None), default=None)
    return GpuBudget(min=fewest, max=max(b.max for b in scheduled))
