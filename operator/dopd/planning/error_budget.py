"""What the planner has learnt it may do without: the error budget.

An attainment of 99 % lets one request in a hundred be late. Whoever plans so that no more are late at any moment spends
hardly any of them: workers are whole, and on a calm day nothing happens that the margin is for. What is not spent is
saved, as an error budget (Beyer et al., Site Reliability Engineering, chapter 3), and the more there is of it, the less
margin is kept: it pays for the surprise that the margin would have met.

Each surprise costs up to one lead time in which every request is late. So the budget is counted in surprises that it
could pay for, and a resource whose workers start slowly needs longer to earn it, as does one with a stricter objective.
Time is counted, not requests: nobody remembers how many there were. A debt is paid back by more margin.
"""

SURPRISES = 2.75
"""The budget is full when it could pay for so many lead times in which every request is late."""
MOST_EASE = 4.0
"""With a full budget, so many times the objective's share of late requests may come on top of it at one moment."""
MOST_LATE = 0.05
"""But no more than this share, if the objective itself allows less: beyond it the chart's alert fires."""


def earned(budget: float, late_share: float | None, allowed: float, seconds: float, lead_seconds: float) -> float:
    """The error budget after a look at what was late; unchanged if that is unknown.

    Args:
        budget: before, from -1 (a debt) to 1 (full).
        late_share: share of the requests that were late since the last look.
        allowed: share that the objective allows.
        seconds: since the last look.
        lead_seconds: how long a decision takes to have an effect.
    """
    if late_share is None:
        return budget
    return min(1.0, max(-1.0, budget + (allowed - late_share) * seconds / (SURPRISES * lead_seconds)))


def trust(budget: float) -> float:
    """How much of the margin can be left out, up to 1, or, negative, how much has to be added, down to -1.

    The square: a budget or a debt that is small is there by chance, as the next surprise may take it all.
    """
    return budget * abs(budget)


def allowed_late(allowed: float, trusted: float) -> float:
    """Share of the requests that may be late at one moment.

    Args:
        allowed: share that the objective allows in the long run.
        trusted: see `trust`; a debt allows what the objective does.
    """
    return max(allowed, min(MOST_LATE, allowed * (1 + MOST_EASE * trusted)))
