"""Queries on a real Prometheus, where their text alone does not say that they are right."""

import time

import pytest

from dopd.telemetry import queries
from dopd.telemetry.connection import Connector

from .real_prometheus import NEEDED, Series, serving

NOW = time.time()


def counted(pod: str, tokens_per_second: float, pool: str = "decode", mode: str = "decode", **labels: str) -> Series:
    """A counter of one scheduler of a pod over five minutes."""
    known = {"namespace": "ns", "pod": pod, "instance": f"{pod}:1", queries.INSTANCE: "m", queries.POOL: pool}
    samples = [(NOW - 300 + 15 * i, 15 * i * tokens_per_second) for i in range(21)]
    return "sglang:realtime_tokens_total", known | {"mode": mode} | labels, samples


SERIES = [
    counted("one", 100, tp_rank="0"),
    counted("one", 100, tp_rank="1"),  # with --enable-metrics-for-all-schedulers
    counted("two", 30, tp_rank="0", dp_rank="0"),
    counted("two", 40, tp_rank="1", dp_rank="1"),
    counted("two", 40, tp_rank="1", dp_rank="1", job="another"),
    counted("two", 1000, mode="prefill_compute", tp_rank="0", dp_rank="0"),
    counted("three", 1000, pool="prefill"),
]


@pytest.mark.parametrize("server", NEEDED)
def test_a_decoded_token_counts_once_whichever_ranks_count_it(server, tmp_path):
    with serving(server, tmp_path, SERIES) as url:
        found = Connector()(url).custom_query(queries.DECODED.promql("45000ms"), {"time": str(NOW)})
    assert [series["metric"] for series in found] == [{"namespace": "ns", queries.INSTANCE: "m"}]
    assert float(found[0]["value"][1]) == pytest.approx(170, rel=0.01)


@pytest.mark.parametrize("signal", queries.SIGNALS, ids=lambda signal: signal.name)
def test_every_selector_of_a_signal_has_the_matchers(signal: queries.Signal):
    text = signal.promql("45000ms", queries.matchers({"cluster": 'a"b', "region": "eu"}))
    assert text.count("{") == text.count('cluster="a\\"b", region="eu"}')
