"""How many requests each gateway has counted, from its own `/metrics`: what tells of the first request after a silence.

Prometheus tells of it a scrape and a rate's window later, half a minute and more; the gateway at once. It counts what
it refuses for want of workers, too (SMG 1.13.0), and neither probes nor lists of models.

The door for it: some lines of one counter, or not known.
"""

import math
from collections.abc import Sequence
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from dopd.api.names import ROUTER_METRICS_PORT
from dopd.autoscaler.idle import Counts
from dopd.cluster.podhttp import PodHttp, PodHttpError
from dopd.telemetry.doors import BadAnswer, printable
from dopd.telemetry.patience import LOOK_SECONDS, answers_within

COUNTER = "smg_router_requests_total"
MOST_LINES, LONGEST_LINE = 1000, 1000
"""Of the counter: a line for each model, endpoint and kind of answer that was asked for."""


def parse_requests(text: str) -> float:
    """Requests that a gateway has counted since it started; 0 before the first, when it has no such line.

    Raises:
        BadAnswer: it is not what Prometheus reads, no number, or more than a counter has to say.
    """
    lines = [line for line in text.split("\n") if line.startswith((f"{COUNTER}{{", f"{COUNTER} "))]
    if len(lines) > MOST_LINES or any(len(line) > LONGEST_LINE for line in lines):
        raise BadAnswer(f"{COUNTER}: more than {MOST_LINES} lines, or longer ones than {LONGEST_LINE} characters")
    try:
        families = list(text_string_to_metric_families("\n".join([*lines, ""])))
    except Exception as error:  # the parser's own errors are of several kinds, by what it stumbles over
        raise BadAnswer(f"{COUNTER}: {type(error).__name__} {printable(str(error))}") from None
    total = sum(sample.value for family in families for sample in family.samples)
    if not (math.isfinite(total) and total >= 0):
        raise BadAnswer(f"{COUNTER}: {total}, expected a finite number >= 0")
    return total


async def read_requests(http: PodHttp, pods: Sequence[dict[str, Any]]) -> Counts:
    """Ask every gateway pod that has an address; by name, None of one that did not answer."""

    async def one(pod: dict[str, Any]) -> float | None:
        try:
            return parse_requests(await http.get_text(pod, ROUTER_METRICS_PORT, "/metrics"))
        except (PodHttpError, BadAnswer):
            return None  # while it does not tell, nobody goes to sleep

    asked = [pod for pod in pods if pod.get("status", {}).get("podIP")]
    counts = await answers_within(LOOK_SECONDS, one, asked)
    return {pod["metadata"]["name"]: count for pod, count in zip(asked, counts, strict=True)}
