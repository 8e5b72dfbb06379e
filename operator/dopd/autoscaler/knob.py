"""The one knob: how often the load may exceed what is held. What clients meet moves it.

A shortage costs late requests, and some are allowed. So the share of leads that may be missed, `miss`, moves by how
many were late against how many may be:

    ln miss += gain * (allowed - late) * seconds / lead

In the long run the mean of what is late is then what is allowed, unless a bound holds (adaptive conformal inference,
Gibbs and Candes 2021, with lateness in place of coverage). In the logarithm a surprise moves it down at once, and it
comes up again by as much in 1 / allowed calm leads.
"""

from math import exp, log

from dopd.autoscaler.tuning import Tuning

LONGEST_SECONDS = 30.0
"""What was late counts for no longer than that: of a longer gap nobody knows."""


class Knob:
    """Holds `miss`.

    Args:
        tuning: constants.
        miss: where it stood before a restart; None to begin anew.
    """

    def __init__(self, tuning: Tuning, miss: float | None = None) -> None:
        self._tuning = tuning
        self._log = self._bounded(log(max(miss, tuning.least_miss)) if miss else log(tuning.first_miss))

    @property
    def miss(self) -> float:
        """Share of the leads in which the load may exceed what is held."""
        return exp(self._log)

    def observe(self, late_share: float | None, seconds: float, allowed: float, lead_seconds: float) -> None:
        """Take in what was late.

        Args:
            late_share: of the requests of the last `seconds`; None if that is unknown, which moves nothing.
            seconds: since the last look.
            allowed: share of the requests that may be late.
            lead_seconds: until a decision takes effect.
        """
        if late_share is None:
            return
        leads = min(seconds, LONGEST_SECONDS) / lead_seconds
        self._log = self._bounded(self._log + self._tuning.gain * (allowed - late_share) * leads)

    def _bounded(self, moved: float) -> float:
        return min(log(self._tuning.most_miss), max(log(self._tuning.least_miss), moved))
