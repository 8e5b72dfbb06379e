import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dopd_forecasting.combination import MIN_SCORED_BINS, Skill, floored, weights
from dopd_forecasting.lead_buffer import LeadBuffer

ERRORS = arrays(float, (2, 4), elements=st.one_of(st.floats(0, 1e12), st.just(np.inf)))


@given(ERRORS, arrays(bool, (2, 4)))
def test_shares_are_a_distribution_over_usable_models(errors: np.ndarray, usable: np.ndarray) -> None:
    shares = weights(errors, usable)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert (shares >= 0).all()
    assert (shares[:, 1:][~usable[:, 1:]] == 0).all()


def test_the_better_model_gets_more_and_the_floor_all_where_nothing_is_known() -> None:
    shares = weights(np.array([[2.0, 1.0, 4.0], [np.inf, np.inf, np.inf]]), np.ones((2, 3), dtype=bool))
    assert shares[0, 1] > 0.9
    assert shares[1].tolist() == [1, 0, 0]


def test_a_perfect_model_takes_all() -> None:
    assert weights(np.array([[1.0, 0.0]]), np.ones((1, 2), dtype=bool)).tolist() == [[0.0, 1.0]]


def test_where_the_mix_has_been_worse_the_floor_gets_all() -> None:
    shares = np.array([[0.2, 0.8], [0.2, 0.8], [0.2, 0.8]])
    judged = np.array([[1.0, 1.1], [1.0, 0.9], [np.inf, np.inf]])
    assert floored(shares, judged).tolist() == [[1, 0], [0.2, 0.8], [0.2, 0.8]]


def test_forecasts_meet_the_bin_that_they_were_made_for() -> None:
    buffer = LeadBuffer((1, 3), width=1)
    met = []
    for bin_number in range(8):
        met.append(buffer.advance()[:, 0])
        buffer.say(np.full((2, 1), float(bin_number)))
    assert [pair[0] for pair in met[1:]] == [0, 1, 2, 3, 4, 5, 6]
    assert [pair[1] for pair in met[3:]] == [0, 1, 2, 3, 4]
    assert np.isnan([pair[1] for pair in met[:3]]).all()


def test_skill_is_unknown_until_enough_bins_were_scored_and_missing_bins_score_nothing() -> None:
    skill = Skill((1,), 2)
    for step in range(2 * MIN_SCORED_BINS):
        skill.say(np.array([[10.0, np.nan]]))
        skill.observe(12.0 if step % 2 else np.nan)
        known = skill.scored_bins[0, 0]
        assert skill.errors[0, 0] == (2.0 if known >= MIN_SCORED_BINS else np.inf)
    assert skill.errors[0, 1] == np.inf


def test_old_errors_fade() -> None:
    skill = Skill((1,), 1)
    for value in [0.0] * 300 + [9.0] * 300:
        skill.say(np.array([[10.0]]))
        skill.observe(value)
    assert skill.errors[0, 0] == pytest.approx(1.0, abs=0.05)
