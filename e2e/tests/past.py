"""A past for Prometheus: what gateway and engines of a resource would have counted, as OpenMetrics text."""

import json
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from e2e.stack import PROMETHEUS_NAMESPACE, Stack, wait_for

STEP_SECONDS = 30
EDGES = (128, 1024, 4096)
_FILE = "/data/past.txt"
_BLOCK_SAMPLES = 3600 // STEP_SECONDS
"""A block holds two hours: a look an hour misses none."""


@dataclass(frozen=True)
class Mix:
    """What arrives.

    Attributes:
        requests_per_second: arrival rate.
        input_tokens: of every prompt.
        output_tokens: of every answer.
    """

    requests_per_second: float
    input_tokens: int = 1000
    output_tokens: int = 100


def write_past(stack: Stack, pasts: dict[str, Callable[[float], Mix]], times: Sequence[int]) -> None:
    """Put the past of some resources into the cluster's Prometheus, and wait until it answers with it.

    Args:
        stack: the cluster.
        pasts: what arrived at a time (seconds since the epoch), by resource.
        times: of its samples, STEP_SECONDS apart but where nothing is known, seconds since the epoch.
    """
    text = "".join(f"{line}\n" for line in _lines(pasts, times))
    pod = ("-n", PROMETHEUS_NAMESPACE, "exec", "-i", "deploy/prometheus", "-c", "prometheus", "--")
    stack.kubectl(*pod, "sh", "-c", f"cat > {_FILE}", stdin=f"{text}# EOF\n")
    stack.kubectl(*pod, "promtool", "tsdb", "create-blocks-from", "openmetrics", _FILE, "/data")
    for at in times[::_BLOCK_SAMPLES]:  # it takes in block by block, as it finds them
        wait_for(lambda at=at: _knows(stack, pasts, at), "Prometheus has read the past", timeout_seconds=120)  # type: ignore[misc]


def _knows(stack: Stack, names: Iterable[str], at_seconds: float) -> bool:
    query = urllib.parse.urlencode(
        {"query": f'count(up{{dopd_dev_instance=~"{"|".join(names)}"}})', "time": at_seconds}
    )
    with urllib.request.urlopen(f"{stack.prometheus_url}/api/v1/query?{query}", timeout=10) as answer:
        return bool(json.load(answer)["data"]["result"])


def _lines(pasts: dict[str, Callable[[float], Mix]], times: Sequence[int]) -> Iterator[str]:
    """Samples, those of one name together as the format asks."""
    columns = {name: _counters(mix_at, times) for name, mix_at in pasts.items()}
    for family in next(iter(columns.values())):
        for name, counters in columns.items():
            for (pool, more), values in counters[family].items():
                labels = (
                    f'namespace="default",dopd_dev_instance="{name}",dopd_dev_pool="{pool}",'
                    f'instance="{name}-{pool}:1",pod="{name}-{pool}"{more}'
                )
                yield from (f"{family}{{{labels}}} {value:g} {at}" for at, value in zip(times, values, strict=True))


Columns = dict[str, dict[tuple[str, str], list[float]]]


def _counters(mix_at: Callable[[float], Mix], times: Sequence[int]) -> Columns:
    """Values of each series at each time: by family, then by pool and further labels."""
    columns: Columns = {}

    def add(family: str, pool: str, value: float, more: str = "", counts: bool = True) -> None:
        values = columns.setdefault(family, {}).setdefault((pool, more), [])
        values.append(value + (values[-1] if counts and values else 0.0))

    for at in times:
        mix = mix_at(at)
        requests = mix.requests_per_second * STEP_SECONDS
        for pool in ("router", "prefill", "decode"):
            add("up", pool, 1.0, counts=False)
        add("smg_router_requests_total", "router", requests)
        add("sglang:uncached_prompt_tokens_histogram_sum", "prefill", requests * mix.input_tokens)
        add("sglang:realtime_tokens_total", "decode", requests * mix.output_tokens, ',mode="decode"')
        for pool, what, tokens in (
            ("prefill", "prompt", mix.input_tokens),
            ("decode", "generation", mix.output_tokens),
        ):
            family = f"sglang:{what}_tokens_histogram"
            add(f"{family}_count", pool, requests)
            add(f"{family}_sum", pool, requests * tokens)
            for edge in EDGES:
                add(f"{family}_bucket", pool, requests if tokens <= edge else 0.0, f',le="{edge}"')
            add(f"{family}_bucket", pool, requests, ',le="+Inf"')
    return columns
