from dopd.autoscaler.lengths import SlowLengths
from dopd.planning.demand import Demand


def test_later_requests_count_more():
    lengths = SlowLengths(100.0)
    lengths.add(0.0, 10.0, Demand(1.0, 1000, 2e6, 100))
    lengths.add(100.0, 10.0, Demand(1.0, 2000, 8e6, 100))
    assert 1500 < lengths.at(3.0).input_tokens < 2000
    assert lengths.at(3.0).requests_per_second == 3.0


def test_lengths_that_round_to_nothing_are_none():
    """A number near the smallest that there is comes from a broken counter; a share of it cannot be computed."""
    lengths = SlowLengths(100.0)
    lengths.add(0.0, 15.0, Demand(1e-30, 2.2e-313, 0.0, 0.0))
    assert lengths.at(2.0) == Demand.none().at(2.0)
