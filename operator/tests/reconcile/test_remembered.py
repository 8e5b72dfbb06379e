"""Results are kept by what a value says."""

import copy
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.reconcile.remembered import Remembered

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(JSON, max_size=12), st.integers(1, 4))
def test_it_answers_what_the_function_would(values: list[Any], most: int):
    remembered = Remembered(repr, most)
    for value in [*values, *values]:
        assert remembered(copy.deepcopy(value)) == repr(value)


def test_the_function_is_asked_once_for_as_long_as_the_result_is_kept():
    asked = Counter[str]()

    def make(value: Any) -> object:
        asked[str(value)] += 1
        return object()

    remembered = Remembered(make, 2)
    first = remembered({"a": [1]})
    assert remembered({"a": [1]}) is first
    remembered("b")
    remembered({"a": [1]})
    remembered("c")  # "b" was asked for before {"a": [1]}, so it makes room
    assert remembered({"a": [1]}) is first
    remembered("b")
    assert asked == {"{'a': [1]}": 1, "b": 2, "c": 1}


def test_what_is_raised_is_not_kept():
    answers = iter([ValueError("no"), 7])

    def make(_: Any) -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    remembered = Remembered(make, 2)
    with pytest.raises(ValueError, match="no"):
        remembered({})
    assert remembered({}) == 7


def test_what_is_nested_deeper_than_can_be_written_is_handed_on():
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert Remembered(lambda value: len(value), 2)(deep) == 1
