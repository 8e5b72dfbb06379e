"""Events that a user knows of and the history does not: a launch, a sale, a holiday."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, field_validator

from dopd.api.base import Duration, Model, Rule, Within
from dopd.api.limits import Cron, ListedName, TimeZone, coming, known_zone


class ForecastEvent(Model):
    """A time at which the load will be another than it was at such times before."""

    rules = (Rule("has(self.at) != has(self.start)", "needs either at (once) or start (again and again); set one"),)

    name: ListedName
    """What decisions call it; unique."""
    time_zone: TimeZone
    """Time zone of at and start, by its IANA name; its changes to summer time and back are followed."""
    at: (
        Annotated[
            str,
            Field(
                pattern=r"^2[0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]$",
                max_length=16,
                json_schema_extra={"expected": "a day and a time such as 2026-12-24T18:00"},
            ),
        ]
        | None
    ) = None
    """When it begins, if it comes once, such as 2026-12-24T18:00; if absent, start says it."""
    start: Cron | None = None
    """When it begins, each time, such as 0 20 * * 5; if absent, at says it."""
    duration: Annotated[Duration, Within("1m", "31d")]
    """How long it lasts."""
    factor: Annotated[float, Field(ge=0.05, le=100)]
    """Load meanwhile over what it would be otherwise: 3 for three times as much, 0.5 for a half. Where several events
    hold at once, the greatest factor counts."""

    @field_validator("time_zone")
    @classmethod
    def _exists(cls, name: str) -> str:
        return known_zone(name)

    @field_validator("start")
    @classmethod
    def _fires(cls, cron: str | None) -> str | None:
        return None if cron is None else coming(cron)

    @field_validator("at")
    @classmethod
    def _is_a_time(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                datetime.fromisoformat(text)
            except ValueError as error:
                raise ValueError(
                    f"{text} is no time ({error}); expected a day and a time such as 2026-12-24T18:00"
                ) from error
        return text
