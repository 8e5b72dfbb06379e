"""What one signal says of one resource: a number, zero, or nothing at all. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from dopd.api.conditions import ConditionReason
from dopd.telemetry import queries
from dopd.telemetry.answers import LARGEST_RATE, buckets
from dopd.telemetry.connection import Answer
from dopd.telemetry.doors import BadAnswer
from dopd.telemetry.histograms import Histogram
from dopd.telemetry.prometheus import QueryFailed, series_by_key
from dopd.telemetry.queries import Signal
from dopd.telemetry.windows import InstanceKey

RESOURCE = ("namespace", queries.INSTANCE)
"""Labels that name a resource."""


@dataclass(frozen=True)
class Found:
    """Series of one signal.

    Attributes:
        signal: which.
        series: of one resource, as Prometheus writes them.
    """

    signal: Signal
    series: Answer

    @property
    def present(self) -> bool:
        """Whether there is any series; what is there may well be zero."""
        return bool(self.series)

    @property
    def value(self) -> float:
        """The number; 0 without series.

        Raises:
            QueryFailed: it is none.
        """
        number = float(self.series[0]["value"][1]) if self.series else 0.0
        if not abs(number) <= LARGEST_RATE:
            message = (
                f"{self.signal.name}: Prometheus answered {number}, expected a rate; look at what rewrites its series"
            )
            raise QueryFailed(ConditionReason.NOT_A_NUMBER, message)
        return max(0.0, number)

    @property
    def histogram(self) -> Histogram:
        """Cumulative rates by upper bound.

        Raises:
            QueryFailed: a bound is no number.
        """
        try:
            return buckets(self.series)
        except BadAnswer as error:
            raise QueryFailed(ConditionReason.NOT_A_NUMBER, f"{self.signal.name}: {error}") from None

    @property
    def has_buckets(self) -> bool:
        """Whether there are buckets that tell values apart: native histograms have none."""
        return any(math.isfinite(bound) for bound in self.histogram)


Shared = Mapping[Signal, Mapping[tuple[str, ...], Answer]]
"""Answers about all resources: series by signal and by key of the resource."""


def shared(answers: Mapping[Signal, Answer]) -> Shared:
    """Answers, sorted once for all resources that share them."""
    return {signal: series_by_key(answer, RESOURCE) for signal, answer in answers.items()}


def of_resource(answers: Shared, key: InstanceKey) -> dict[Signal, Found]:
    """The part of some answers that is about one resource."""
    return {signal: Found(signal, by_key.get(key, [])) for signal, by_key in answers.items()}
