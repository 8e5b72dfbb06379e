"""Limits on the number of workers: of a role, of both together, and those that hold at certain times only.

Patterns and CEL refuse what can be told from the text. What they let through (a cron expression whose lists hold no day
that exists, a time zone that is known to the API server alone) is told when the resource is read: condition Ready is
then false with reason InvalidSpec and names the field.
"""

from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator

from dopd.api.base import Duration, Model, Rule, Within, cel


class Bounds(Model):
    """Smallest and largest number of workers of a role."""

    rules = (Rule("self.min <= self.max", "min must not exceed max; lower min or raise max", ".min"),)

    min: Annotated[int, Field(ge=1, le=1000)]
    """Fewest workers."""
    max: Annotated[int, Field(ge=1, le=1000)]
    """Most workers."""
    spare: Annotated[int, Field(ge=0, le=100)] = 0
    """Workers beside those that the load needs, so that the objectives hold while as many fail or are moved.
    They serve like the others, and count in max and in gpuBudget. Of no effect in mode External."""


class GpuBudget(Model):
    """GPUs of both roles together."""

    rules = (Rule("!has(self.min) || self.min <= self.max", "min must not exceed max; lower min or raise max", ".min"),)

    min: Annotated[int, Field(ge=1, le=100000)] | None = None
    """Fewest GPUs: what the load does not need is filled up with workers, in the proportion in which it is needed.
    Equal to max, only the ratio of prefill to decode is decided. No lower limit if absent."""
    max: Annotated[int, Field(ge=1, le=100000)]
    """Most GPUs, starting and draining workers included."""


def _cron_field(number: str, *, last: str = "", names: str = "") -> str:
    """One field of a cron expression: numbers (or names), ranges, steps, lists."""
    one = f"({number}|(?i:{names}))" if names else f"({number})"
    item = rf"(\*|{one}(-{one})?)(/[1-9][0-9]?)?" + (f"|{last}" if last else "")
    return f"({item})(,({item}))*"


_CRON_FIELDS = (
    _cron_field("[0-5]?[0-9]"),
    _cron_field("[01]?[0-9]|2[0-3]"),
    _cron_field("0?[1-9]|[12][0-9]|3[01]", last="L"),
    _cron_field("0?[1-9]|1[0-2]", names="jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"),
    _cron_field("[0-7]", names="sun|mon|tue|wed|thu|fri|sat"),
)
_NO_SUCH_DAY = (
    r"^([^ ]+ +){2}((30|31)([,-](30|31))* +(0?2|[fF][eE][bB])|31 +(0?[469]|11|[aA][pP][rR]|[jJ][uU][nN]|[sS][eE][pP]"
    r"|[nN][oO][vV])) +[*]$"
)
Cron = Annotated[
    str,
    Field(
        pattern=f"^{' +'.join(_CRON_FIELDS)}$",
        max_length=100,
        json_schema_extra={
            "expected": "five cron fields (minute, hour, day of month, month, day of week), such as 0 7 * * 1-5",
            "x-kubernetes-validations": cel(
                [
                    Rule(
                        f"!self.matches('{_NO_SUCH_DAY}')",
                        "never comes: no such month has a day of that number; correct day of month or month",
                    )
                ]
            ),
        },
    ),
]
"""When something happens, as cron and CronJob write it."""

TimeZone = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$",
        max_length=64,
        json_schema_extra={
            "expected": "the IANA name of a time zone, such as Europe/Berlin or Etc/UTC",
            "x-kubernetes-validations": cel(
                [
                    # For an unknown name the conversion fails; the API server then says so before this message.
                    Rule(
                        "self != 'Local' && timestamp('2000-01-01T00:00:00Z').getFullYear(self) > 0",
                        "must be the IANA name of a time zone that exists, such as Europe/Berlin or Etc/UTC",
                    )
                ]
            ),
        },
    ),
]


ListedName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        max_length=63,
        json_schema_extra={"expected": "lower-case letters, digits and '-', such as office-hours"},
    ),
]
"""Name of an item of a list, which decisions call it by."""


def known_zone(name: str) -> str:
    """The name of a time zone.

    Raises:
        ValueError: there is none of that name here.
    """
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(
            f"{name} is no time zone that is known here; expected an IANA name, such as Europe/Berlin"
        ) from error
    return name


def coming(cron: str) -> str:
    """A cron expression.

    Raises:
        ValueError: it never comes.
    """
    try:
        next(CronSim(cron, datetime(2000, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration) as error:
        why = f"{error}".lower() or "no such day"
        raise ValueError(f"{cron} never comes ({why}); expected five cron fields, such as 0 7 * * 1-5") from error
    return cron


class Schedule(Model):
    """Limits that hold at certain times in place of those of spec.scaling."""

    rules = (
        Rule("has(self.end) != has(self.duration)", "needs either end or duration; set one of them"),
        Rule("!has(self.end) || self.end != self.start", "must differ from start; correct one of them", ".end"),
        Rule(
            "has(self.prefill) || has(self.decode) || has(self.gpuBudget)",
            "limits nothing; set prefill, decode or gpuBudget",
        ),
    )

    name: ListedName
    """What decisions call it; unique."""
    time_zone: TimeZone
    """Time zone of start and end, by its IANA name; its changes to summer time and back are followed."""
    start: Cron
    """When it begins to hold. Workers that a greater min needs start before, by their lead time, and serve then."""
    end: Cron | None = None
    """When it ceases to hold; if absent, duration says it."""
    duration: Annotated[Duration, Within("1m", "366d")] | None = None
    """How long it holds from each start; if absent, end says when it ceases."""
    prefill: Bounds | None = None
    """Bounds of the prefill workers meanwhile; those of spec.scaling if absent."""
    decode: Bounds | None = None
    """Bounds of the decode workers meanwhile; those of spec.scaling if absent."""
    gpu_budget: GpuBudget | None = None
    """GPUs of both roles together meanwhile; those of spec.scaling if absent."""

    @field_validator("time_zone")
    @classmethod
    def _exists(cls, name: str) -> str:
        return known_zone(name)

    @field_validator("start", "end")
    @classmethod
    def _fires(cls, cron: str | None) -> str | None:
        return None if cron is None else coming(cron)
