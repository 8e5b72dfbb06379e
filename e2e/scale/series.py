"""The Prometheus that is played: what it answers to the operator's queries. Pure.

Every resource has the same steady load, one request a second, and has had it for as long as anybody asks. An answer has
the series that a real one would have: one for each resource, for each bucket, or for each pod.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dopd.telemetry import queries
from dopd.telemetry.clock import CLOCK_QUERY

Json = dict[str, Any]
RATE = 1.0
PROMPT_TOKENS, ANSWER_TOKENS = 1000.0, 200.0
SCRAPE_SECONDS = 5.0
BOUNDS = {"0.05": 0.996, "1": 0.997, "100": 0.997, "300": 0.998, "1000": 0.999, "2000": 1.0, "+Inf": 1.0}
"""Share of the requests up to a bound, in whatever unit: nearly all are on time, as they are at rest."""
_BY = re.compile(r"by \(([^)]*)\)")
_PART = re.compile(rf'"{queries.PART}", "(\w+)"')
_MEANS = {queries.INPUT: PROMPT_TOKENS, queries.UNCACHED_SHARE: 0.5, queries.OUTPUT: ANSWER_TOKENS}


@dataclass(frozen=True)
class Played:
    """The resources that there are.

    Attributes:
        resources: namespace and name of each.
        workers: of each, by role.
    """

    resources: Sequence[tuple[str, str]]
    workers: int

    def answer(self, query: str, times: Sequence[float], *, ranged: bool = False) -> Json:
        """What `/api/v1/query` answers for one time, or `/api/v1/query_range` for several."""
        kind, field = ("matrix", "values") if ranged else ("vector", "value")
        result = []
        for labels, value in self._series(query):
            points = [[at, f"{at:.3f}" if value is None else f"{value:g}"] for at in times]
            result.append({"metric": labels, field: points if ranged else points[0]})
        return {"status": "success", "data": {"resultType": kind, "result": result}}

    def _series(self, query: str) -> Iterator[tuple[dict[str, str], float | None]]:
        """Labels and value of each series; None for the time itself."""
        if query == CLOCK_QUERY:
            yield {}, None
            return
        if "dopd:" in query or "offset" in query or "cluster_name" in query:
            yield from self._of_gateways(query)
            return
        by = found[1] if (found := _BY.search(query)) else ""
        value = _value(query)
        parts = _PART.findall(query)
        for namespace, name in self.resources:
            labels = {"namespace": namespace, queries.INSTANCE: name}
            if parts:
                for part in parts:
                    if "le" in by.split(", "):
                        yield from (({**labels, "le": b, queries.PART: part}, share) for b, share in BOUNDS.items())
                    else:
                        yield {**labels, queries.PART: part}, _MEANS[part]
            elif "le" in by.split(", "):
                yield from (({**labels, "le": bound}, RATE * share) for bound, share in BOUNDS.items())
            elif queries.POOL in by:
                for pool, count in (("router", 1), ("prefill", self.workers), ("decode", self.workers)):
                    pods = range(count) if "instance," in by else (None,)
                    for pod in pods:
                        of_pod = {} if pod is None else {"instance": f"{namespace}.{name}.{pool}.{pod}:1"}
                        yield {**labels, queries.POOL: pool, **of_pod}, value
            else:
                yield labels, value

    def _of_gateways(self, query: str) -> Iterator[tuple[dict[str, str], float]]:
        """Requests that a gateway counts; nothing is recorded, nothing is new, and no series tells its cluster."""
        if query.startswith(f"sum by ({queries.BY}) ("):
            for namespace, name in self.resources:
                yield {"namespace": namespace, queries.INSTANCE: name}, RATE


def times_between(start: str, end: str, step: str) -> list[float]:
    """The times of a range query."""
    width = float(step.removesuffix("ms")) / 1000 if step.endswith("ms") else float(step.removesuffix("s"))
    return [float(start) + width * index for index in range(int((float(end) - float(start)) / width) + 1)]


def _value(query: str) -> float | None:
    if "timestamp(" in query:
        return None
    if "count_over_time(up" in query and "== 1" not in query:
        return 180.0 / SCRAPE_SECONDS
    if "prompt_tokens_histogram_sum" in query and "uncached" not in query:
        return RATE * PROMPT_TOKENS
    if "uncached_prompt" in query:
        return RATE * PROMPT_TOKENS / 2
    if "generation_tokens_histogram_sum" in query or "realtime_tokens" in query:
        return RATE * ANSWER_TOKENS
    return 1.0
