"""The one knob: how often the load may exceed what is held. What clients meet moves it.

A shortage costs late requests, and some are allowed. So the share of leads that may be missed, `miss`, moves by how
many were late against how many may be:

    ln miss += gain * (allowed - late) * seconds / lead

In the long run the mean of what is late is then what is allowed, unless a bound holds (adaptive conformal inference,
Gibbs and Candes 2021, with lateness in place of coverage). In the logarithm a surprise moves it down at once, and it
comes up again by as much in 1 / allowed calm leads.

It begins at what may be late over what is late in a lead that is missed, which depends on the order of prompts: in
`on-time-first` a shortage makes its share late, and in the order of arrival everybody.
"""

from dataclasses import dataclass
from math import exp, log

from dopd.autoscaler.tuning import Tuning
from dopd.planning.policy import Policy

LONGEST_SECONDS = 30.0
"""What was late counts for no longer than that: of a longer gap nobody knows."""


@dataclass(frozen=True)
class _Start:
    """What the first share follows from."""

    allowed: float
    on_time_first: bool

    def log_miss(self, tuning: Tuning) -> float:
        """Its logarithm."""
        late = tuning.late_when_missed if self.on_time_first else tuning.late_when_missed_fcfs
        return log(self.allowed / late)


class Knob:
    """Holds `miss`.

    Args:
        tuning: constants.
        miss: where it stood before a restart; None to begin anew.
    """

    def __init__(self, tuning: Tuning, miss: float | None = None) -> None:
        self._tuning, self._restored = tuning, miss
        self._start: _Start | None = None
        self._log = 0.0

    @property
    def miss(self) -> float | None:
        """Share of the leads in which the load may exceed what is held; None before the first look."""
        return exp(self._log) if self._start else self._restored

    def observe(self, policy: Policy, late_share: float | None, seconds: float, lead_seconds: float) -> float:
        """Take in what was late; returns `miss`.

        Args:
            policy: how many may be late, and the order of prompts; another one begins elsewhere, as far from there.
            late_share: of the requests of the last `seconds`; None if that is unknown, which moves nothing.
            seconds: since the last look; 0 at the first.
            lead_seconds: until a decision takes effect.
        """
        tuning, allowed = self._tuning, 1 - policy.objectives.attainment
        start = _Start(allowed, policy.on_time_first)
        if self._start is None:
            self._log = log(self._restored) if self._restored else start.log_miss(tuning)
        else:
            self._log += start.log_miss(tuning) - self._start.log_miss(tuning)
        self._start = start
        if late_share is not None:
            self._log += tuning.gain * (allowed - late_share) * min(seconds, LONGEST_SECONDS) / lead_seconds
        self._log = min(log(tuning.most_miss), max(log(tuning.least_miss), self._log))
        return exp(self._log)
