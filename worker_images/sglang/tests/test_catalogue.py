import pytest

from dopd_scheduling import ORDERS, OnTimeFirst, Settings, make

from .simulation import TIMES


def test_the_first_is_the_one_that_dopd_ships():
    assert next(iter(ORDERS.values())) is OnTimeFirst


@pytest.mark.parametrize("name", ORDERS)
def test_each_is_made_with_its_settings(name):
    settings = Settings(1.5, TIMES)
    assert make(name, settings).settings is settings


def test_an_unknown_name_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"order 'sjf': expected one of on-time-first, fcfs, shortest-first"):
        make("sjf", Settings(1.5, TIMES))
