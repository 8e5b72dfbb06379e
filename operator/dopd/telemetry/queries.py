"""The PromQL of each signal, for all resources at once. Pure text.

Labels: Prometheus must carry the pod labels `dopd.dev/instance` and `dopd.dev/pool` over to the series. The
Prometheus Operator does so through `podTargetLabels`, which writes a dot and a slash as `_`; our own scrape
configuration uses the same names. The pool label tells the role: SGLang's own `engine_type` is "dynamic" once
role switching is enabled. Where one server holds the series of several clusters, matchers tell which of them.

Traps that the queries avoid:

- SGLang counts requests and tokens on both sides of a pair, so each is taken from one pool; TTFT and ITL exist on
  decode workers alone.
- A counter that nobody has incremented yet has no series, so zero traffic is told from lost telemetry by `up`.
- `rate` starts at the first value that it sees: what a counter showed then is added, where a scrape before it tells
  that it began since.
- A counter that falls and does not begin anew (two sources under one name) makes `rate` add the count of weeks.
- A pod that two jobs or two replicas of Prometheus scrape has each series twice: those are merged before any sum.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

INSTANCE = "dopd_dev_instance"
POOL = "dopd_dev_pool"
BY = f"namespace, {INSTANCE}"
BY_POD = f"{BY}, instance"
COPIES = "job, service, container, prometheus, prometheus_replica, replica"
"""Labels that tell two scrapes of one pod apart. Not `endpoint`: the gateway's own metrics carry it."""
CLUSTER_LABELS = ("cluster", "cluster_name", "cluster_id", "k8s_cluster", "k8s_cluster_name", "kubernetes_cluster")
"""What people call the label that tells clusters apart."""
_BULK_CLASS = ', class="bulk"'
_BULK = f'{_BULK_CLASS}, outcome=~"admitted|preempted"'
"""Of requests without a deadline, at a gateway whose resource tells them apart (spec.scheduling.batch)."""
_ONLINE = ', priority=~"[0-9]+"'
"""Of requests with a deadline, on decode engines that tell them apart; other engines have no such label."""
_NOT_BATCH = ', priority!~"-.*"'
"""The same where all others count, too, as they have no such label."""
NEW_AFTER = "5m"
"""A series is new if it was not there for so long: a scrape that fails now and then makes nothing new."""
NEVER_SEEN = "1d"
"""What was not there for so long was never seen: a Prometheus that was away for an hour has told of it before."""
FALSE_RESET_FROM = 100
"""A counter above this that falls by less than half has not begun anew."""

Matchers = str
"""More label matchers of every selector, each after a comma: `, cluster="eu"`; "" for none."""


def matchers(labels: Mapping[str, str]) -> Matchers:
    """Matchers for series that carry labels with these values."""
    escaped = {
        label: value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for label, value in labels.items()
    }
    return "".join(f', {label}="{value}"' for label, value in sorted(escaped.items()))


@dataclass(frozen=True)
class Signal:
    """One thing that is read for all resources.

    Attributes:
        name: for people.
        pool: whose metrics it is taken from.
        build: makes the query of a window and matchers.
        needs_traffic: there is no series before the first request.
    """

    name: str
    pool: str
    build: Callable[[str, Matchers], str]
    needs_traffic: bool = True

    def promql(self, window: str, matching: Matchers = "") -> str:
        """The query over a window such as `45000ms`."""
        return self.build(window, matching)

    @property
    def record(self) -> str:
        """Name of the series that the chart's recording rules make of it."""
        return f"dopd:{self.name.replace(' ', '_')}:rate"

    def recorded(self, window: str, matching: Matchers = "") -> str:
        """The same from recorded series; of those that several replicas of Prometheus record, the greatest."""
        by = _BY_BOUND if self in BUCKETS else BY
        return f'max by ({by}) (avg_over_time({self.record}{{namespace!=""{matching}}}[{window}]))'


def _of(pool: str, matching: Matchers) -> str:
    return f'{{{POOL}="{pool}"{matching}}}'


def _engine_rate(
    metric: str, pool: str, by: str = BY, where: str = "", once: str = f"without ({COPIES})"
) -> Callable[[str, Matchers], str]:
    """Rates of an engine's metric summed `by` labels; of copies, equal in the labels of `once`, the greatest.

    Under either name that it may be stored as: prometheus_client 0.26 writes `sglang_x` for `sglang:x` to a scraper
    that prefers OpenMetrics and does not ask for UTF-8 names, as Prometheus 2 does; else it writes the name as it is.
    """

    def promql(window: str, matching: Matchers) -> str:
        named = (f"rate(sglang{mark}{metric}{_of(pool, where + matching)}[{window}])" for mark in ":_")
        return " or ".join(f"sum by ({by}) (max {once} ({rate}))" for rate in named)

    return promql


def _online_prompts(metric: str, by: str = BY) -> Callable[[str, Matchers], str]:
    """Of prompts with a deadline: prefill engines tell none apart, so they are taken from decode engines that do."""
    told_apart = _engine_rate(metric, "decode", by, _ONLINE)
    of_all = _engine_rate(metric, "prefill", by)
    return lambda window, matching: f"{told_apart(window, matching)} or {of_all(window, matching)}"


def _uncached(window: str, matching: Matchers) -> str:
    """Uncached prompt tokens of all prompts; where a batch is told apart, the same share of those of the others."""
    rate = _engine_rate("uncached_prompt_tokens_histogram_sum", "prefill")(window, matching)
    tokens = _engine_rate("prompt_tokens_histogram_sum", "prefill")(window, matching)
    online = _engine_rate("prompt_tokens_histogram_sum", "decode", where=_ONLINE)(window, matching)
    return f"({rate}) / (({tokens}) > 0) * ({online}) or {rate}"


def _decoded(window: str, matching: Matchers) -> str:
    of_all = _engine_rate(
        "realtime_tokens_total", "decode", where=', mode="decode"', once=f"by ({BY}, instance, dp_rank)"
    )
    told_apart = _engine_rate("generation_tokens_histogram_count", "decode", where=_ONLINE)
    return f"({of_all(window, matching)}) unless ({told_apart(window, matching)})"


def _arrived(window: str, matching: Matchers) -> str:
    counter = _counter(matching)
    counted = f"({_new(window, matching)} and {_appeared(window, matching)}) * 1000 / {_milliseconds(window)}"
    arrived = f"max without ({COPIES}) ({counted} or rate({counter}[{window}]))"
    arrived = f"sum by ({BY}) ({arrived} or {_batch_admitted(window, matching)} or {_batch_came(window, matching)})"
    return f"{arrived} unless {_false_resets(window, matching)}"


def _batch_admitted(window: str, matching: Matchers) -> str:
    """Less the requests of the batch, in the counter of arrivals, too: those whose answers began or were given up."""
    return f"-max without ({COPIES}) (rate(smg_scheduler_admit_total{_of('router', _BULK + matching)}[{window}]))"


def _batch_came(window: str, matching: Matchers) -> str:
    """And those that were let in and have no answer yet, by which more are in flight than before."""
    grown = f"delta(smg_scheduler_inflight{_of('router', _BULK_CLASS + matching)}[{window}])"
    return f"-max without ({COPIES}) ({grown} * 1000 / {_milliseconds(window)})"


def _first_counts(window: str, matching: Matchers) -> str:
    first = f"min_over_time({_counter(matching)}[{window}]) and {_new(window, matching, NEVER_SEEN)}"
    first = f"{first} unless {_appeared(window, matching)}"
    return f"sum by ({BY_POD}, pod) (max without ({COPIES}) ({first}))"


def _counter(matching: Matchers) -> str:
    return f"smg_router_requests_total{_of('router', matching)}"


def _new(window: str, matching: Matchers, after: str = NEW_AFTER) -> str:
    """Counters of gateways that were not there before the window."""
    counter = _counter(matching)
    return f"({counter} unless last_over_time({counter}[{after}] offset {window}))"


def _appeared(window: str, matching: Matchers) -> str:
    """Counters that some scrape within the window did not find yet; of two jobs the one that scrapes less tells."""
    scrapes = f"min by ({BY_POD}) (sum_over_time(up{_of('router', matching)}[{window}]))"
    return f"(count_over_time({_counter(matching)}[{window}]) < on ({BY_POD}) group_left () {scrapes})"


def _milliseconds(window: str) -> str:
    return window.removesuffix("ms")


def _false_resets(window: str, matching: Matchers) -> str:
    counter = f"{_counter(matching)}[{window}]"
    most = f"max_over_time({counter})"
    fell = f"resets({counter}) > 0 and min_over_time({counter}) * 2 > {most} and {most} > {FALSE_RESET_FROM}"
    return f"count by ({BY}) ({fell})"


def _arrival_rate(window: str, matching: Matchers) -> str:
    nothing = f"0 * {scraped('router', window, matching)} unless {_false_resets(window, matching)}"
    return f"{_arrived(window, matching)} or {nothing}"


def scraped(pool: str, window: str, matching: Matchers = "") -> str:
    """Pods of a pool that Prometheus reads now and has read at least twice in the window, so that rates exist."""
    up = f"up{_of(pool, matching)}"
    return f"count by ({BY}) ({up} == 1 and count_over_time({up}[{window}]) > 1)"


def copies(pool: str, matching: Matchers = "") -> str:
    """Series of `up` for each scraped address of a pool, after those that are known to be copies are merged."""
    return f"max by ({BY}) (count by ({BY_POD}) (max without ({COPIES}) (up{_of(pool, matching)})))"


def clusters(matching: Matchers = "") -> str:
    """Pods by what may be the name of their cluster."""
    return f'count by ({BY}, {", ".join(CLUSTER_LABELS)}) (up{{{POOL}!=""{matching}}})'


def newest_samples(matching: Matchers = "", by: str = f"{BY}, {POOL}") -> str:
    """Time of the newest sample, seconds since the epoch."""
    return f'max by ({by}) (timestamp(up{{{POOL}!=""{matching}}}))'


def scrapes(window: str, matching: Matchers = "") -> str:
    """Samples of each pod in a window."""
    return f'max by ({BY_POD}, {POOL}) (count_over_time(up{{{POOL}!=""{matching}}}[{window}]))'


_BY_BOUND = f"{BY}, le"

ARRIVALS = Signal("arrivals", "router", _arrival_rate, needs_traffic=False)
"""Requests per second as they arrive at the gateway; 0 while a gateway is scraped and nothing arrives."""
ARRIVED = Signal("counted requests", "router", _arrived)
"""The same, of gateways that have counted at least one request; none while a counter has fallen without cause."""
FIRST_COUNTS = Signal("first counts of gateways", "router", _first_counts)
"""Requests that a gateway had counted when it was scraped for the first time, by pod: no rate tells of them."""
GATEWAYS = Signal("gateways", "router", lambda window, match: scraped("router", window, match), needs_traffic=False)
"""Gateways whose rates can be known."""
COPIES_OF_GATEWAYS = Signal("copies of gateways", "router", lambda _, match: copies("router", match), False)
"""More than 1 where the load would be counted more than once."""
PROMPTS = Signal("prompts", "prefill", _online_prompts("prompt_tokens_histogram_count"))
"""Prompts finished per second."""
PROMPT_TOKENS = Signal("prompt tokens", "prefill", _online_prompts("prompt_tokens_histogram_sum"))
"""Tokens of finished prompts per second."""
PROMPT_LENGTHS = Signal("prompt lengths", "prefill", _online_prompts("prompt_tokens_histogram_bucket", _BY_BOUND))
"""Prompts finished per second by upper bound of their length."""
UNCACHED = Signal("uncached tokens", "prefill", _uncached)
"""Prompt tokens per second that the prefix cache did not hold."""
ANSWERS = Signal("answers", "decode", _engine_rate("generation_tokens_histogram_count", "decode", where=_NOT_BATCH))
"""Answers finished per second."""
ANSWER_TOKENS = Signal(
    "answer tokens", "decode", _engine_rate("generation_tokens_histogram_sum", "decode", where=_NOT_BATCH)
)
"""Tokens of finished answers per second."""
ANSWER_LENGTHS = Signal(
    "answer lengths", "decode", _engine_rate("generation_tokens_histogram_bucket", "decode", _BY_BOUND, _NOT_BATCH)
)
"""Answers finished per second by upper bound of their length."""
DECODED = Signal("decoded tokens", "decode", _decoded)
"""Tokens per second that decode counts, each as it is made: an answer's first, which prefill makes, is not among them,
but one more at the end of each answer of two or more (see `lengths`).
Where all ranks count (SGLang's default is one of them), those of one data-parallel rank count the same tokens. None
where a batch is told apart, whose tokens are among them."""
_STREAMED = f', is_streaming!="false"{_NOT_BATCH}'
"""The first token of an answer that is not streamed is seen at its end, which says nothing of lateness. Engines before
that SGLang told them apart have no such label, and match."""
TTFT = Signal(
    "time to first token", "decode", _engine_rate("time_to_first_token_seconds_bucket", "decode", _BY_BOUND, _STREAMED)
)
"""First tokens of streamed answers per second by upper bound of the time to them."""
ITL = Signal(
    "time per output token",
    "decode",
    _engine_rate("request_time_per_output_token_seconds_bucket", "decode", _BY_BOUND, _STREAMED),
)
"""Streamed answers per second by upper bound of their mean time between tokens (SGLang >= 0.5.22)."""
TOKEN_ITL = Signal(
    "time between tokens", "decode", _engine_rate("inter_token_latency_seconds_bucket", "decode", _BY_BOUND, _STREAMED)
)
"""Tokens per second by upper bound of the time since the one before: what older engines have in place of ITL."""
NOT_STREAMED = Signal(
    "answers not streamed",
    "decode",
    _engine_rate("time_to_first_token_seconds_count", "decode", where=f', is_streaming="false"{_NOT_BATCH}'),
)
"""Answers per second that tell nothing of lateness."""

BATCH_AT_GATEWAY = Signal(
    "batch requests at the gateway",
    "router",
    lambda window, match: " + ".join(
        f"sum by ({BY}) (max without ({COPIES}) (smg_scheduler_{gauge}{_of('router', _BULK_CLASS + match)}))"
        for gauge in ("queue_depth", "inflight")
    ),
)
"""Batch requests that wait at gateways or were let in; asked for where they may add workers."""

LENGTHS = (PROMPTS, PROMPT_TOKENS, PROMPT_LENGTHS, UNCACHED, ANSWERS, ANSWER_TOKENS, ANSWER_LENGTHS, DECODED)
BUCKETS = (PROMPT_LENGTHS, ANSWER_LENGTHS)
RECORDED = (ARRIVALS, PROMPTS, PROMPT_TOKENS, PROMPT_LENGTHS, UNCACHED, ANSWERS, ANSWER_TOKENS, ANSWER_LENGTHS)
"""What a history is made of."""
LATENCIES = (TTFT, ITL, TOKEN_ITL, NOT_STREAMED)
PRESENT = (ARRIVED, FIRST_COUNTS, GATEWAYS, COPIES_OF_GATEWAYS)
SIGNALS = (ARRIVALS, COPIES_OF_GATEWAYS, *LENGTHS, *LATENCIES)
"""What the self-check looks for."""

PART = "part"
"""Label that tells what a series of `past_means` or `past_buckets` is."""
INPUT, UNCACHED_SHARE, OUTPUT = "input", "uncached", "output"
_MEANS = {
    INPUT: (PROMPT_TOKENS, PROMPTS),
    UNCACHED_SHARE: (UNCACHED, PROMPT_TOKENS),
    OUTPUT: (ANSWER_TOKENS, ANSWERS),
}

Rate = Callable[[Signal], str]
"""The query of a signal's rate, raw or recorded."""


def past_means(rate: Rate) -> str:
    """Mean prompt and answer lengths and the uncached share, in one query; NaN where no request ended."""
    return " or ".join(_named(f"({rate(total)}) / ({rate(count)})", part) for part, (total, count) in _MEANS.items())


def past_buckets(rate: Rate) -> str:
    """Requests by upper bound of their prompt and of their answer, in one query."""
    return " or ".join(_named(rate(signal), part) for signal, part in zip(BUCKETS, (INPUT, OUTPUT), strict=True))


def any_recorded(window: str, matching: Matchers = "") -> str:
    """A series if there are recorded ones of any time of a window."""
    return f'count(last_over_time({ARRIVALS.record}{{namespace!=""{matching}}}[{window}]))'


def _named(query: str, part: str) -> str:
    return f'label_replace({query}, "{PART}", "{part}", "", "")'
