"""In which order prefill workers compute the prompts that wait for them.

The order itself is made in the engine, by dopd's plugin for SGLang, from settings that reach it in a file. So all
fields but one act within about a minute and restart nothing. SGLang reads its own policy, which is the best order where
an image has no plugin, once as it starts: to and from EngineDefault the prefill workers are replaced.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from dopd.api.base import Duration, Model, Within


class SchedulingPolicy(StrEnum):
    """What goes first."""

    ON_TIME_FIRST = "OnTimeFirst"
    SHORTEST_FIRST = "ShortestFirst"
    ENGINE_DEFAULT = "EngineDefault"


class LatePrompts(StrEnum):
    """What becomes of prompts that can not be on time any more."""

    SERVE = "Serve"
    REFUSE = "Refuse"


class Batch(Model):
    """Requests without a deadline, served in the time and the slots that the others leave.

    A client marks each with priority -1 in its body and with the header `X-SMG-Priority: bulk`.
    """

    slot_share: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Share of the request slots of all workers (their --max-running-requests) that batch requests may hold at a time;
    others wait at the gateway. More fills more of the gaps; each that runs makes the steps of the answers beside it a
    little longer."""
    max_wait: Annotated[Duration, Within("1m", "7d")] | None = None
    """A batch prompt that has waited for so long at a prefill worker is served as one that is late, and so gets the
    share of the late. If absent, it waits as long as others keep the worker busy."""
    queue_size: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Batch requests that may wait at each gateway pod; more are refused with status 429 and Retry-After."""
    queue_timeout: Annotated[Duration, Within("1s", "7d")] = "1h"
    """A batch request that has waited for so long at the gateway is refused with status 503 and Retry-After."""


class Scheduling(Model):
    """In which order prefill workers compute the prompts that wait for them."""

    policy: SchedulingPolicy = SchedulingPolicy.ON_TIME_FIRST
    """OnTimeFirst: as many prompts as possible meet slo.ttftSeconds, and of those the short ones wait least.
    ShortestFirst: always the least work first; long prompts wait longest. EngineDefault: off, the engine's own order
    (first come, first served, in SGLang, unless args say otherwise); a change to or from it replaces the prefill
    workers, no other change of spec.scheduling does. Condition SchedulingActive tells what holds."""
    late_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """With OnTimeFirst: share of the prefill time that prompts which can not be on time any more may take from others,
    as far as that makes no other late; a fifth of it they get in any case. Lower: the P90 of all falls, and the longest
    prompts lose more in a shortage. Higher: the reverse."""
    late_prompts: LatePrompts = LatePrompts.SERVE
    """Prompts that can not be on time any more. Serve: late. Refuse: they end early, and the time goes to others. The
    gateway tries again unless router.args holds --disable-retries; then a whole answer is status 503, and a stream ends
    with an error in it."""
    most_unfinished: Annotated[int, Field(ge=1, le=8)] = 3
    """Prompts of which a prefill worker may have computed a part at a time. More let short prompts pass more long ones;
    each holds KV cache until it is done."""
    batch: Batch | None = None
    """Tell requests without a deadline apart, and serve them behind all others; if absent, none is told apart. To and
    from absent, decode workers and gateways are replaced."""
