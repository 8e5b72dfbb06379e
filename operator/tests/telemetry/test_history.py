"""A history in pieces: nothing twice, nothing left out, and no more of Prometheus than it gives."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.telemetry.history import BLOCK_BINS, COARSE_BINS, FINE_BINS, fine_points, hour_pieces, pieces

BIN = 60.0
END = 1_800_000_000.0 // BIN * BIN


def ends(history_seconds: float, end_seconds: float = END) -> list[float]:
    """The ends of all bins, narrow and wide ones as narrow ones."""
    found = []
    for piece in pieces(end_seconds, history_seconds, BIN):
        count = round((piece.last_seconds - piece.first_seconds) / piece.step_seconds) + 1
        wide = [(piece.first_seconds + i * piece.step_seconds, 1.0) for i in range(count)]
        found += [end for end, _ in fine_points(piece, wide, BIN)]
    return found


@given(st.integers(1, 20_000), st.integers(0, 5000))
def test_all_bins_are_there_once(bins: int, later: int):
    end = END + later * BIN
    found = ends(bins * BIN, end)
    assert found == sorted(set(found))
    assert found[-1] == end
    assert found[0] <= end - bins * BIN + BIN
    assert len(found) == round((found[-1] - found[0]) / BIN) + 1


@given(st.integers(1, 60_000))
def test_no_piece_is_too_large(bins: int):
    assert max(piece.bins for piece in pieces(END, bins * BIN, BIN)) <= BLOCK_BINS
    assert max((piece.bins for piece in hour_pieces(END, bins * BIN, BIN)), default=0) <= 24


@given(st.integers(60, 60_000), st.integers(0, 5000))
def test_each_settled_hour_is_there_once(bins: int, later: int):
    end = END + later * BIN
    hours = [
        piece.first_seconds + i * piece.step_seconds
        for piece in hour_pieces(end, bins * BIN, BIN)
        for i in range(piece.bins)
    ]
    assert hours == [hours[0] + 3600.0 * i for i in range(len(hours))] if hours else True
    settled = [piece for piece in pieces(end, bins * BIN, BIN) if piece.settled]
    assert (hours[-1:] or [0.0]) == ([settled[-1].last_seconds] if settled else [0.0])


def test_what_is_settled_is_the_same_a_bin_later():
    settled = [piece for piece in pieces(END, 8 * 86_400.0, BIN) if piece.settled]
    later = [piece for piece in pieces(END + BIN, 8 * 86_400.0, BIN) if piece.settled]
    assert len(set(settled) & set(later)) >= len(settled) - 1
    assert {piece.step_seconds for piece in settled} == {BIN, COARSE_BINS * BIN}


def test_what_is_asked_for_each_minute_is_about_an_hour():
    newest = [pieces(END + i * BIN, 28 * 86_400.0, BIN)[-1] for i in range(1440)]
    assert max(piece.bins for piece in newest) < 70
    assert not any(piece.settled for piece in newest)
    kept = {piece for i in range(1440) for piece in pieces(END + i * BIN, 28 * 86_400.0, BIN) if piece.settled}
    first = {piece for piece in pieces(END, 28 * 86_400.0, BIN) if piece.settled}
    assert len(kept - first) <= 24 + 4 + 1, "a day adds its hours, the six hours made of them, and a piece of wide bins"


def test_four_weeks_are_coarse_but_for_two_or_three_days():
    found = pieces(END, 28 * 86_400.0, BIN)
    fine = sum(piece.bins for piece in found if piece.step_seconds == BIN)
    assert FINE_BINS <= fine <= FINE_BINS + 1440
    assert sum(piece.bins for piece in found) < 8500


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 1e16])
def test_what_is_no_number_is_not_known(value: float):
    piece = pieces(END, 600.0, BIN)[0]
    assert fine_points(piece, [(END - BIN, value), (END, 2.0)], BIN) == [(END, 2.0)]


def test_points_that_were_not_asked_for_are_left_out():
    piece = pieces(END, 600.0, BIN)[0]
    stray = [
        (END + 86_400.0, 9.0),
        (0.0, 9.0),
        (1e18, 9.0),
        (END - BIN, 1.0),
        (END, 9.0),
        (END - 2 * BIN, 3.0),
        (END, 2.0),
    ]
    assert fine_points(piece, stray, BIN) == [(END - 2 * BIN, 3.0), (END - BIN, 1.0), (END, 2.0)]
