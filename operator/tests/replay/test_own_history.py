"""A resource's own past as a trace, and what a change of its spec would have done to it."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.autoscaler import PastLoad
from dopd.perf import EngineModel
from dopd.planning import Demand, PerRole
from dopd.replay.change_report import ChangeReport, changes
from dopd.replay.own_history import OfSpec, Variant, most_gpus, replayed, trace_of
from dopd.replay.profiles import load_profile
from dopd.replay.runner import Result

BEGIN = datetime(2026, 11, 30, 9, tzinfo=UTC).timestamp()
MINUTES = 6
ENGINE = EngineModel.from_profile(load_profile("llama-3.1-8b-h100"))


def bins(rate: float = 40.0, uncached: float = 1.0, before: int = 10) -> tuple[PastLoad, ...]:
    """Minutes of a steady load that begins ten minutes before the trace."""
    demand = Demand(rate, 2000.0, 1.5 * 2000.0**2, 200.0, uncached, 1.5 * 200.0**2)
    return tuple(PastLoad(BEGIN + 60.0 * (k + 1), 60.0, demand) for k in range(-before, MINUTES))


def spec(**changes_of_scaling: object) -> DisaggregatedInferenceSpec:
    return DisaggregatedInferenceSpec.model_validate(
        {
            "model": "m",
            "engine": {"image": "sglang:v0.5.23"},
            "prefill": {"gpus": 1},
            "decode": {"gpus": 1},
            "router": {"image": "smg:1.13.0"},
            "scaling": {
                "prefill": {"min": 1, "max": 9},
                "decode": {"min": 1, "max": 9},
                "profileRef": {"name": "p"},
                **changes_of_scaling,
            },
        }
    )


def variant(name: str, of: DisaggregatedInferenceSpec, plugin: bool = False) -> Variant:
    return Variant(name, of, ENGINE, PerRole(60.0, 90.0), plugin)


def test_the_trace_has_the_requests_and_lengths_of_the_bins():
    trace = trace_of("ns/m", bins(), BEGIN)
    assert len(trace) == 40 * 60 * MINUTES
    assert 0 <= trace.arrival_seconds[0] < 1
    assert MINUTES * 60 - 1 < trace.duration_seconds <= MINUTES * 60
    assert trace.input_tokens.mean() == pytest.approx(2000, rel=0.02)
    assert np.std(trace.input_tokens) / trace.input_tokens.mean() == pytest.approx(0.5**0.5, rel=0.03)
    assert trace.output_tokens.mean() == pytest.approx(200, rel=0.02)


def test_prompts_are_what_the_cache_did_not_hold():
    assert trace_of("ns/m", bins(uncached=0.25), BEGIN).input_tokens.mean() == pytest.approx(500, rel=0.02)


def test_a_past_without_requests_is_refused():
    with pytest.raises(ValueError, match="0 requests; expected 1 to"):
        trace_of("ns/m", bins(rate=0.0), BEGIN)


def served(of: Variant) -> Result:
    past = bins()
    before = tuple(one for one in past if one.end_seconds <= BEGIN)
    return replayed(of, trace_of("ns/m", past, BEGIN), before, BEGIN)


def test_a_budget_that_is_too_small_shows_before_it_is_merged():
    before, after = variant("before", spec()), variant("after", spec(gpuBudget={"max": 2}))
    results = served(before), served(after)
    assert results[0].attainment > 0.99 > results[1].attainment
    assert most_gpus(results[1], after) == 2 < most_gpus(results[0], before)
    report = ChangeReport(
        "ns/m", BEGIN, trace_of("ns/m", bins(), BEGIN), tuple(zip((before, after), results, strict=True)), "URL"
    )
    text = report.as_markdown()
    assert "2026-11-30 09:00 UTC to 2026-11-30 09:05 UTC" in text
    assert "- `spec.scaling.gpuBudget`: absent to" in text
    assert "loses the objective" in text
    assert not report.reaches
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {5}, "each row has all cells"


def test_static_replicas_are_held():
    static = spec().model_copy(update={"scaling": None})
    of_roles = {role: getattr(static, role).model_copy(update={"replicas": 3}) for role in ("prefill", "decode")}
    result = served(variant("static", static.model_copy(update=of_roles)))
    assert (result.changes, result.timeline) == (0, ((0.0, 3, 3),))


def test_bounds_that_contradict_each_other_are_told_by_name():
    with pytest.raises(ValueError, match=r"after: spec\.scaling\.gpuBudget\.max is 2 GPUs, the minimum"):
        served(variant("after", spec(gpuBudget={"max": 2}, prefill={"min": 2, "max": 4})))


def test_a_schedule_holds_at_its_time():
    night = {"name": "night", "timeZone": "Etc/UTC", "start": "10 9 * * *", "end": "0 12 * * *"}
    policy = OfSpec(variant("v", spec(schedules=[{**night, "prefill": {"min": 5, "max": 9}}])), (), BEGIN)
    assert policy.policy(0.0).prefill.min == 1
    assert policy.policy(11 * 60.0).prefill.min == 5


def test_the_order_needs_the_plugin_and_the_policy():
    assert variant("v", spec(), plugin=True).on_time_first
    assert not variant("v", spec()).on_time_first
    default = spec().model_copy(update={"scheduling": spec().scheduling.model_copy(update={"policy": "EngineDefault"})})
    assert not replace(variant("v", default), plugin=True).on_time_first


def test_fields_that_differ_are_named():
    before, after = {"a": {"b": 1, "c": 2}, "d": None}, {"a": {"b": 1, "c": 3}, "d": {"e": 1}}
    assert list(changes(before, after)) == ["- `spec.a.c`: `2` to `3`", "- `spec.d`: absent to `{'e': 1}`"]
