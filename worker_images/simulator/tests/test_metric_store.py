"""Counters, gauges and histograms in the text format."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from dopd_simulator.metric_store import Counter, Families, Gauge, Histogram

CONSTANT = {"model_name": "m"}


def shown(families):
    registry = CollectorRegistry(auto_describe=False)
    registry.register(families)
    text = generate_latest(registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_counter_grows_by_labels():
    families = Families()
    counter = families.add(Counter("sglang:tokens", "Tokens.", CONSTANT, ["mode"]))
    counter.inc(2, "decode")
    counter.inc(3, "decode")
    counter.inc(0, "input")
    assert shown(families) == {
        ("sglang:tokens_total", (("mode", "decode"), ("model_name", "m"))): 5,
        ("sglang:tokens_total", (("mode", "input"), ("model_name", "m"))): 0,
    }


def test_a_gauge_shows_the_last_value():
    families = Families()
    gauge = families.add(Gauge("sglang:running", "Running.", CONSTANT))
    gauge.set(4)
    gauge.add(-1)
    assert shown(families) == {("sglang:running", (("model_name", "m"),)): 3}


def test_a_histogram_counts_cumulatively_with_its_edges_inside():
    families = Families()
    histogram = families.add(Histogram("sglang:seconds", "Seconds.", CONSTANT, [0.1, 0.5]))
    histogram.observe(0.1)
    histogram.observe(0.2, times=3)
    histogram.observe(9)
    values = shown(families)
    buckets = [values["sglang:seconds_bucket", (("le", le), ("model_name", "m"))] for le in ("0.1", "0.5", "+Inf")]
    assert buckets == [1, 4, 5]
    assert values["sglang:seconds_count", (("model_name", "m"),)] == 5
    assert values["sglang:seconds_sum", (("model_name", "m"),)] == 0.1 + 0.2 * 3 + 9


def test_what_never_happened_is_not_shown():
    families = Families()
    families.add(Histogram("sglang:seconds", "Seconds.", CONSTANT, [1]))
    families.add(Counter("sglang:failed", "Failed.", CONSTANT))
    assert shown(families) == {}
