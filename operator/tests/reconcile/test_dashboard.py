"""The dashboards and the alerts of the chart ask for metrics that exist; real Prometheus servers run them elsewhere."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, Gauge

from charts.dashboard.__main__ import boards
from dopd.cli import counterfactual_metrics
from dopd.reconcile import metrics, pool_metrics, timing  # noqa: F401  (timing registers its metric)
from dopd.telemetry import queries
from dopd.telemetry.prompt_order import PLUGIN_METRICS

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "dopd"
RECORDED = ROOT / "worker_images" / "simulator" / "tests" / "recorded"
"""What real engines export."""
FILES = {file.name: file.read_text() for file in sorted((CHART / "dashboards").iterdir())}
BOARDS = {name: json.loads(text) for name, text in FILES.items()}
PANELS = [panel for board in BOARDS.values() for panel in board["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
TEXT = FILES["dopd.json"]

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
    engine = " ".join(file.read_text() for file in RECORDED.iterdir())
    found = [match for match in SELECTOR.findall(query) if not match[0].startswith("dopd_dev_")]
    assert found or query.startswith("vector("), title
    for name, matchers in found:
        labels = set(re.findall(r"(\w+)\s*=", matchers))
        if name.startswith("sglang"):
            assert name.replace("sglang_", "sglang:", 1).removesuffix("_bucket") in engine, title
            assert labels <= {"namespace", queries.INSTANCE, queries.POOL, "is_streaming"}, title
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
    hidden = {
        "dopd_forecast_newest_point_age_seconds",
        "dopd_profile_correction_confidence",
        "dopd_forecast_doubted_bins",
        "dopd_scrape_interval_seconds",
        "dopd_scrape_lag_seconds",
        "dopd_counterfactual_requests",
        "dopd_counterfactual_end_timestamp_seconds",
        "dopd_counterfactual_seconds",
    }
    all_gauges = [value for value in vars(metrics).values() if isinstance(value, Gauge)]
    gauges = [gauge for gauge in all_gauges if "inference" in gauge._labelnames]
    names = {gauge._name for gauge in (*gauges, *counterfactual_metrics.GAUGES)}
    assert {name for name in names if name not in TEXT} == hidden


def test_every_gauge_of_a_pool_is_shown_or_alerted_on():
    text = FILES["dopd-fleet.json"] + (CHART / "templates" / "alerts.yaml").read_text()
    names = {value._name for value in vars(pool_metrics).values() if isinstance(value, Gauge)}
    assert len(names) == 5
    assert {name for name in names if name not in text} == set()


def test_every_metric_of_the_plugin_but_its_state_is_shown():
    assert {name for name in PLUGIN_METRICS if name not in TEXT} == {
        "dopd_prefill_order_info",
        "dopd_prefill_order_active",
    }


def test_the_files_are_what_is_generated():
    assert boards() == FILES, "run `make generate`"


@pytest.mark.parametrize("name", FILES)
def test_panels_do_not_overlap_and_have_their_own_ids_and_titles(name: str):
    taken = set()
    panels = BOARDS[name]["panels"]
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
    for key in ("id", "title"):
        assert len({panel[key] for panel in panels}) == len(panels)


def test_objectives_are_lines_beside_what_they_are_about():
    for title in ("Time to first token", "Time between tokens", "Attainment"):
        (panel,) = [panel for panel in PANELS if panel["title"] == title]
        assert any("dopd_objective_" in target["expr"] for target in panel["targets"]), title
        (drawn,) = panel["fieldConfig"]["overrides"]
        assert drawn["matcher"]["options"] == "objective"


def test_decisions_are_marks_on_every_panel():
    (mark,) = BOARDS["dopd.json"]["annotations"]["list"]
    assert "dopd_target_workers" in mark["expr"]
    assert mark["titleFormat"] == "new target of {{role}}"
