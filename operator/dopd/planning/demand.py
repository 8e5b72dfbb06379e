"""Demand: what a model's clients ask for, in the few numbers that sizing needs.

The second moment of the prompt length stands beside its mean because prefill time is convex in length and because
queues grow with the variance of service times: a plan made from means alone is too small.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import NormalDist

_PROBABILITY_EDGES = (
    *(i / 20 for i in range(18)),
    *(0.9 + i / 100 for i in range(9)),
    *(0.99, 0.992, 0.994, 0.996, 0.998, 0.999, 1.0),
)
"""Cells of a length distribution: coarse in the body, fine where objectives such as 99 % are decided."""

_CELLS = tuple((right - left, NormalDist().inv_cdf((left + right) / 2)) for left, right in pairwise(_PROBABILITY_EDGES))


def squared_cv(mean: float, second_moment: float) -> float:
    """Variance over the squared mean; 0 where the mean is too small to be squared."""
    return max(0.0, second_moment / mean**2 - 1) if mean**2 else 0.0


@dataclass(frozen=True)
class Demand:
    """Load of one model at one time.

    Attributes:
        requests_per_second: arrival rate.
        input_tokens: mean prompt length, tokens.
        input_tokens_second_moment: mean of the squared prompt length, tokens squared.
        output_tokens: mean generation length, tokens.
        uncached_share: share of prompt tokens that the prefix cache does not hold, 0 to 1.
        output_tokens_second_moment: mean of the squared generation length; None if unknown, which is planned for as
            the exponential distribution (twice the squared mean).
    """

    requests_per_second: float
    input_tokens: float
    input_tokens_second_moment: float
    output_tokens: float
    uncached_share: float = 1.0
    output_tokens_second_moment: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(
                    f"demand: {name} is {value}; expected a finite number >= 0. A query that gave no number has "
                    "failed: pass no demand at all instead"
                )
        if self.uncached_share > 1:
            raise ValueError(f"demand: uncached_share is {self.uncached_share}; expected 0 to 1")

    @classmethod
    def none(cls) -> "Demand":
        """No traffic, which is a measurement and not a missing one."""
        return cls(0.0, 0.0, 0.0, 0.0)

    def scaled(self, factor: float) -> "Demand":
        """The same requests, `factor` times as many."""
        return self.at(self.requests_per_second * factor)

    def at(self, requests_per_second: float) -> "Demand":
        """The same requests at another rate."""
        return replace(self, requests_per_second=requests_per_second)

    @property
    def uncached_tokens(self) -> float:
        """Mean prompt tokens that prefill has to compute."""
        return self.input_tokens * self.uncached_share

    @property
    def running_context_tokens(self) -> float:
        """Mean tokens that a running request holds in the KV cache.

        A request is met while it runs with a chance proportional to its length, so the mean progress is
        E[O^2] / (2 E[O]) and not E[O] / 2.
        """
        return self.input_tokens + self.output_tokens * (1 + self.output_tokens_squared_cv) / 2

    @property
    def output_tokens_squared_cv(self) -> float:
        """Variance of the generation length over its squared mean; 1 where the second moment is unknown."""
        second = self.output_tokens_second_moment
        return 1.0 if second is None else squared_cv(self.output_tokens, second)

    def prompt_lengths(self) -> tuple[tuple[float, float], ...]:
        """Distribution of uncached prompt lengths: (probability, tokens), ascending.

        The lognormal distribution with the mean and variance of the demand: non-negative, skewed to the right as
        published traces are, and closed under the uncached share. Its far end is cut, at the 99.95 % quantile:
        prompts end at the context window, and cells up to there met the mean and the variance of the service times
        of mooncake's prompts (coefficient of variation 1.3) better than cells that keep the whole second moment,
        whose last prompt is five times as long as any in the trace.
        """
        mean = self.uncached_tokens
        if mean == 0 or self.input_tokens < 1:  # no prompt is shorter than a token: such a mean tells of no spread
            return ((1.0, mean),)
        sigma = math.sqrt(math.log1p(squared_cv(self.input_tokens, self.input_tokens_second_moment)))
        lengths = [(probability, math.exp(sigma * z)) for probability, z in _CELLS]
        scale = mean / sum(probability * length for probability, length in lengths)
        return tuple((probability, scale * length) for probability, length in lengths)
