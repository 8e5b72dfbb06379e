import numpy as np
import pytest

from dopd.autoscaler.minutes import Minutes


def test_bins_of_any_width_become_minutes():
    minutes = Minutes()
    minutes.learn([600.0, 660.0, 690.0, 720.0], [600.0, 60.0, 30.0, 30.0], [5.0, 5.0, 4.0, 6.0])
    assert (minutes.first, minutes.next) == (0, 12)
    assert minutes.values.tolist() == pytest.approx([5.0] * 12)


def test_between_the_middles_of_wide_bins_it_goes_straight():
    minutes = Minutes()
    minutes.learn([600.0, 1200.0], [600.0, 600.0], [10.0, 20.0])
    assert np.diff(minutes.values[5:15]).tolist() == pytest.approx([1.0] * 9)


def test_what_no_bin_covers_is_not_known():
    minutes = Minutes()
    minutes.learn([600.0, 7200.0], [600.0, 600.0], [10.0, 10.0])
    assert np.isnan(minutes.values[10:110]).all()
    assert np.isfinite(minutes.values[:10]).all()


def test_samples_make_minutes_and_a_later_history_fills_only_gaps():
    minutes = Minutes()
    for at in (15.0, 30.0, 45.0, 60.0, 315.0):
        minutes.add(at, 3.0)
    minutes.add(375.0, 3.0)
    assert np.isnan(minutes.values[1:5]).all()
    minutes.learn([300.0], [300.0], [8.0])
    assert minutes.values.tolist() == [3.0, 8.0, 8.0, 8.0, 8.0, 3.0]


def test_it_forgets_what_is_older_than_four_weeks():
    minutes = Minutes()
    for day in range(60):
        minutes.add(day * 86_400.0 + 30, float(day))
    assert 28 * 1440 <= len(minutes.values) <= 36 * 1440
    minutes.learn([86_400.0 * 60], [86_400.0 * 60], [1.0])
    assert len(minutes.values) == 28 * 1440


def test_a_history_that_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match="2 ends, 1 widths and 2 loads"):
        Minutes().learn([60.0, 120.0], [60.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="expected a positive number"):
        Minutes().learn([60.0], [0.0], [1.0])
