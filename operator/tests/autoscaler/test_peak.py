from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dopd.autoscaler import PeakForecast, Tuning
from dopd.autoscaler.voices import MOST_GROWTH, prior_deviation

LEAD_SECONDS = 180.0
SPACING = Tuning().spacing_seconds
loads = st.lists(st.integers(0, 10_000).map(lambda hundredths: hundredths / 100), min_size=1, max_size=60)


def after(values: list[float] | np.ndarray, lead_seconds: float = LEAD_SECONDS) -> PeakForecast:
    peak = PeakForecast(Tuning(), lead_seconds)
    for i, load in enumerate(values):
        peak.observe(i * SPACING, float(load))
    return peak


@given(values=loads, rarer=st.floats(0.001, 0.5), more=st.floats(0, 0.49))
def test_a_rarer_peak_is_no_lower_and_none_is_below_the_load_of_now(values: list[float], rarer: float, more: float):
    high, low = after(values).quantile(rarer), after(values).quantile(rarer + more)
    assert high >= low - 1e-9
    assert low >= values[-1] - 1e-9


@given(values=loads, scale=st.floats(0.5, 1000), miss=st.floats(0.01, 0.8))
def test_it_does_not_depend_on_the_unit(values: list[float], scale: float, miss: float):
    if max(values) < 0.01:
        return
    expected = scale * after(values).quantile(miss)
    assert after([scale * load for load in values]).quantile(miss) == pytest.approx(
        expected, rel=1e-3, abs=1e-3 * scale
    )


def test_before_anything_was_seen_a_walk_is_expected_that_grows_with_the_lead():
    soon, later = after([10.0], 75.0).quantile(0.1), after([10.0], 300.0).quantile(0.1)
    assert soon == pytest.approx(10 * (1 + 0.12 * (0.8 + 1.15)), rel=0.05)
    assert later - 10 == pytest.approx(2 * (soon - 10), rel=0.01)


def test_a_load_that_stands_still_needs_no_margin_once_that_is_known():
    assert after([10.0] * 4 * 60 * 12).quantile(0.05) == pytest.approx(10.0, rel=0.02)


def test_the_peak_exceeds_it_as_often_as_is_said():
    """A load that wanders around a level, as most do: an autoregression, two days of it, asked each half lead."""
    generator, value, values = np.random.default_rng(3), 0.0, []
    for _ in range(2880):
        value = 0.98 * value + generator.normal(0, 1)
        values.append(max(1.0, 40 + value))
    peak = PeakForecast(Tuning(spacing_seconds=60.0), 600.0)
    missed: dict[float, list[bool]] = {0.4: [], 0.1: []}
    for i, load in enumerate(values[:-10]):
        peak.observe(60.0 * i, load)
        if i > 720 and i % 5 == 0:
            for miss, found in missed.items():
                found.append(max(values[i + 1 : i + 11]) > peak.quantile(miss))
    for miss, found in missed.items():
        assert miss / 2 < np.mean(found) < 1.5 * miss


def mornings(days: int) -> np.ndarray:
    """A sample a minute: 4, and 40 from nine to five, each day."""
    minute = np.arange(days * 1440) % 1440
    return np.where((minute >= 540) & (minute < 1020), 40.0, 4.0)


def known(load: np.ndarray, lead_seconds: float) -> PeakForecast:
    """One that has just read all of `load`, a bin a minute, and has taken one sample since."""
    peak = PeakForecast(Tuning(), lead_seconds)
    peak.learn((np.arange(len(load)) + 1) * 60.0, np.full(len(load), 60.0), load)
    peak.observe(60.0 * len(load) + 5, float(load[-1]))
    return peak


def test_a_fresh_one_that_reads_a_history_holds_for_the_morning():
    load = mornings(9)
    before_nine = 8 * 1440 + 540 - 5
    assert known(load[:before_nine], 600.0).quantile(0.1) == pytest.approx(40, rel=0.1)
    assert known(load[before_nine - 300 : before_nine], 600.0).quantile(0.1) < 10


def test_a_morning_that_is_no_more_than_minutes_away_is_held_for_only_then():
    load = mornings(9)
    assert known(load[: 8 * 1440 + 540 - 60], 600.0).quantile(0.02) == pytest.approx(4, rel=0.1)


def test_looks_that_follow_closely_are_one_sample():
    one, other = after([10.0, 20.0]), after([10.0, 20.0])
    other.observe(SPACING + 3, 500.0)
    assert other.quantile(0.1) == one.quantile(0.1)


def test_asking_changes_nothing():
    peak = known(mornings(3), 600.0)
    first = [peak.quantile(miss) for miss in (0.4, 0.1, 0.02)]
    assert [peak.quantile(miss) for miss in (0.4, 0.1, 0.02)] == first


def test_a_monday_is_not_held_like_a_sunday_nor_a_saturday_like_a_friday():
    load = mornings(24)
    quiet = (np.arange(len(load)) // 1440) % 7 >= 5
    load = np.where(quiet, 4.0, load)
    monday, saturday = 21 * 1440 + 535, 19 * 1440 + 535
    assert known(load[:monday], 600.0).quantile(0.1) == pytest.approx(40, rel=0.1)
    assert known(load[:saturday], 600.0).quantile(0.1) < 8


def test_a_morning_that_does_not_come_is_not_held_for_all_day():
    load = mornings(16)
    load[15 * 1440 :] = 4.0
    assert known(load[: 15 * 1440 + 535], 600.0).quantile(0.4) > 30
    assert known(load[: 15 * 1440 + 540 + 180], 600.0).quantile(0.4) < 10


def test_a_later_history_is_taken_in_and_an_old_one_is_not():
    load = mornings(9)
    ends, widths = (np.arange(len(load)) + 1) * 60.0, np.full(len(load), 60.0)
    at_once, in_parts = PeakForecast(Tuning(), 600.0), PeakForecast(Tuning(), 600.0)
    now = 8 * 1440 + 535
    at_once.learn(ends[:now], widths[:now], load[:now])
    in_parts.learn(ends[: 6 * 1440], widths[: 6 * 1440], load[: 6 * 1440])
    in_parts.learn(ends[:now], widths[:now], load[:now])
    in_parts.learn(ends[:1440], widths[:1440], 100 * load[:1440])
    for peak in (at_once, in_parts):
        peak.observe(now * 60.0 + 5, 4.0)
    assert in_parts.quantile(0.1) == pytest.approx(at_once.quantile(0.1), rel=0.01)


def test_another_lead_is_another_window():
    load = mornings(9)
    peak = known(load[: 8 * 1440 + 540 - 25], 600.0)
    assert peak.quantile(0.1) < 8
    peak.set_lead(620.0)
    assert peak.quantile(0.1) < 8
    peak.set_lead(1800.0)
    assert peak.quantile(0.1) == pytest.approx(40, rel=0.1)


def test_no_plan_asks_for_a_multiple_of_the_greatest_load_ever_seen():
    """Bursts from nothing: added to a load that is at its peak, a rise would double it."""
    rng = np.random.default_rng(4)
    load = np.repeat(np.where(rng.random(240) < 0.1, 11.0, 0.5), 4)
    load[-4:] = 11.0
    assert after(load, 180.0).quantile(0.001) < 1.4 * 11


@given(
    values=st.lists(st.one_of(st.floats(0, 1e-3), st.floats(0, 50)), min_size=1, max_size=80),
    miss=st.floats(5e-4, 0.8),
    lead_seconds=st.sampled_from([10.0, 180.0, 600.0]),
)
def test_a_load_that_began_from_next_to_nothing_is_not_expected_to_grow_as_much_again(
    values: list[float], miss: float, lead_seconds: float
):
    """A fresh resource: the first sample is nearly zero, so each rise after it is a million times of that."""
    walk = prior_deviation(Tuning(), lead_seconds) * (0.8 + NormalDist().inv_cdf(1 - miss))
    most = max(values) * (MOST_GROWTH + max(0.0, walk))
    assert after(values, lead_seconds).quantile(miss) <= max(most, values[-1]) * 1.001 + 1e-9


def test_the_voices_share_the_say():
    peak = known(mornings(9)[: 8 * 1440 + 535], 600.0)
    assert sum(voice.share for voice in peak.voices) == pytest.approx(1)
    points = {voice.name: voice.point for voice in peak.voices}
    assert points == pytest.approx({"newest": 4, "level": 4, "alike": 4, "day": 40, "week": 40}, rel=0.01)


def test_a_history_that_comes_after_the_first_samples_tells_as_much():
    load = mornings(9)
    now = 8 * 1440 + 530
    ends, widths = (np.arange(now) + 1) * 60.0, np.full(now, 60.0)
    first, later = PeakForecast(Tuning(), 600.0), PeakForecast(Tuning(), 600.0)
    first.learn(ends, widths, load[:now])
    for peak in (first, later):
        for i in range(1, 20):
            peak.observe(now * 60.0 + 15 * i, 4.0)
    assert later.quantile(0.1) < 10
    later.learn(ends, widths, load[:now])
    assert later.quantile(0.1) == pytest.approx(first.quantile(0.1), rel=0.02)
    assert later.quantile(0.1) > 30


bins = st.lists(
    st.tuples(st.sampled_from([15.0, 60.0, 300.0, 3600.0, 14_400.0]), st.booleans(), st.floats(0, 50)), max_size=40
)


@settings(deadline=None, max_examples=60)
@given(past=bins, samples=st.lists(st.floats(0, 50), min_size=1, max_size=8), noise=st.sampled_from([0.0, 0.3]))
def test_any_history_gives_a_plan_that_is_a_number_and_never_below_what_stands(past, samples, noise):
    peak, end = PeakForecast(Tuning(), 600.0), 1e9
    kept = []
    for width, missing, load in past:
        end += width
        kept += [] if missing else [(end, width, load)]
    peak.learn(*([one[i] for one in kept] for i in range(3)), [noise] * len(kept))
    for i, load in enumerate(samples):
        peak.observe(end + 15.0 * (i + 1), load, noise)
    said = [peak.quantile(miss) for miss in (0.8, 0.4, 0.1, 0.001)]
    assert np.isfinite(said).all()
    assert all(high >= low - 1e-9 for low, high in pairwise(said))
    assert said[0] >= {voice.name: voice.point for voice in peak.voices}["newest"] - 1e-9
