"""Whether Prometheus and the operator agree on the time.

A query at the operator's time finds nothing where Prometheus' clock is behind, and finds the past where it is ahead:
the load of ten minutes ago looks like any other load. So the clock is asked for.
"""

import math
import time
from collections.abc import Callable

from dopd.api.conditions import ConditionReason
from dopd.telemetry.connection import NoAnswer, Prometheus
from dopd.telemetry.prometheus import QueryFailed

CLOCK_QUERY = "vector(time())"
LARGEST_DIFFERENCE_SECONDS = 30.0
"""Half of the default bin: beyond it, a bin's load counts for the next one."""


def difference_seconds(client: Prometheus, now_seconds: float) -> float:
    """By how much the clock of Prometheus is ahead of ours; what the answer's way may explain is taken off.

    Blocks. Raises what the client raises.

    Args:
        client: asked without a time, so that it takes its own.
        now_seconds: our time as this is called, seconds since the epoch.
    """
    asked = time.monotonic()
    # VictoriaMetrics takes the time of 30 s ago, unless told not to use its cache. Others do not know the parameter.
    answer = client.custom_query(CLOCK_QUERY, params={"nocache": "1"})
    theirs = float(answer[0]["value"][1]) if answer else math.nan
    if not math.isfinite(theirs):
        raise NoAnswer(f"no time for {CLOCK_QUERY}")
    ahead = theirs - now_seconds
    if ahead > 0:
        return max(0.0, ahead - (time.monotonic() - asked))
    return ahead


def clock_check(url: str, now_seconds: float) -> Callable[[Prometheus], None]:
    """A check that raises QueryFailed with reason ClockSkew if the clock of Prometheus is not ours.

    It blocks, raises what the client raises as well, and may run later: the time until then is accounted for.

    Args:
        url: of the Prometheus, for the message.
        now_seconds: our time as this is called, seconds since the epoch; the one that is used for queries.
    """
    called = time.monotonic()

    def check(client: Prometheus) -> None:
        ahead = difference_seconds(client, now_seconds + time.monotonic() - called)
        if abs(ahead) > LARGEST_DIFFERENCE_SECONDS:
            raise QueryFailed(ConditionReason.CLOCK_SKEW, message(url, ahead))

    return check


def message(url: str, ahead_seconds: float) -> str:
    """What to tell a person about clocks that differ."""
    side = "ahead of" if ahead_seconds > 0 else "behind"
    return (
        f"the clock of {url} is {abs(ahead_seconds):.0f} s {side} the operator's, expected at most"
        f" {LARGEST_DIFFERENCE_SECONDS:.0f} s. Set the clocks of both nodes by NTP"
    )
