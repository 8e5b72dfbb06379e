"""What is expected of a role."""

from dataclasses import dataclass

MOST_REQUESTS_PER_SECOND = 1e9
"""Requests of hardly any work stand for a load of others: in what number is no matter, as long as it is one."""


@dataclass(frozen=True)
class Outlook:
    """What is expected of one role until a decision of now takes effect. Loads are in busy workers.

    Attributes:
        lead_seconds: how long that is.
        now: the load of now.
        peak: the greatest load by then, at the quantile that is planned for.
        per_request: busy workers that one request a second of the lengths of now makes.
        expected: what the forecaster expects for then; None while none is trusted.
        promised: what was expected for now one lead ago; None where nothing was.
        deviation: standard deviation of `now`, as it was told by few requests.
        leader: the voice that raises the peak most above the load of now (`dopd.autoscaler.peak`).
        foreseen: the part of the peak that is known from the time alone, whatever the load is now.
    """

    lead_seconds: float
    now: float
    peak: float
    per_request: float
    expected: float | None = None
    promised: float | None = None
    deviation: float = 0.0
    leader: str = "newest"
    foreseen: float = 0.0

    def rate(self, load: float | None) -> float | None:
        """A load as requests a second of the lengths of now; None if it is not known."""
        if load is None:
            return None
        return min(load / self.per_request, MOST_REQUESTS_PER_SECOND) if self.per_request else 0.0

    @property
    def requests_per_second(self) -> float:
        """The peak, as requests of the lengths of now."""
        return self.rate(self.peak) or 0.0

    @property
    def foreseen_requests(self) -> float:
        """Requests within the lead that are known from the time alone, at the quantile that is planned for."""
        return (self.rate(self.foreseen) or 0.0) * self.lead_seconds
