import pytest

from dopd.api.names import Role
from e2e.demo.scenario import FIRST_LIGHT, Settings
from e2e.demo.what_if import WhatIf, what_if
from e2e.load import Schedule

LEADS = {Role.PREFILL: 3.0, Role.DECODE: 4.0}
LEAD_IN_SECONDS = 20.0


@pytest.fixture(scope="module")
def found() -> WhatIf:
    return what_if(load(), Settings.of(FIRST_LIGHT), LEADS, LEAD_IN_SECONDS)


def load() -> Schedule:
    steady = Schedule.steady(requests_per_second=18, seconds=40, input_tokens=1000, output_tokens=150)
    return Schedule(steady.arrivals, speedup=5.0).led_in(LEAD_IN_SECONDS)


def test_a_steady_load_is_served_by_all_once_they_have_grown(found: WhatIf) -> None:
    for outcome in found.outcomes:
        assert outcome.attainment >= 0.99
        assert outcome.attainment <= min(outcome.attainment_ttft, outcome.attainment_itl)


def test_fixed_counts_cost_their_number_from_the_end_of_the_lead_in(found: WhatIf) -> None:
    ((start, prefill, decode),) = found.static.timeline
    assert start == 0.0
    counted = load().seconds - LEAD_IN_SECONDS
    assert found.static.gpu_seconds == pytest.approx((prefill + decode) * counted * 5.0, rel=1e-6)


def test_scaling_policies_begin_as_the_run_did_and_stay_within_its_bounds(found: WhatIf) -> None:
    policy = Settings.of(FIRST_LIGHT).policy
    for outcome in (found.reactive, found.reactive_by_role, found.dopd):
        assert outcome.timeline[0] == (0.0, 1, 1)
        assert len(outcome.timeline) > 1
        assert max(prefill for _, prefill, _ in outcome.timeline) <= policy.prefill.max
        assert all(seconds <= load().seconds + 5 for seconds, _, _ in outcome.timeline)


def test_a_target_for_each_role_costs_no_more_than_one_for_both_unless_only_that_was_tried(found: WhatIf) -> None:
    assert "target " in found.reactive.label
    assert (
        "targets " in found.reactive_by_role.label or found.reactive_by_role.gpu_seconds <= found.reactive.gpu_seconds
    )


def test_the_same_load_gives_the_same_figures(found: WhatIf) -> None:
    assert what_if(load(), Settings.of(FIRST_LIGHT), LEADS, LEAD_IN_SECONDS) == found
