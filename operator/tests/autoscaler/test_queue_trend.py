import pytest

from dopd.autoscaler.queue_trend import QueueTrend


@pytest.mark.parametrize(
    ("looks", "growth"),
    [
        ([(0, 0), (2, 100), (4, 300)], 50.0),
        ([(0, 0), (2, 300), (4, 400)], 50.0),
        ([(0, 0), (2, 300), (4, 200)], 0.0),
        ([(0, 0), (2, 300)], 0.0),
        ([(0, 0), (2, 100), (2.1, 900), (4, 300)], 50.0),
        ([(0, 0), (2, 100), (3, None), (4, 300), (6, 500)], 0.0),
    ],
)
def test_a_queue_grows_only_when_it_grows_look_after_look(looks: list[tuple[float, float | None]], growth: float):
    trend = QueueTrend()
    assert [trend.add(at, waiting) for at, waiting in looks][-1] == growth
