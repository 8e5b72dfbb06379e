"""A history in pieces: nothing twice, nothing left out, and no more of Prometheus than it gives."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.telemetry.history import COARSE_BINS, PIECE_POINTS, fine_points, pieces

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
    for piece in pieces(END, bins * BIN, BIN):
        assert (piece.last_seconds - piece.first_seconds) / piece.step_seconds <= PIECE_POINTS


def test_what_is_settled_is_the_same_a_bin_later():
    settled = [piece for piece in pieces(END, 8 * 86_400.0, BIN) if piece.settled]
    later = [piece for piece in pieces(END + BIN, 8 * 86_400.0, BIN) if piece.settled]
    assert len(set(settled) & set(later)) >= len(settled) - 1
    assert {piece.step_seconds for piece in settled} == {BIN, COARSE_BINS * BIN}


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
