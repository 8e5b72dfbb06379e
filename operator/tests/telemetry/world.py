"""Samples of resources as gateways and engines would have told them, for a real Prometheus."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from dopd.telemetry import queries

from .real_prometheus import Series

RATE = 10.0
PROMPT_TOKENS, ANSWER_TOKENS = 1000.0, 200.0

Count = Callable[[float], float]
"""Value of a counter at a time, in seconds before now (negative)."""


def steady(rate: float) -> Count:
    """A counter that has grown at this rate for long."""
    return lambda at: rate * (at + 100_000.0)


METRICS: dict[str, dict[tuple[str, str], float]] = {
    "router": {("smg_router_requests_total", ""): 1.0},
    "prefill": {
        ("sglang:prompt_tokens_histogram_count", ""): 1.0,
        ("sglang:prompt_tokens_histogram_sum", ""): PROMPT_TOKENS,
        ("sglang:prompt_tokens_histogram_bucket", "500"): 0.0,
        ("sglang:prompt_tokens_histogram_bucket", "1500"): 1.0,
        ("sglang:prompt_tokens_histogram_bucket", "+Inf"): 1.0,
        ("sglang:uncached_prompt_tokens_histogram_sum", ""): PROMPT_TOKENS / 2,
    },
    "decode": {
        ("sglang:generation_tokens_histogram_count", ""): 1.0,
        ("sglang:generation_tokens_histogram_sum", ""): ANSWER_TOKENS,
        ("sglang:generation_tokens_histogram_bucket", "1"): 0.0,
        ("sglang:generation_tokens_histogram_bucket", "400"): 1.0,
        ("sglang:generation_tokens_histogram_bucket", "+Inf"): 1.0,
        ("sglang:time_to_first_token_seconds_bucket", "1"): 0.9,
        ("sglang:time_to_first_token_seconds_bucket", "+Inf"): 1.0,
        ("sglang:time_to_first_token_seconds_count", ""): 1.0,
        ("sglang:request_time_per_output_token_seconds_bucket", "0.05"): 1.0,
        ("sglang:request_time_per_output_token_seconds_bucket", "+Inf"): 1.0,
    },
}
"""Metric and bucket of each pool, and by how much one request moves it."""


@dataclass
class Resource:
    """One resource and how it is scraped.

    Attributes:
        name: in namespace ns.
        interval: between scrapes, seconds.
        newest: seconds before now of the newest scrape that has arrived.
        length: seconds of samples.
        rate: requests per second.
        without: metrics whose name begins like this are dropped.
        counters: in place of a steady one, by metric.
        labels: more of them.
        streamed: label is_streaming of what has one; "" for an engine that does not tell.
    """

    name: str
    interval: float = 5.0
    newest: float = 0.0
    length: float = 900.0
    rate: float = RATE
    without: tuple[str, ...] = ()
    counters: dict[str, Count] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    streamed: str = ""

    def series(self, now_seconds: float) -> Iterator[Series]:
        """All its series."""
        times = [-self.newest - self.interval * i for i in range(int(self.length / self.interval) + 1)][::-1]
        for pool, metrics in METRICS.items():
            carried = {
                "namespace": "ns",
                "pod": f"{self.name}-{pool}-abc",
                "instance": f"10.0.0.{len(pool)}:1",
                queries.INSTANCE: self.name,
                queries.POOL: pool,
            } | self.labels
            yield "up", carried, [(now_seconds + at, 1.0) for at in times]
            for (metric, bound), share in metrics.items():
                if self.without and metric.startswith(self.without):
                    continue
                labels = carried | ({"le": bound} if bound else {})
                if self.streamed and metric.startswith(("sglang:time_to", "sglang:request_time")):
                    labels |= {"is_streaming": self.streamed}
                count = self.counters.get(metric, steady(self.rate * share))
                samples = [(at, count(at)) for at in times]
                yield metric, labels, [(now_seconds + at, value) for at, value in samples if value >= 0]


def series(resources: Iterable[Resource], now_seconds: float) -> list[Series]:
    """All series of some resources."""
    return [one for resource in resources for one in resource.series(now_seconds)]


BATCH_RATE, BATCH_TIMES = 4.0, 5.0
"""Requests per second of a batch, and how many times as long its prompts and answers are."""


@dataclass
class WithBatch(Resource):
    """One that tells a batch apart: its gateway by class, its decode engines by priority, its prefill engines not."""

    def series(self, now_seconds: float) -> Iterator[Series]:
        """All its series."""
        for metric, labels, samples in super().series(now_seconds):
            pool = labels[queries.POOL]
            count = self.rate_of(samples)
            of_batch = count * BATCH_RATE / self.rate * (BATCH_TIMES if metric.endswith("_sum") else 1.0)
            if metric == "up":
                yield metric, labels, samples
            elif pool == "decode":
                yield metric, labels | {"priority": "0"}, samples
                yield (
                    metric,
                    labels | {"priority": "-1"},
                    [(at, of_batch * (at - now_seconds + 1e5)) for at, _ in samples],
                )
            else:
                yield metric, labels, [(at, (count + of_batch) * (at - now_seconds + 1e5)) for at, _ in samples]
            if pool == "router" and metric != "up":
                bulk = labels | {"class": "bulk"}
                came = [(at, of_batch * (at - now_seconds + 1e5)) for at, _ in samples]
                yield "smg_scheduler_admit_total", bulk | {"outcome": "admitted"}, came
                yield "smg_scheduler_inflight", bulk, [(at, 7.0) for at, _ in samples]
                yield "smg_scheduler_queue_depth", bulk, [(at, 0.0) for at, _ in samples]
            if metric == "sglang:generation_tokens_histogram_sum":  # as they are made, of whomever
                made = [(at, (count + of_batch) * (at - now_seconds + 1e5)) for at, _ in samples]
                yield "sglang:realtime_tokens_total", labels | {"mode": "decode"}, made
            if pool == "prefill" and metric.startswith("sglang:prompt"):  # decode counts prompts, too
                decode = labels | {queries.POOL: "decode", "instance": "10.0.0.6:1"}
                yield metric, decode | {"priority": "0"}, samples
                longer = [(at, of_batch * (at - now_seconds + 1e5)) for at, _ in samples]
                yield metric, decode | {"priority": "-1"}, longer

    @staticmethod
    def rate_of(samples: list[tuple[float, float]]) -> float:
        """By how much a second a counter grows."""
        (first, least), (last, most) = samples[0], samples[-1]
        return (most - least) / (last - first)
