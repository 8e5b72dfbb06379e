"""Workers of one role as they are now, and what waits for them."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Workers:
    """Workers of one role as they are now, and what waits for them.

    Attributes:
        serving: get requests.
        starting: will serve; counted as supply.
        draining: finish what they run and get nothing new; one that changes its role counts as starting in the new one.
        returning: of the draining ones, those that can serve again at once.
        unschedulable: of the starting ones, those that no node has room for.
        waiting_tokens: uncached prompt tokens that wait for prefill, all workers together; None if unknown.
        waiting_tokens_growth: tokens per second by which that grows look after look; 0 if it does not.
        waiting_requests: requests that wait for a decode slot, all workers together; None if unknown.
        kv_use: share of the KV cache that is in use, mean over workers, 0 to 1; None if unknown.
    """

    serving: int
    starting: int = 0
    draining: int = 0
    returning: int = 0
    unschedulable: int = 0
    waiting_tokens: float | None = None
    waiting_tokens_growth: float = 0.0
    waiting_requests: float | None = None
    kv_use: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(
                    f"workers: {name} is {value}; expected a finite number >= 0. Pass None for what could not be "
                    "measured"
                )

    @property
    def supply(self) -> int:
        """Workers that serve or will."""
        return self.serving + self.starting
