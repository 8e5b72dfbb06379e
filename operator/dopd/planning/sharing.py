"""One pool of GPUs for several resources: minima first, then by priority, then where the next GPU serves most.

Between resources of equal priority the next worker goes to the one of which the smallest share of its need is
served, to the role that holds it back. That is the greatest gain in served requests per GPU where needs are alike,
and it starves nobody. The sum never exceeds the pool, and nobody gets more than it wants.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dopd.planning.bounds import NoRoomError, Pair


@dataclass(frozen=True)
class Claim:
    """What one resource wants of the pool.

    Attributes:
        name: of the resource.
        priority: greater ones are served first.
        wanted: workers that its load needs, within its own bounds.
        minimum: workers that it must have.
        gpus: GPUs of one prefill and of one decode worker.
    """

    name: str
    priority: int
    wanted: Pair
    minimum: Pair
    gpus: Pair = (1, 1)

    def cost(self, pair: Pair) -> int:
        """GPUs of so many workers."""
        return pair[0] * self.gpus[0] + pair[1] * self.gpus[1]

    def served(self, pair: Pair) -> float:
        """Share of the need that so many workers serve."""
        return min(have / want if want else 1.0 for have, want in zip(pair, self.wanted, strict=True))


def share(claims: Sequence[Claim], pool_gpus: int) -> dict[str, Pair]:
    """Divide the pool.

    Raises:
        NoRoomError: the minima alone need more GPUs than the pool has.
    """
    given = {claim.name: claim.minimum for claim in claims}
    left = pool_gpus - sum(claim.cost(claim.minimum) for claim in claims)
    if left < 0:
        raise NoRoomError(
            f"the pool has {pool_gpus} GPUs and the minima of {', '.join(c.name for c in claims)} need "
            f"{pool_gpus - left}; enlarge the pool or lower a min"
        )
    for priority in sorted({claim.priority for claim in claims}, reverse=True):
        open_claims = [claim for claim in claims if claim.priority == priority]
        while open_claims:
            claim = min(open_claims, key=lambda c: (c.served(given[c.name]), c.name))
            grown = _next(claim, given[claim.name], left)
            if grown is None:
                open_claims.remove(claim)
                continue
            left -= claim.cost(grown) - claim.cost(given[claim.name])
            given[claim.name] = grown
    return given


def _next(claim: Claim, pair: Pair, left: int) -> Pair | None:
    """One worker more, of the role that serves the smaller share; None if it wants none that fits."""
    missing = [role for role in (0, 1) if pair[role] < claim.wanted[role] and claim.gpus[role] <= left]
    if not missing:
        return None
    role = min(missing, key=lambda r: pair[r] / claim.wanted[r])
    return (pair[0] + 1, pair[1]) if role == 0 else (pair[0], pair[1] + 1)
