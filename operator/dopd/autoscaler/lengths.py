"""How long requests are, as a slow mean: what arrives in a minute tells it badly.

Work is measured at each sample, with the lengths of then. What the slow mean gives is the shape of a request (how its
work is spread, how many fit into a decode worker), which sizing needs and a window of a few hundred requests blurs: the
second moment of long prompts most of all.
"""

from math import exp

from dopd.planning.demand import Demand


class SlowLengths:
    """A fading mean over requests.

    Args:
        seconds: after so long a request counts 1/e.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._at_seconds: float | None = None
        self._requests = 0.0
        self._sums = [0.0] * 5

    def add(self, at_seconds: float, seconds: float, demand: Demand) -> None:
        """Take in what arrived.

        Args:
            at_seconds: end of the time that is told of; no earlier than the last.
            seconds: how long that is.
            demand: what arrived in it.
        """
        if not demand.input_tokens or not demand.requests_per_second:
            return
        faded = 1.0 if self._at_seconds is None else exp(-max(0.0, at_seconds - self._at_seconds) / self._seconds)
        self._at_seconds = at_seconds
        second = demand.output_tokens_second_moment
        requests = demand.requests_per_second * seconds
        told = (
            demand.input_tokens,
            demand.input_tokens_second_moment,
            demand.output_tokens,
            2 * demand.output_tokens**2 if second is None else second,
            demand.input_tokens * demand.uncached_share,
        )
        self._requests = faded * self._requests + requests
        self._sums = [faded * before + requests * value for before, value in zip(self._sums, told, strict=True)]

    def at(self, requests_per_second: float) -> Demand:
        """Requests of these lengths; of none at all before the first was seen, or where they round to nothing."""
        inputs, inputs_squared, outputs, outputs_squared, uncached = (
            value / self._requests if self._requests else 0.0 for value in self._sums
        )
        if not inputs:
            return Demand.none().at(requests_per_second)
        share = min(1.0, uncached / inputs)
        return Demand(requests_per_second, inputs, inputs_squared, outputs, share, outputs_squared)
