"""What status and explain say of a resource, and that the formulas give what the autoscaler decides."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from dopd.api.status import Condition, ConditionStatus, DisaggregatedInferenceStatus
from dopd.cli import explain, resource, status
from dopd.cli.errors import Failed
from dopd.planning import Demand, PerRole, Policy, size
from dopd.planning.workings import at_lengths, work_out

from .found import DEMAND, ENGINE, LEADS, NOW, found, spec

POLICY = Policy.from_spec(spec(), NOW.timestamp(), LEADS)


def text(lines: Iterable[str]) -> str:
    return "\n".join(lines)


@pytest.mark.parametrize("rate", [0.0, 0.5, 20.0, 200.0])
def test_the_formulas_give_what_is_decided(rate: float):
    demand = DEMAND.at(rate)
    worked, sized = work_out(PerRole(demand, demand), ENGINE, POLICY), size(demand, ENGINE, POLICY.objectives)
    assert worked.needed == (sized.prefill, sized.decode)
    assert worked.pairs[0].expected == sized.expected
    assert min(worked.limits.values()) == sized.batch_limit
    for less in worked.pairs[1:]:
        assert less.gpus == worked.pairs[0].gpus - 1
        assert less.expected.attainment <= worked.pairs[0].expected.attainment
    assert [row.workers for row in worked.prefill] == sorted(
        {max(1, sized.prefill - 1), *range(sized.prefill, sized.prefill + 2)}
    )


def test_other_lengths_spread_as_before():
    longer = at_lengths(DEMAND, input_tokens=4000.0, output_tokens=100.0)
    assert longer.requests_per_second == DEMAND.requests_per_second
    assert longer.input_tokens_second_moment / longer.input_tokens**2 == pytest.approx(2.0)
    assert longer.output_tokens_squared_cv == pytest.approx(DEMAND.output_tokens_squared_cv)


def explained(of: resource.Found) -> str:
    plan = of.status.plan
    assert plan
    engine, policy = resource.engine_and_policy(of, NOW)
    worked = work_out(resource.demands(of), engine, policy, explain.pair(plan.target))
    return text(explain.lines(of, plan, worked, policy, NOW))


def test_explain_names_loads_formulas_and_what_one_worker_less_would_do():
    one = found()
    said = explained(one)
    plan = one.status.plan
    assert plan
    assert f"{plan.prefill.now} ({plan.prefill.busy_now:.2f} busy)" in said
    for words in ("what arrives now", "a = λ·S = ", "D = s·ITL(b)/b = ", "the target", "misses the objective"):
        assert words in said
    assert "worked out here" not in said
    assert "bounds that bit: none" in said


def test_explain_tells_spare_workers_apart_from_those_that_a_load_needs():
    plain, spared = found(), found(spec(decode={"min": 1, "max": 20, "spare": 2}))
    said = explained(spared)
    assert "spare, beside them" not in explained(plain)
    assert any(line.split() == ["spare,", "beside", "them", "-", "2"] for line in said.splitlines())
    assert "worked out here" not in said
    before, after = (explain.pair(one.status.plan.target) for one in (plain, spared) if one.status.plan)
    assert after == (before[0], before[1] + 2)


def test_explain_names_the_field_of_a_bound_and_a_queue_without_end():
    said = explained(found(spec(gpuBudget={"max": 3})))
    assert "bounds that bit: spec.scaling.gpuBudget.max 3" in said
    assert "the target, misses the objective" in said
    assert "grows" in said


def test_explain_says_where_the_spec_has_changed_since():
    one = found()
    slower = (
        one.spec.model_copy(update={"slo": one.spec.slo.model_copy(update={"itl_seconds": 0.012})})
        if one.spec
        else None
    )
    assert "worked out here, the greatest load needs" in explained(replace(one, spec=slower))


def test_status_shows_the_load_who_decided_and_what_is_on_time():
    said = text(status.lines(found(), NOW))
    assert "50 requests/s of 2000 prompt and 200 answer tokens, 40s ago" in said
    assert "99.8% of recent requests" in said
    assert "objective 99%" in said
    assert "DECIDED BY" in said
    assert "1+1" in said


def test_status_of_a_resource_that_nobody_has_looked_at():
    said = text(status.lines(replace(found(), status=DisaggregatedInferenceStatus()), NOW))
    assert "no operator has looked at it" in said


def test_a_condition_is_bad_by_its_own_polarity():
    def of(kind: str, value: ConditionStatus) -> Condition:
        return Condition(type=kind, status=value, reason="R", message="why", last_transition_time="")

    well = [of("Ready", ConditionStatus.TRUE), of("BudgetLimited", ConditionStatus.FALSE)]
    assert "Not as it should be" not in text(status.lines(found(conditions=well), NOW))
    bad = [of("Ready", ConditionStatus.TRUE), of("BudgetLimited", ConditionStatus.TRUE)]
    assert "BudgetLimited R: why" in text(status.lines(found(conditions=bad), NOW))


@pytest.mark.parametrize(
    ("then", "told"),
    [
        ("2026-11-30T11:59:20Z", "40s"),
        ("2026-11-30T11:58:01Z", "119s"),
        ("2026-11-30T11:55:00Z", "5m"),
        ("2026-11-30T09:00:00Z", "3h"),
        ("2026-11-20T12:00:00Z", "10d"),
        ("2026-11-30T13:00:00Z", "0s"),
        ("yesterday", ""),
    ],
)
def test_how_long_ago(then: str, told: str):
    assert resource.age(then, NOW) == told


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"conditions": []}, "no operator has looked at it; run dopd doctor"),
        (
            {
                "conditions": [
                    Condition(
                        type="MetricsAvailable",
                        status=ConditionStatus.FALSE,
                        reason="R",
                        message="no answer",
                        last_transition_time="",
                    )
                ]
            },
            "MetricsAvailable is False, no answer",
        ),
    ],
)
def test_why_there_is_no_plan(change: dict[str, object], words: str):
    with pytest.raises(Failed, match=words):
        resource.demands(found(plan=None, **change))


def test_where_a_scaler_decides_there_is_no_plan():
    with pytest.raises(Failed, match=r"mode is External, so a scaler decides"):
        resource.demands(found(spec(mode="External"), plan=None, conditions=[READY]))


READY = Condition(type="Ready", status=ConditionStatus.TRUE, reason="AsExpected", last_transition_time="")


def test_a_static_resource_has_nothing_to_explain():
    one = found()
    assert one.spec
    static = replace(one, spec=one.spec.model_copy(update={"scaling": None}))
    with pytest.raises(Failed, match=r"spec.scaling is absent.*add spec.scaling"):
        resource.engine_and_policy(static, NOW)


def test_a_load_of_nothing_is_explained():
    nothing = Demand.none()
    worked = work_out(PerRole(nothing, nothing), ENGINE, POLICY, (1, 1))
    assert text(explain.together(worked, POLICY)).count("the target") == 1
