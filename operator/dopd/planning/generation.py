"""How long answers are while the load moves: those that have finished tell it wrong.

Short answers finish first. Of a load that grows, the answers that finish now are the short ones of the many that came
last and the long ones of the few that came before, so that their mean is too small; of a load that shrinks it is too
great. Where answers take a minute and the load triples within ten, the mean is a third too small.

The tokens that decode makes for each answer that finishes err the other way, where lengths vary less than exponential
ones do. Let arrivals grow as exp(g t), with g small, answers last m on average and their lengths have a coefficient of
variation c. To first order in g m, with E the true mean:

    tokens of finished answers / finished answers = E (1 - g m c^2)
    tokens made by decode      / finished answers = E (1 + g m (1 - c^2) / 2)

So the geometric mean of the two with the weight w = 2 c^2 / (1 + c^2) on the second does not depend on g. On a load
that stands still it wavers by as much as the first does alone: the variances of their logarithms over n finished
answers are both c^2 / n.
"""

import math


def generation_tokens(
    finished_requests: float, finished_tokens: float, squared_cv: float, decoded_tokens: float | None
) -> float:
    """Mean generation length of the requests that arrive, in tokens.

    Args:
        finished_requests: answers that finished in a window; above 0.
        finished_tokens: tokens of those answers.
        squared_cv: variance of their lengths over the squared mean.
        decoded_tokens: tokens that decode made in the window, for whichever answer, without the first of each, which
            prefill makes; None or 0 where nobody counts them: then the mean of the finished answers has to do.
    """
    finished = finished_tokens / finished_requests
    if not decoded_tokens:
        return finished
    # One more, as the mean of 1 / (n + 1) over a Poisson number n is what 1 / n should be in the mean.
    made = 1 + decoded_tokens / (finished_requests + 1)
    weight = min(1.0, 2 * squared_cv / (1 + squared_cv))
    return math.pow(finished, 1 - weight) * math.pow(made, weight)
