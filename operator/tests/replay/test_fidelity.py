"""The wait model against the simulated cluster."""

import pytest

from dopd.planning.queueing import LATE_BY_ORDER
from dopd.replay.fidelity import late_in_order


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_order_makes_no_more_late_than_is_planned_for_and_not_far_fewer(workers: int):
    has_to_be, late = late_in_order(0.8, 16, workers, 0.95, count=6_000)
    planned = LATE_BY_ORDER * has_to_be
    assert planned / 6 < late < planned
