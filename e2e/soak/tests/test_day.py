"""The load of a day, and what it needs."""

import pytest

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.profile import EngineProfileSpec
from dopd.perf import EngineModel
from dopd.planning import Policy
from e2e.demo.fitting import needs
from e2e.soak import ground
from e2e.soak.day import DAY, GREATEST_RATE, arrivals, rate_at


@pytest.mark.parametrize(("share", "rate"), DAY)
def test_the_rate_goes_through_its_points(share: float, rate: float) -> None:
    assert rate_at(share) == pytest.approx(rate)


def test_between_two_points_it_is_straight() -> None:
    (left, before), (right, after) = DAY[1:3]
    assert rate_at((left + right) / 2) == pytest.approx((before + after) / 2)
    assert rate_at(1.5) == DAY[-1][1]


def test_as_many_requests_come_as_the_rate_of_the_hour_says() -> None:
    schedule = arrivals(ground.ENGINES, 2400.0, seed=24)
    for begin, end in ((0.0, 0.1), (0.28, 0.42), (0.5, 0.54), (0.95, 1.0)):
        count = sum(2400 * begin <= each.at_seconds < 2400 * end for each in schedule)
        mean = sum(rate_at(begin + (end - begin) * (step + 0.5) / 50) for step in range(50)) / 50
        expected = 2400 * (end - begin) * mean
        assert abs(count - expected) < 4 * expected**0.5
    lengths = [each.input_tokens for each in schedule]
    shortest, longest = ground.ENGINES.prompt_tokens
    assert shortest <= min(lengths) < max(lengths) <= longest
    assert schedule == arrivals(ground.ENGINES, 2400.0, seed=24)
    assert schedule != arrivals(ground.ENGINES, 2400.0, seed=25)


def test_the_day_asks_for_the_fewest_workers_and_for_many_and_never_for_more_than_there_are() -> None:
    profile, _ = ground.profile_objects()
    model = EngineModel.from_profile(EngineProfileSpec.model_validate(profile["spec"]))
    spec = DisaggregatedInferenceSpec.model_validate(ground.resource("soak")["spec"])
    found = needs(arrivals(ground.ENGINES, 2400.0, seed=24), model, Policy.from_spec(spec, now_seconds=0.0))
    prefill, decode = [each.prefill for each in found], [each.decode for each in found]
    least, most = ([bounds[end] for bounds in ground.BOUNDS] for end in ("min", "max"))
    assert min(prefill) <= least[0] < max(prefill)
    assert min(decode) <= least[1] < max(decode)
    assert max(prefill) <= most[0]
    assert max(decode) <= most[1]
    assert GREATEST_RATE <= 9.0, "what two cores carry"


@pytest.mark.parametrize("bounds", ground.OTHER_BOUNDS)
def test_bounds_fit_the_budget_and_leave_two_of_each_role(bounds: tuple[dict[str, int], dict[str, int]]) -> None:
    assert sum(of["min"] for of in bounds) <= ground.GPUS
    assert all(2 <= of["min"] < of["max"] for of in bounds)


def test_the_engines_read_the_profile_that_is_planned_with() -> None:
    profile, config = ground.profile_objects()
    assert f"correction: {profile['spec']['correction']}" in config["data"]["profile.yaml"]
    assert profile["spec"]["correction"] != 0.2
