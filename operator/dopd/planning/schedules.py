"""Which limits hold at a time: those of spec.scaling, in whose place those of the schedules that are active come.

A schedule is active from each start until the end or the duration after it. Where several are active, the greatest
min and the greatest max count, field by field: nobody's reservation is undercut, and a min never exceeds its max.
Only the spec and the time go in, so the answer for any time can be had at any other.

A minimum must serve when it begins. So what a decision has to heed is not the limits of now but the greatest minimum
until it takes effect: `limits_ahead`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim

from dopd.api.base import seconds
from dopd.api.inference import Scaling
from dopd.api.limits import Bounds, GpuBudget, Schedule
from dopd.api.names import Role

_LONGEST_CLOCK_CHANGE_SECONDS = 2 * 3600
_NO_LIMIT_GPUS = 100_000
"""As many as a budget may have."""
MOST_TIMES = 2_000
"""Of a cron expression that are looked at: a month of half hours."""
MOST_CHANGES = 64
"""Of limits within a lead that are looked at, the soonest; the others are looked at later."""


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


def limits_ahead(scaling: Scaling, now_seconds: float, lead_seconds: Mapping[Role, float]) -> Limits:
    """The limits that a decision of now has to heed: those of now, with each minimum that begins within its lead.

    Where such a minimum is above a role's maximum of now, workers are started beyond that: they are to serve when the
    one ends and the other begins. GPUs that a budget of now does not give may be somebody else's until then, so its
    maximum stands.

    Args:
        scaling: limits and schedules.
        now_seconds: seconds since the epoch.
        lead_seconds: until a decision of now takes effect, by role.
    """
    limits = limits_at(scaling, now_seconds)
    changes = {
        at for schedule in scaling.schedules for at in _changes(schedule, now_seconds, max(lead_seconds.values()))
    }
    for at in sorted(changes)[:MOST_CHANGES]:
        then = limits_at(scaling, at)
        prefill, decode = (
            _raised(now, later) if at <= now_seconds + lead_seconds[role] else now
            for role, now, later in (
                (Role.PREFILL, limits.prefill, then.prefill),
                (Role.DECODE, limits.decode, then.decode),
            )
        )
        budget = _raised_budget(limits.gpu_budget, then.gpu_budget)
        if (prefill, decode, budget) != (limits.prefill, limits.decode, limits.gpu_budget):
            names = tuple(dict.fromkeys((*limits.schedules, *then.schedules)))
            limits = replace(limits, prefill=prefill, decode=decode, gpu_budget=budget, schedules=names)
    return limits


def _raised(now: Bounds, later: Bounds) -> Bounds:
    return now if later.min <= now.min else now.model_copy(update={"min": later.min, "max": max(now.max, later.min)})


def _raised_budget(now: GpuBudget | None, later: GpuBudget | None) -> GpuBudget | None:
    fewest = later.min if later and later.min else 0
    if fewest <= (now.min or 0 if now else 0):
        return now
    most = now.max if now else _NO_LIMIT_GPUS
    return GpuBudget(min=min(fewest, most), max=most)


def _changes(schedule: Schedule, now_seconds: float, lead_seconds: float) -> Iterator[float]:
    """When a schedule begins or ends after now, within the lead."""
    zone, until = ZoneInfo(schedule.time_zone), now_seconds + lead_seconds
    yield from times_between(schedule.start, zone, now_seconds, until)
    if schedule.end is not None:
        yield from times_between(schedule.end, zone, now_seconds, until)
    if schedule.duration is not None:
        length = seconds(schedule.duration)
        yield from (at + length for at in times_between(schedule.start, zone, now_seconds - length, until - length))


def reserved_ahead(scaling: Scaling, now_seconds: float, lead_seconds: float) -> bool:
    """Whether a schedule asks for workers of its own, now or at any time within the lead.

    One that only lowers what the GPUs may be reserves nothing.
    """
    return any(
        is_active(schedule, now_seconds)
        or times_between(schedule.start, ZoneInfo(schedule.time_zone), now_seconds, now_seconds + lead_seconds)
        for schedule in scaling.schedules
        if schedule.prefill or schedule.decode or (schedule.gpu_budget and schedule.gpu_budget.min)
    )


def times_between(cron: str, zone: ZoneInfo, after_seconds: float, until_seconds: float) -> list[float]:
    """When a cron expression comes after the one time and until the other, ascending; see `last_seconds`."""
    behind = datetime.fromtimestamp(after_seconds - _LONGEST_CLOCK_CHANGE_SECONDS, zone)
    found: list[float] = []
    for moment in islice(CronSim(cron, behind), MOST_TIMES):
        at = moment.timestamp()
        if at > until_seconds:
            break
        if at > after_seconds:
            found.append(at)
    return found


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
    return Bounds(
        min=max(b.min for b in scheduled),
        max=max(b.max for b in scheduled),
        spare=max([otherwise.spare, *(b.spare for b in scheduled)]),
    )


def _greatest_budget(scheduled: Sequence[GpuBudget], otherwise: GpuBudget | None) -> GpuBudget | None:
    if not scheduled:
        return otherwise
    fewest = max((b.min for b in scheduled if b.min is not None), default=None)
    return GpuBudget(min=fewest, max=max(b.max for b in scheduled))
