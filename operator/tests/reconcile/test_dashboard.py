"""The dashboard and the alerts of the chart ask for metrics that exist; a real Prometheus runs them in e2e/tests."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from dopd.reconcile import metrics, timing  # noqa: F401  (timing registers its metric)
from dopd.telemetry import queries
from dopd.telemetry.prompt_order import PLUGIN_METRICS

CHART = Path(__file__).parents[3] / "charts" / "dopd"
DASHBOARD = json.loads((CHART / "dashboards" / "dopd.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]

SELECTOR = re.compile(r"(dopd_[a-z0-9_]+|sglang[:_][a-z0-9_]+)(?:\{([^}]*)\})?")


def own_metrics() -> dict[str, set[str]]:
    """Labels of the operator's metrics by every name that a query may use."""
    found = {}
    for collector in set(REGISTRY._collector_to_names):
        labels = set(getattr(collector, "_labelnames", ()))
        for name in REGISTRY._collector_to_names[collector]:
            found[name] = labels
    return found


@pytest.mark.parametrize(("title", "query"), QUERIES)
def test_it_asks_for_metrics_and_labels_that_exist(title: str, query: str):
    known = own_metrics()
    engine = " ".join(signal.promql("1m") for signal in queries.SIGNALS)
    found = [match for match in SELECTOR.findall(query) if not match[0].startswith("dopd_dev_")]
    assert found, title
    for name, matchers in found:
        labels = set(re.findall(r"(\w+)\s*=", matchers))
        if name.startswith("sglang"):
            assert f"{name}{{" in engine, title
            assert labels <= {"namespace", queries.INSTANCE, queries.POOL}, title
        elif name.removesuffix("_bucket") in PLUGIN_METRICS:
            assert labels <= {"namespace", queries.INSTANCE, queries.POOL}, title
            grouped = {label.strip() for part in re.findall(r"by \(([^)]*)\)", query) for label in part.split(",")}
            assert grouped <= PLUGIN_METRICS[name.removesuffix("_bucket")] | {"le"}, title
        else:
            assert name in known, title
            assert labels <= known[name], title


def test_alerts_ask_for_metrics_that_exist():
    asked = set(re.findall(r"dopd_[a-z_]+", (CHART / "templates" / "alerts.yaml").read_text()))
    assert len(asked) > 5
    assert asked <= own_metrics().keys()


def test_every_gauge_of_a_resource_is_shown():
    text = json.dumps(DASHBOARD)
    hidden = {
        "dopd_forecast_newest_point_age_seconds",
        "dopd_profile_correction_confidence",
        "dopd_forecast_doubted_bins",
        "dopd_scrape_interval_seconds",
        "dopd_scrape_lag_seconds",
    }
    names = {gauge._name for gauge in metrics._OF_INSTANCE}
    assert {name for name in names if name not in text} == hidden


def test_every_metric_of_the_plugin_but_its_state_is_shown():
    text = json.dumps(DASHBOARD)
    assert {name for name in PLUGIN_METRICS if name not in text} == {
        "dopd_prefill_order_info",
        "dopd_prefill_order_active",
    }


def test_panels_do_not_overlap_and_have_their_own_ids():
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
