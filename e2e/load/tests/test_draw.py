from pathlib import Path

import numpy as np
import pytest

from e2e.load import read_trace
from e2e.load.traces.draw import draw

RATES = [np.array([0.0, 600.0, 1200.0]), np.array([10.0, 40.0, 40.0]), np.array([1e4, 2e4, 2e4]), np.full(3, 1e3)]


def test_rates_run_straight_from_the_middle_of_one_window_to_the_next() -> None:
    drawn = draw(RATES, 300.0, 600.0, 1.0, seed=1)
    rates = [len(drawn.window(start, 60.0)) / 60.0 for start in (0.0, 270.0, 540.0)]
    assert rates == pytest.approx([11.5, 25.0, 38.5], rel=0.15)


def test_lengths_keep_the_means_of_their_windows_and_a_share_thins_the_requests() -> None:
    drawn = draw(RATES, 900.0, 600.0, 0.5, seed=1)
    assert len(drawn) == pytest.approx(0.5 * 40 * 600, rel=0.05)
    assert np.mean([a.input_tokens for a in drawn]) == pytest.approx(500, rel=0.05)
    assert np.mean([a.output_tokens for a in drawn]) == pytest.approx(25, rel=0.05)
    assert min(a.output_tokens for a in drawn) >= 1


def test_one_seed_draws_one_trace() -> None:
    assert draw(RATES, 0.0, 600.0, 0.1, seed=3) == draw(RATES, 0.0, 600.0, 0.1, seed=3)
    assert draw(RATES, 0.0, 600.0, 0.1, seed=3) != draw(RATES, 0.0, 600.0, 0.1, seed=4)


def test_the_bundled_rates_triple_within_an_hour_and_answers_lengthen() -> None:
    trace = read_trace(Path(__file__).parents[1] / "traces" / "servegen-m-large-2h.csv.gz")
    before, after = trace.window(600.0, 1200.0), trace.window(4800.0, 1200.0)
    assert len(after) > 3 * len(before)
    assert np.mean([a.output_tokens for a in after]) > 2 * np.mean([a.output_tokens for a in before])
