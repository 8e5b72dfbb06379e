"""Quantiles of samples: what numpy and a plain count say."""

import warnings

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dopd.autoscaler.quantiles import middle, upper

numbers = st.floats(-100, 100)
tables = arrays.arrays(
    float, st.tuples(st.integers(0, 4), st.integers(1, 6), st.integers(1, 3)), elements=numbers | st.just(float("nan"))
)


@given(tables)
def test_the_middle_of_what_is_known_is_numpys(values: np.ndarray):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a column without any number
        expected = np.nanmedian(values, axis=1)
    assert np.array_equal(middle(values), expected, equal_nan=True)


@given(st.lists(st.tuples(numbers, st.integers(0, 3)), min_size=1, max_size=9), st.floats(0.01, 0.99))
def test_no_more_than_the_chance_lies_above(told: list[tuple[float, int]], miss: float):
    values, weights = np.array([[value for value, _ in told]]), np.array([[float(weight) for _, weight in told]])
    found = upper(values, weights, np.array([miss]))[0, 0]
    if not weights.sum():
        assert np.isnan(found)
        return
    assert weights[values > found].sum() <= miss * weights.sum() + 1e-9
    assert weights[values >= found].sum() > miss * weights.sum() - 1e-9
