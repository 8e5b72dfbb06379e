from dataclasses import replace

from e2e.demo.record import Run
from e2e.demo.terminal import WIDTH, bars, line, picture


def test_a_bar_is_as_high_as_its_share_of_the_top_over_all_lines() -> None:
    upper, lower = bars([(0.0, 2.0), (16.0, 4.0), (32.0, 8.0), (48.0, 6.0)], 64.0, top=8.0, height=2)
    assert [upper[column] for column in (0, 16, 32, 48)] == [" ", " ", "█", "▄"]
    assert [lower[column] for column in (0, 16, 32, 48)] == ["▄", "█", "█", "█"]


def test_a_value_stands_until_the_next_and_nothing_is_drawn_of_the_future() -> None:
    (drawn,) = bars([(1.0, 1.0), (32.0, 1.0)], 64.0, top=1.0)
    assert drawn == " " + "█" * 32
    assert bars([], 64.0, top=1.0) == [""]


def test_the_least_of_something_is_seen() -> None:
    (drawn,) = bars([(0.0, 0.001), (1.0, 0.0)], WIDTH, top=10.0)
    assert drawn == "▁"


def test_the_picture_tells_what_serves_and_what_clients_meet(run: Run) -> None:
    drawn = picture(run, 46.0)
    for words in ("minute 3 of the trace", "4 ok, 1 lost", "3/3", "2/2", "3:2", "100%", "1+1 -> 4+4 DemandRose"):
        assert words in drawn
    assert max(len(row) for row in drawn.splitlines()) <= 96


def test_a_run_that_has_just_begun_can_be_drawn(run: Run) -> None:
    begun = replace(run, results=[], samples=[], decisions=[])
    assert "lead-in" in picture(begun, 0.5)
    assert "DemandRose" not in line(begun, 0.5)


def test_a_line_names_a_decision_once(run: Run) -> None:
    assert line(run, 20.0).endswith("1+1 -> 4+4 DemandRose")
    assert not line(run, 25.0).endswith("DemandRose")
