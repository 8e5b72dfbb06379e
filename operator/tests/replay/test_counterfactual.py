"""What others would have used on a resource's own arrivals."""

import pytest

from dopd.autoscaler import PastLoad
from dopd.planning import Demand
from dopd.replay.counterfactual import POLICIES, newest, would_have
from dopd_forecasting import ProcessExecutor

from .test_own_history import BEGIN, MINUTES, bins, spec, variant


def long_prompts(rate: float = 1.0) -> tuple[PastLoad, ...]:
    """Few requests that are much work: six minutes, of which the second and the third have four times the load."""

    def demand(minute: int) -> Demand:
        return Demand(4 * rate if minute in (1, 2) else rate, 15000.0, 1.1 * 15000.0**2, 50.0, 1.0, 1.1 * 50.0**2)

    return tuple(PastLoad(BEGIN + 60.0 * (k + 1), 60.0, demand(k)) for k in range(-3, MINUTES))


@pytest.mark.parametrize(
    ("seconds", "most", "minutes"),
    [
        (3600.0, 1e9, 10 + MINUTES),
        (240.0, 1e9, 4),
        (3600.0, 3 * 2400.0, 3),
        (3600.0, 3 * 2400.0 - 1, 2),
        (3600.0, 1.0, 1),
    ],
)
def test_the_newest_part_is_no_longer_and_no_larger_than_allowed(seconds: float, most: float, minutes: int):
    past = bins()
    assert past[-1].end_seconds - newest(past, seconds, most) == minutes * 60


def test_each_policy_meets_the_objective_and_none_is_cheaper_than_hindsight():
    of, past = variant("as it is", spec()), long_prompts()
    found = {policy: would_have(policy, of, past, BEGIN) for policy in POLICIES}
    assert {one.requests for one in found.values()} == {60 * (4 * 2 + 4)}
    assert all(one.reaches and one.attainment >= 0.99 for one in found.values()), found
    least = min(one.gpu_hours for one in found.values())
    assert found["hindsight"].gpu_hours == least > 0
    assert found["static"].setting.count("+") == 1, "counts of both roles"
    assert "targets" in found["hpa"].setting


def test_bounds_of_the_spec_hold_dopd_alone():
    tight = variant("as it is", spec(gpuBudget={"max": 2}))
    past = long_prompts(rate=2.0)
    ours, fixed = (would_have(policy, tight, past, BEGIN) for policy in ("dopd", "static"))
    assert not ours.reaches
    assert fixed.reaches
    assert fixed.gpu_hours > ours.gpu_hours


def test_it_is_a_call_for_another_process():
    executor = ProcessExecutor(longest_seconds=60.0, most_mib=512.0, name="replays")
    try:
        call = executor.submit(would_have, "dopd", variant("as it is", spec()), bins(rate=5.0), BEGIN)
        assert call.result().reaches
    finally:
        executor.shutdown()


def test_a_past_without_requests_is_refused():
    with pytest.raises(ValueError, match="0 requests; expected 1 to"):
        would_have("static", variant("as it is", spec()), bins(rate=0.0), BEGIN)
