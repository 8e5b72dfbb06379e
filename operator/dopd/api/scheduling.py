"""In which order prefill workers compute the prompts that wait for them.

The order itself is made in the engine, by dopd's plugin for SGLang, from settings that reach it in a file. So all
fields but one act within about a minute and restart nothing. SGLang reads its own policy, which is the best order where
an image has no plugin, once as it starts: to and from EngineDefault the prefill workers are replaced.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from dopd.api.base import Model


class SchedulingPolicy(StrEnum):
    """What goes first."""

    ON_TIME_FIRST = "OnTimeFirst"
    SHORTEST_FIRST = "ShortestFirst"
    ENGINE_DEFAULT = "EngineDefault"


class LatePrompts(StrEnum):
    """What becomes of prompts that can not be on time any more."""

    SERVE = "Serve"
    REFUSE = "Refuse"


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
