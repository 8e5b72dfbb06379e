"""What the operator writes is what the plugin in the engine reads, and the other way round: one release holds both."""

from collections import defaultdict
from importlib import resources
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.profile import EngineProfileSpec
from dopd.api.scheduling import LatePrompts, SchedulingPolicy
from dopd.perf import EngineModel
from dopd.reconcile.prompt_order import order_verdict
from dopd.telemetry.prompt_order import PLUGIN_METRICS, PromptOrder, parse_prompt_order
from dopd.workloads import Owner
from dopd.workloads.scheduling import FILE, FOLDER, PLUGIN_POLICIES, scheduling_config
from dopd_sglang.prefill_order import settings, start
from dopd_sglang.prefill_order.metrics import Metrics

SCALING = {"prefill": {"min": 1, "max": 2}, "decode": {"min": 1, "max": 2}, "profileRef": {"name": "p"}}


def written(owner: Owner, raw_spec: dict[str, Any], **known: Any) -> settings.Scheduling:
    """What the plugin reads of what the operator writes."""
    spec = DisaggregatedInferenceSpec.model_validate(raw_spec)
    return settings.parse(scheduling_config(owner, spec, **known)["data"][FILE])


@pytest.mark.parametrize("policy", SchedulingPolicy)
@pytest.mark.parametrize("late", LatePrompts)
def test_the_plugin_reads_each_policy(owner: Owner, raw_spec: dict[str, Any], policy: str, late: str):
    fields = {"policy": policy, "latePrompts": late, "lateShare": 0.25, "mostUnfinished": 8}
    read = written(owner, {**raw_spec, "scheduling": fields, "slo": {"ttftSeconds": 0.7}})
    assert read.policy == PLUGIN_POLICIES[SchedulingPolicy(policy)]
    assert read.refuse_late is (late == "Refuse")
    assert (read.ttft_seconds, read.late_share, read.most_unfinished, read.times) == (0.7, 0.25, 8, None)


def test_the_plugin_reads_the_times_of_each_shipped_profile(owner: Owner, raw_spec: dict[str, Any]):
    del raw_spec["prefill"]["replicas"], raw_spec["decode"]["replicas"]
    for entry in resources.files("dopd.perf").joinpath("profiles").iterdir():
        profile = EngineProfileSpec.model_validate(yaml.safe_load(entry.read_text())["spec"])
        engine = EngineModel.from_profile(profile)
        read = written(owner, {**raw_spec, "scaling": SCALING}, engine=engine, predicted_tokens=1043.2)
        assert read.predicted_tokens == 1043.0
        assert read.times
        assert read.times.pass_seconds(1) == pytest.approx(engine.prefill_seconds(1), rel=1e-3)
        assert read.times.transfer_seconds == engine.transfer_base_seconds


def test_the_file_stands_where_the_plugin_looks():
    assert f"{FOLDER}/{FILE}" == settings.DEFAULT_FILE


def test_the_operator_reads_what_the_plugin_exports():
    registry = CollectorRegistry()
    metrics = Metrics("0.1.0", "0.5.23", registry)

    def read() -> PromptOrder:
        return parse_prompt_order(generate_latest(registry).decode())

    metrics.set_policy("on-time-first", active=True)
    assert read() == PromptOrder(frozenset({"on-time-first"}), True)
    metrics.fallbacks.labels("switched-off").inc()
    metrics.set_policy(settings.ENGINE_DEFAULT, active=False)
    assert read() == PromptOrder(frozenset({"engine-default"}), False, ("switched-off",))


def test_a_plugin_that_could_not_be_started_is_reported_as_one_that_gave_up(
    spec: DisaggregatedInferenceSpec, monkeypatch: pytest.MonkeyPatch
):
    registry = CollectorRegistry()
    monkeypatch.setattr(start, "_metrics_of_first_rank", lambda: Metrics("0.1.0", "0.5.23", registry))
    assert start.start(None) is None
    told = parse_prompt_order(generate_latest(registry).decode())
    verdict = order_verdict(spec, {"llama-prefill-x": told})
    assert verdict
    assert verdict[1] == "Fallback"


def test_the_dashboard_may_rest_on_what_is_exported():
    registry = CollectorRegistry()
    Metrics("0.1.0", "0.5.23", registry).set_policy("on-time-first", active=True)
    exported: dict[str, set[str]] = defaultdict(set)
    for family in registry.collect():
        for sample in family.samples:
            name = sample.name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
            if not sample.name.endswith("_created"):
                exported[name] |= set(sample.labels) - {"le"}
    assert exported == PLUGIN_METRICS
