"""The PromQL of each signal, for all resources at once. Pure text.

Labels: Prometheus must carry the pod labels `dopd.dev/instance` and `dopd.dev/pool` over to the series. The
Prometheus Operator does so through `podTargetLabels`, which writes a dot and a slash as `_`; our own scrape
configuration uses the same names. The pool label tells the role: SGLang's own `engine_type` is "dynamic" once
role switching is enabled.

Traps of SGLang that the queries avoid: requests and tokens are counted on both sides of a pair, so each is taken from
one pool; TTFT and ITL exist on decode workers alone; a counter that nobody has incremented yet has no series, so zero
traffic is told from lost telemetry by `up`.
"""

INSTANCE = "dopd_dev_instance"
POOL = "dopd_dev_pool"
BY = f"namespace, {INSTANCE}"


def _sum_rate(metric: str, pool: str, window: str, by: str = BY) -> str:
    return f'sum by ({by}) (rate({metric}{{{POOL}="{pool}"}}[{window}]))'


def _engine_rate(metric: str, pool: str, window: str, by: str = BY) -> str:
    """Rate of an engine's metric, under either name that it may be stored as.

    prometheus_client 0.26 writes `sglang_x` for `sglang:x` to a scraper that prefers OpenMetrics and does not ask for
    UTF-8 names, as Prometheus 2 does; else it writes the name as it is.
    """
    return " or ".join(_sum_rate(f"sglang{mark}{metric}", pool, window, by) for mark in ":_")


def arrival_rate(window: str) -> str:
    """Requests per second as they arrive at the gateway; 0 while a gateway is scraped and nothing arrives."""
    return f"{_sum_rate('smg_router_requests_total', 'router', window)} or 0 * {scraped('router')}"


def scraped(pool: str) -> str:
    """Pods of a pool that Prometheus reads."""
    return f'count by ({BY}) (up{{{POOL}="{pool}"}} == 1)'


def prompts(window: str) -> str:
    """Prompts finished per second, by prefill workers."""
    return _engine_rate("prompt_tokens_histogram_count", "prefill", window)


def prompt_tokens(window: str) -> str:
    """Prompt tokens per second, by prefill workers."""
    return _engine_rate("prompt_tokens_histogram_sum", "prefill", window)


def prompt_length_buckets(window: str) -> str:
    """Prompts finished per second by upper bound of their length."""
    return _engine_rate("prompt_tokens_histogram_bucket", "prefill", window, f"{BY}, le")


def uncached_prompt_tokens(window: str) -> str:
    """Prompt tokens per second that the prefix cache did not hold."""
    return _engine_rate("uncached_prompt_tokens_histogram_sum", "prefill", window)


def generations(window: str) -> str:
    """Generations finished per second, by decode workers."""
    return _engine_rate("generation_tokens_histogram_count", "decode", window)


def generated_tokens(window: str) -> str:
    """Output tokens per second of generations that finished."""
    return _engine_rate("generation_tokens_histogram_sum", "decode", window)
