"""What the chart's alerts say of series that are made up here: promtool evaluates them as Prometheus does."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ..telemetry.real_prometheus import NEEDED, program
from .chart import render

RUNBOOK = Path(__file__).parents[3] / "docs" / "operate.md"
WHO = 'namespace="ns", inference="llama"'
FAST, MEDIUM, SLOW = "DopdErrorBudgetBurnsFast", "DopdErrorBudgetBurns", "DopdErrorBudgetLeaks"
LACKING = f'dopd_pool_lacking_guaranteed_gpus{{{WHO}, pool="p", type="h100"}}'
POOL = 'dopd_pool_gpus{{pool="p", type="h100", state="{}"}}'
CALM = {
    "dopd_leader": "1x5000",
    f"dopd_objective_attainment{{{WHO}}}": "0.99x5000",
    f"dopd_demand_requests_per_second{{{WHO}}}": "20x5000",
    f"dopd_late_share{{{WHO}}}": "0.005x5000",
    f'dopd_condition{{{WHO}, type="Ready"}}': "1x5000",
    f'dopd_profile_correction{{{WHO}, role="prefill"}}': "1.2x5000",
    f'dopd_profile_correction_confidence{{{WHO}, role="prefill"}}': "1x5000",
    f"dopd_objectives_infeasible{{{WHO}}}": "0x5000",
}
"""Series at minutes, as promtool writes them."""

CASES: list[tuple[str, dict[str, str], str, set[str]]] = [
    ("all is well", {}, "80h", set()),
    ("nobody acts", {"dopd_leader": "0x90"}, "6m", {"DopdNoActiveInstance"}),
    (
        "nobody acts for a shard",
        {'dopd_shards{pod="a"}': "2x90", 'dopd_shard_held{pod="a", shard="0"}': "1x90"},
        "6m",
        {"DopdShardHeldByNobody"},
    ),
    ("one shard is all", {'dopd_shards{pod="a"}': "1x90"}, "6m", set()),
    ("an outage of twenty minutes", {"dopd_late_share": "0x180 1x200"}, "200m", {FAST, MEDIUM, SLOW}),
    # Not at the very edge: promtool evaluates groups in any order, so an alert may see the minute before.
    ("and half an hour after it", {"dopd_late_share": "0x180 1x20 0x100"}, "235m", {SLOW}),
    # 8 % late of 1 % allowed: too little for the fast one.
    ("some are late for hours", {"dopd_late_share": "0x400 0.08x800"}, "800m", {MEDIUM, SLOW}),
    ("a few are late for days", {"dopd_late_share": "0.015x5000"}, "80h", {SLOW}),
    # The same share, where nine of ten is all that was asked for.
    (
        "another objective",
        {"dopd_late_share": "0x400 0.08x800", "dopd_objective_attainment": "0.9x5000"},
        "800m",
        set(),
    ),
    # 14.4 budgets would be more than all requests.
    (
        "a large budget",
        {"dopd_late_share": "0x180 0.9x400", "dopd_objective_attainment": "0.7x5000"},
        "300m",
        {FAST, SLOW},
    ),
    ("a night of few requests", {"dopd_late_share": "0x300 1x60", "dopd_demand_requests_per_second": "20x300 0.1x60"},
     "305m", set()),
    ("lateness unknown", {"dopd_late_share": "_x5000"}, "80h", set()),
    ("not ready", {"dopd_condition": "0x90"}, "11m", {"DopdNotReady"}),
    ("slow engines", {"dopd_profile_correction": "1.8x200"}, "70m", {"DopdProfileDrifts"}),
    ("fast engines", {"dopd_profile_correction": "0.5x200"}, "70m", {"DopdProfileDrifts"}),
    (
        "nothing is known of the engines",
        {"dopd_profile_correction": "1.8x200", "dopd_profile_correction_confidence": "0.2x200"},
        "70m",
        set(),
    ),
    ("a guarantee that is not met", {LACKING: "0x20 2x40"}, "50m", {"DopdPoolShort"}),
    ("one that a drain is on its way to", {LACKING: "0x20 2x40"}, "30m", set()),
    ("a pool over its cap", {POOL.format("held"): "9x60", POOL.format("cap"): "8x60"}, "30m", {"DopdPoolOverCap"}),
    ("a pool that is full", {POOL.format("held"): "8x60", POOL.format("cap"): "8x60"}, "30m", set()),
    ("a member twice", {'dopd_pool_named_twice_members{pool="p"}': "0x20 1x40"}, "40m", {"DopdPoolMemberTwice"}),
    ("infeasible", {"dopd_objectives_infeasible": "1x90"}, "31m", {"DopdObjectivesInfeasible"}),
]  # fmt: skip
REASONS = [
    ("WorkersAvailable", "Unschedulable", "20m", {"DopdWorkersUnschedulable"}),
    ("WorkersAvailable", "Crashing", "20m", set()),
    ("GpusGranted", "NoPool", "20m", {"DopdPoolMissing"}),
    ("GpusGranted", "PoolLimited", "20m", set()),
    ("ForecastTrusted", "WorseThanLastValue", "7h", {"DopdForecastDistrusted"}),
    ("ForecastTrusted", "ShortHistory", "7h", set()),
]


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the chart's rules."""
    file = tmp_path_factory.mktemp("rules") / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": groups()}))
    return file


def groups(**values: str) -> list[dict[str, Any]]:
    found = render("monitoring", "--show-only=templates/alerts.yaml", **{"alerts.enabled": "true", **values})
    return found[0]["spec"]["groups"]


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    path = program("prometheus", "promtool")
    if path is None:
        pytest.skip(f"needs {NEEDED['prometheus']} on the PATH, or a Debian that has the package prometheus")
    return subprocess.run([path, *arguments], capture_output=True, text=True, check=False)


def firing(rules: Path, series: dict[str, str], at: str) -> set[str]:
    """Names of the alerts of these series that fire at that time."""
    changed = {
        selector: next((values for name, values in series.items() if name == selector.split("{")[0]), usual)
        for selector, usual in CALM.items()
    } | {selector: values for selector, values in series.items() if "{" in selector}
    names = [rule["alert"] for group in groups_of(rules) for rule in group["rules"] if "alert" in rule]
    test = {
        "rule_files": [str(rules)],
        "evaluation_interval": "5m" if at == "80h" else "2m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": selector, "values": expanded(values)} for selector, values in changed.items()
                ],
                "alert_rule_test": [{"eval_time": at, "alertname": name, "exp_alerts": []} for name in names],
            }
        ],
    }
    file = rules.with_name("test.yaml")
    file.write_text(yaml.safe_dump(test))
    done = promtool("test", "rules", file)
    assert "alertname" in done.stdout + done.stderr or done.returncode == 0, done.stdout + done.stderr
    return set(re.findall(r"alertname:\s*(\w+)", done.stdout + done.stderr))


def groups_of(rules: Path) -> list[dict[str, Any]]:
    return yaml.safe_load(rules.read_text())["groups"]


def expanded(values: str) -> str:
    """Runs such as `0x180 1x20`, value and minutes, as promtool takes them."""
    runs = [run.split("x") for run in values.split()]
    return " ".join(f"_x{minutes}" if value == "_" else f"{value}+0x{int(minutes) - 1}" for value, minutes in runs)


def test_promtool_takes_the_rules(rules: Path):
    done = promtool("check", "rules", rules)
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("series", "at", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_fires(rules: Path, series: dict[str, str], at: str, expected: set[str]):
    assert firing(rules, series, at) == expected


@pytest.mark.parametrize(("kind", "reason", "at", "expected"), REASONS)
def test_what_fires_by_the_reason_of_a_condition(rules: Path, kind: str, reason: str, at: str, expected: set[str]):
    series = {f'dopd_condition_reason{{{WHO}, type="{kind}", reason="{reason}"}}': "1x600"}
    assert firing(rules, series, at) == expected


def test_each_alert_has_a_section_that_its_runbook_url_points_to():
    anchors = {line.removeprefix("### ").strip().lower() for line in RUNBOOK.read_text().splitlines() if "###" in line}
    for group in groups(**{"alerts.runbookURL": "https://docs.example.com/operate/"}):
        for rule in group["rules"]:
            if "alert" in rule:
                page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
                assert page == "https://docs.example.com/operate"
                assert anchor == rule["alert"].lower()
                assert anchor in anchors


def test_thresholds_are_values():
    text = yaml.safe_dump(groups(**{"alerts.thresholds.burnRateFast": "7", "alerts.thresholds.notReadyFor": "3m"}))
    assert "> 7 * dopd:error_budget:ratio" in text
    assert "for: 3m" in text
