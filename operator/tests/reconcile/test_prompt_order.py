"""What prefill workers make of spec.scheduling, as a condition; and what they are told."""

import json
from dataclasses import replace
from typing import Any

import pytest

from dopd.api.conditions import ConditionStatus, ConditionType
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.perf import EngineModel
from dopd.reconcile.prompt_order import order_settings, order_verdict, serves_on_time_first
from dopd.reconcile.reading import Reading
from dopd.reconcile.scaling import Planned
from dopd.telemetry.prompt_order import PromptOrder

from .test_conditions import ALL_WELL, SPEC, findings, look
from .test_scaling import SPEC as SCALING

PLUGIN = PromptOrder(frozenset({"on-time-first"}), True)
FALLEN = PromptOrder(frozenset({"engine-default"}), False, ("error", "switched-off"))
BEFORE = PromptOrder(frozenset({"shortest-first"}), True)
NEVER_TOLD = PromptOrder(frozenset({"engine-default"}), False)
NONE = PromptOrder()
IMAGE = "lmsysorg/sglang:v0.5.23"


def spec(image: str = IMAGE, **scheduling: Any) -> DisaggregatedInferenceSpec:
    return DisaggregatedInferenceSpec.model_validate({**SPEC, "engine": {"image": image}, "scheduling": scheduling})


@pytest.mark.parametrize(
    ("image", "orders", "status", "reason", "words"),
    [
        (IMAGE, {}, "Unknown", "NotSeen", ["no prefill worker"]),
        (IMAGE, {"a": PLUGIN, "b": PLUGIN}, "True", "PluginOrders", ["OnTimeFirst"]),
        ("llm:private", {"a": PLUGIN}, "True", "PluginOrders", []),
        (IMAGE, {"a": NONE}, "True", "EnginePolicy", [IMAGE, "shortest-prefill-first", "no plugin"]),
        (IMAGE, {"a": NONE, "b": PLUGIN}, "True", "EnginePolicy", []),
        (IMAGE, {"b": FALLEN, "a": PLUGIN, "c": NONE}, "False", "Fallback", ["worker b:", "several errors", "log"]),
        (IMAGE, {"a": BEFORE, "b": PLUGIN}, "False", "OldSettings", ["worker a:", "OnTimeFirst", "a minute"]),
        (IMAGE, {"a": NEVER_TOLD}, "False", "OldSettings", []),
        (IMAGE, {"a": replace(NEVER_TOLD, fallbacks=("error",))}, "False", "OldSettings", []),
        (IMAGE, {"a": replace(NEVER_TOLD, fallbacks=("version",))}, "False", "Fallback", ["release of SGLang"]),
        (IMAGE, {"a": replace(NEVER_TOLD, fallbacks=("of later",))}, "False", "Fallback", ["of later"]),
        (IMAGE, {"a": NEVER_TOLD, "b": FALLEN}, "False", "Fallback", ["worker b:"]),
        (IMAGE, dict.fromkeys("edcba", FALLEN), "False", "Fallback", ["workers a, b, c and 2 more"]),
        ("llm@sha256:0", {"a": NONE}, "False", "EngineOrder", ["does not tell the release", "EngineDefault"]),
        ("lmsysorg/sglang:v0.5.20", {"a": NONE}, "False", "EngineOrder", ["SGLang 0.5.20 has no"]),
    ],
)
def test_what_is_reported(image: str, orders: dict[str, PromptOrder], status: str, reason: str, words: list[str]):
    observed = replace(look(*ALL_WELL, spec={**SPEC, "engine": {"image": image}}), orders=orders)
    found = next(f for f in findings(observed, (), None) if f.type is ConditionType.SCHEDULING_ACTIVE)
    assert (found.status, found.reason) == (status, reason)
    assert [word for word in words if word not in found.message] == []


def test_the_message_does_not_change_with_the_order_in_which_workers_answer():
    assert order_verdict(spec(), {"a": FALLEN, "b": FALLEN}) == order_verdict(spec(), {"b": FALLEN, "a": FALLEN})


@pytest.mark.parametrize(
    ("orders", "serves"),
    [
        ({"a": PLUGIN, "b": PLUGIN}, True),
        ({"a": PLUGIN, "b": NONE}, False),
        ({"a": FALLEN}, False),
        ({"a": BEFORE}, False),
        ({"a": NONE}, False),
        ({}, None),
    ],
)
def test_plans_count_on_the_order_once_all_workers_have_it(orders: dict[str, PromptOrder], serves: bool | None):
    assert serves_on_time_first(spec(), orders) is serves


@pytest.mark.parametrize("policy", ["EngineDefault", "ShortestFirst"])
def test_plans_count_on_no_other_order(policy: str):
    told = PromptOrder(frozenset({"shortest-first"}), True)
    assert serves_on_time_first(spec(policy=policy), {"a": told}) is False
    assert serves_on_time_first(spec(policy=policy), {}) is False


def test_nothing_is_reported_where_nothing_is_asked_for():
    assert order_verdict(spec(policy="EngineDefault"), {"a": NONE}) is None
    observed = replace(look(*ALL_WELL, spec={**SPEC, "scheduling": {"policy": "EngineDefault"}}), orders={"a": PLUGIN})
    assert ConditionType.SCHEDULING_ACTIVE not in {f.type for f in findings(observed, (), None)}


def test_a_resource_is_ready_however_its_prompts_are_ordered():
    observed = replace(look(*ALL_WELL), orders={"m-prefill-x": FALLEN})
    ready = next(f for f in findings(observed, (), None) if f.type is ConditionType.READY)
    assert ready.status is ConditionStatus.TRUE


KNOWN = Planned(None, Reading(0.0, prompt_tokens=500.0))


def settings(model: EngineModel, planned: Planned | None, stored: dict[str, Any] | None = None) -> dict[str, Any]:
    observed = replace(look(*ALL_WELL, spec=SCALING), model=model)
    if stored:
        observed.children["ConfigMap", "m-prefill"] = stored  # type: ignore[index]
    assert observed.spec
    return order_settings(observed, observed.spec, planned)


def said(config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(config["data"]["scheduling.json"])
    return found


def test_workers_are_told_how_long_prompts_are(model: EngineModel):
    assert said(settings(model, KNOWN))["predictedTokens"] == 500.0


def test_times_are_those_that_were_measured(model: EngineModel):
    profile, measured = (said(settings(model, Planned(None, engine=e)))["times"] for e in (None, model.corrected(1.5)))
    largest, as_measured = profile["passPoints"][-1], measured["passPoints"][-1]
    assert as_measured["tokens"] == largest["tokens"]
    assert as_measured["seconds"] == pytest.approx(1.5 * largest["seconds"], rel=1e-3)


@pytest.mark.parametrize("planned", [None, Planned(None), Planned(None, Reading(0.0))])
def test_a_load_that_is_not_known_leaves_what_was_told(model: EngineModel, planned: Planned | None):
    stored = settings(model, KNOWN)
    assert settings(model, planned, stored) == stored
    assert "predictedTokens" not in said(settings(model, planned))
