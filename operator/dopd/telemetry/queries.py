"""The PromQL of each signal, for all resources at once. Pure text.

Labels: Prometheus must carry the pod labels `dopd.dev/instance` and `dopd.dev/pool` over to the series. The
Prometheus Operator does so through `podTargetLabels`, which writes a dot and a slash as `_`; our own scrape
configuration uses the same names. The pool label tells the role: SGLang's own `engine_type` is "dynamic" once
role switching is enabled.

Traps that the queries avoid:

- SGLang counts requests and tokens on both sides of a pair, so each is taken from one pool; TTFT and ITL exist on
  decode workers alone.
- A counter that nobody has incremented yet has no series, so zero traffic is told from lost telemetry by `up`.
- A pod that two jobs or two replicas of Prometheus scrape has each series twice: those are merged before any sum.
"""

from collections.abc import Callable
from dataclasses import dataclass

INSTANCE = "dopd_dev_instance"
POOL = "dopd_dev_pool"
BY = f"namespace, {INSTANCE}"
COPIES = "job, service, container, prometheus, prometheus_replica, replica"
"""Labels that tell two scrapes of one pod apart. Not `endpoint`: the gateway's own metrics carry it."""


@dataclass(frozen=True)
class Signal:
    """One thing that is read for all resources.

    Attributes:
        name: for people.
        pool: whose metrics it is taken from.
        promql: the query over a window such as `45000ms`.
        needs_traffic: there is no series before the first request.
    """

    name: str
    pool: str
    promql: Callable[[str], str]
    needs_traffic: bool = True


def _rate(metric: str, pool: str, window: str, by: str = BY, where: str = "", once: str = f"without ({COPIES})") -> str:
    """Rates summed `by` labels; of copies, which are series that are equal in the labels of `once`, the greatest."""
    return f'sum by ({by}) (max {once} (rate({metric}{{{POOL}="{pool}"{where}}}[{window}])))'


def _engine_rate(metric: str, pool: str, by: str = BY, **labels: str) -> Callable[[str], str]:
    """Rate of an engine's metric, under either name that it may be stored as; `labels` as for `_rate`.

    prometheus_client 0.26 writes `sglang_x` for `sglang:x` to a scraper that prefers OpenMetrics and does not ask for
    UTF-8 names, as Prometheus 2 does; else it writes the name as it is.
    """
    return lambda window: " or ".join(_rate(f"sglang{mark}{metric}", pool, window, by, **labels) for mark in ":_")


def _arrival_rate(window: str) -> str:
    return f"{_rate('smg_router_requests_total', 'router', window)} or 0 * {scraped('router', window)}"


def scraped(pool: str, window: str) -> str:
    """Pods of a pool that Prometheus reads now and has read at least twice in the window, so that rates exist."""
    up = f'up{{{POOL}="{pool}"}}'
    return f"count by ({BY}) ({up} == 1 and count_over_time({up}[{window}]) > 1)"


def copies(pool: str) -> str:
    """Series of `up` for each scraped address of a pool, after those that are known to be copies are merged."""
    up = f'up{{{POOL}="{pool}"}}'
    return f"max by ({BY}) (count by ({BY}, instance) (max without ({COPIES}) ({up})))"


_BY_BOUND = f"{BY}, le"

ARRIVALS = Signal("arrivals", "router", _arrival_rate, needs_traffic=False)
"""Requests per second as they arrive at the gateway; 0 while a gateway is scraped and nothing arrives."""
COPIES_OF_GATEWAYS = Signal("copies of gateways", "router", lambda _: copies("router"), needs_traffic=False)
"""More than 1 where the load would be counted more than once."""
PROMPTS = Signal("prompts", "prefill", _engine_rate("prompt_tokens_histogram_count", "prefill"))
"""Prompts finished per second."""
PROMPT_TOKENS = Signal("prompt tokens", "prefill", _engine_rate("prompt_tokens_histogram_sum", "prefill"))
"""Tokens of finished prompts per second."""
PROMPT_LENGTHS = Signal(
    "prompt lengths", "prefill", _engine_rate("prompt_tokens_histogram_bucket", "prefill", _BY_BOUND)
)
"""Prompts finished per second by upper bound of their length."""
UNCACHED = Signal("uncached tokens", "prefill", _engine_rate("uncached_prompt_tokens_histogram_sum", "prefill"))
"""Prompt tokens per second that the prefix cache did not hold."""
ANSWERS = Signal("answers", "decode", _engine_rate("generation_tokens_histogram_count", "decode"))
"""Answers finished per second."""
ANSWER_TOKENS = Signal("answer tokens", "decode", _engine_rate("generation_tokens_histogram_sum", "decode"))
"""Tokens of finished answers per second."""
ANSWER_LENGTHS = Signal(
    "answer lengths", "decode", _engine_rate("generation_tokens_histogram_bucket", "decode", _BY_BOUND)
)
"""Answers finished per second by upper bound of their length."""
DECODED = Signal(
    "decoded tokens",
    "decode",
    _engine_rate("realtime_tokens_total", "decode", where=', mode="decode"', once=f"by ({BY}, instance, dp_rank)"),
)
"""Tokens per second that decode makes, each as it is made: an answer's first, which prefill makes, is not counted.
Where all ranks count (SGLang's default is one of them), those of one data-parallel rank count the same tokens."""
TTFT = Signal("time to first token", "decode", _engine_rate("time_to_first_token_seconds_bucket", "decode", _BY_BOUND))
"""First tokens per second by upper bound of the time to them."""
ITL = Signal(
    "time per output token", "decode", _engine_rate("request_time_per_output_token_seconds_bucket", "decode", _BY_BOUND)
)
"""Answers per second by upper bound of their mean time between tokens (SGLang >= 0.5.22)."""
TOKEN_ITL = Signal(
    "time between tokens", "decode", _engine_rate("inter_token_latency_seconds_bucket", "decode", _BY_BOUND)
)
"""Tokens per second by upper bound of the time since the one before: what older engines have in place of ITL."""

LENGTHS = (PROMPTS, PROMPT_TOKENS, PROMPT_LENGTHS, UNCACHED, ANSWERS, ANSWER_TOKENS, ANSWER_LENGTHS, DECODED)
LATENCIES = (TTFT, ITL, TOKEN_ITL)
SIGNALS = (ARRIVALS, COPIES_OF_GATEWAYS, *LENGTHS, *LATENCIES)
"""All signals, for the self-check."""
