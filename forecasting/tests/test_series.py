import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd_forecasting import BinState, Series

MINUTE = {"bin_seconds": 60.0, "unit": "requests/s"}


def test_samples_are_averaged_per_bin_and_an_empty_bin_is_missing() -> None:
    series = Series.from_samples([0, 30, 60, 200], [10, 20, 7, 9], **MINUTE, end=240)
    np.testing.assert_allclose(series.values, [15, 7, np.nan, 9])


def test_the_three_states_are_told_apart() -> None:
    series = Series.from_samples([0, 60, 180], [4, 0, 2], **MINUTE, end=240)
    assert series.states == [BinState.VALUE, BinState.ZERO, BinState.MISSING, BinState.VALUE]


def test_a_bin_that_is_not_complete_is_left_out() -> None:
    assert len(Series.from_samples([0, 60, 121], [1, 2, 3], **MINUTE, end=130)) == 2


def test_order_and_duplicates_do_not_matter_and_the_last_given_counts() -> None:
    series = Series.from_samples([70, 0, 70], [5, 1, 9], **MINUTE, end=120)
    np.testing.assert_allclose(series.values, [1, 9])


def test_samples_from_the_future_are_dropped() -> None:
    assert len(Series.from_samples([0, 60, 1e9], [1, 2, 3], **MINUTE, end=120)) == 2


def test_a_clock_at_the_epoch_does_not_make_a_series_of_decades() -> None:
    series = Series.from_samples([0, 1.7e9], [1, 2], **MINUTE, end=1.7e9 + 60)
    assert len(series) <= 50_000


def test_unusable_samples_count_as_not_taken() -> None:
    series = Series.from_samples([0, 60, 120, 180], [1, math.nan, math.inf, -3], **MINUTE, end=240)
    assert np.isfinite(series.values).tolist() == [True, False, False, False]


def test_bins_are_aligned_to_the_epoch() -> None:
    series = Series.from_samples([1000.5], [1], **MINUTE)
    assert (series.first_bin, series.start_seconds, series.end_seconds) == (16, 960, 1020)


def test_a_counter_becomes_a_rate() -> None:
    series = Series.from_counter([0, 60, 120], [100, 160, 160], **MINUTE, end=120)
    np.testing.assert_allclose(series.values, [1, 0])
    assert series.states[1] is BinState.ZERO


def test_a_counter_that_began_again_adds_what_it_shows() -> None:
    series = Series.from_counter([0, 60, 120], [500, 560, 30], **MINUTE, end=120)
    np.testing.assert_allclose(series.values, [1, 0.5])


def test_a_gap_between_readings_is_missing_not_zero() -> None:
    times = [*range(0, 180, 30), *range(600, 780, 30)]
    series = Series.from_counter(times, [2.0 * t for t in times], **MINUTE, end=720)
    assert series.states[4] is BinState.MISSING
    known = np.isfinite(series.values)
    np.testing.assert_allclose(series.values[known], 2)


def test_readings_off_the_grid_keep_the_rate() -> None:
    times = np.arange(7, 600, 25.0)
    series = Series.from_counter(times, 3 * times, **MINUTE, end=540)
    np.testing.assert_allclose(series.values, 3)


def test_events_are_counted_and_silence_is_a_healthy_zero() -> None:
    series = Series.from_events([0, 1, 2, 130], bin_seconds=60, unit="requests/s", end=180)
    np.testing.assert_allclose(series.values * 60, [3, 0, 1])
    assert series.states[1] is BinState.ZERO


def test_amounts_of_events_are_added() -> None:
    series = Series.from_events([0, 1], [100, 20], bin_seconds=60, unit="tokens/s", end=60)
    np.testing.assert_allclose(series.values, [2])


@pytest.mark.parametrize(("field", "value"), [("bin_seconds", 0.0), ("bin_seconds", math.nan), ("unit", "")])
def test_a_series_without_a_bin_length_or_unit_is_refused(field: str, value: float | str) -> None:
    with pytest.raises(ValueError, match=field):
        Series.from_values([1.0], **{**MINUTE, field: value})  # type: ignore[arg-type]


def test_slices_keep_their_place_in_time() -> None:
    series = Series.from_values([1, 2, 3, 4], **MINUTE, start_seconds=600)
    assert series.since(12).values.tolist() == [3, 4]
    assert series.before(12).values.tolist() == [1, 2]
    assert series.since(12).first_bin == 12
    assert len(series.since(99)) == 0


@given(
    st.lists(st.tuples(st.floats(0, 1e5), st.floats(allow_nan=True, allow_infinity=True)), max_size=40),
    st.floats(1, 600),
)
def test_any_samples_make_a_clean_series(samples: list[tuple[float, float]], bin_seconds: float) -> None:
    times, values = [t for t, _ in samples], [v for _, v in samples]
    for make in (Series.from_samples, Series.from_counter):
        series = make(times, values, bin_seconds=bin_seconds, unit="x", end=1e5)
        known = series.values[np.isfinite(series.values)]
        assert (known >= 0).all()
        assert series.end_seconds <= 1e5 + 1e-6


@given(st.lists(st.floats(0, 1e4), min_size=2, max_size=60))
def test_a_counter_without_gaps_keeps_its_total(increases: list[float]) -> None:
    times = np.arange(len(increases) + 1) * 20.0
    counts = np.concatenate([[0.0], np.cumsum(increases)])
    series = Series.from_counter(times, counts, bin_seconds=20, unit="x", end=float(times[-1]))
    assert series.values.sum() * 20 == pytest.approx(counts[-1], rel=1e-9, abs=1e-6)
