"""Whose fault it is that a pair does not answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.rollout.proof import verdict


@pytest.mark.parametrize(
    ("answered", "others", "proved", "own", "silent"),
    [
        ({}, {}, True, (), ()),
        ({"a": True, "b": True}, {}, True, (), ()),
        ({"a": True, "b": False}, {"b": [False]}, True, (), ("b",)),
        ({"a": True, "b": False}, {"b": [True]}, False, ("b",), ()),
        ({"a": True, "b": False}, {"b": [False, True]}, False, ("b",), ()),
        ({"a": True, "b": False}, {"b": []}, False, ("b",), ()),
        ({"a": False}, {"a": []}, False, ("a",), ()),
        ({"a": False, "b": False}, {"a": [True], "b": [True]}, False, ("a", "b"), ()),
        ({"a": False, "b": False}, {"a": [False], "b": [True]}, False, ("b",), ("a",)),
        ({"a": False}, {"a": [False]}, False, ("a",), ()),
        ({"a": False, "b": False}, {"a": [False], "b": [False]}, False, ("a", "b"), ()),
    ],
    ids=[
        "nobody is there",
        "all answer",
        "one answers nobody",
        "one answers others alone",
        "one answers one of two others",
        "nobody else can try it",
        "nobody else is there",
        "it answers nobody",
        "it answers nobody, and one of them neither",
        "no canary is answered by the only partner",
        "no canary is answered at all",
    ],
)
def test_what_is_common_to_those_that_fail_is_to_blame(
    answered: dict[str, bool],
    others: dict[str, list[bool]],
    proved: bool,
    own: tuple[str, ...],
    silent: tuple[str, ...],
) -> None:
    told = verdict(answered, others)
    assert (told.proved, told.own, told.silent) == (proved, own, silent)


@given(
    st.dictionaries(st.sampled_from("abcd"), st.booleans()),
    st.dictionaries(st.sampled_from("abcd"), st.lists(st.booleans(), max_size=2)),
)
def test_each_partner_is_in_one_place_and_none_that_answered_anybody_is_silent(
    answered: dict[str, bool], others: dict[str, list[bool]]
) -> None:
    told = verdict(answered, others)
    failed = {name for name, well in answered.items() if not well}
    assert {*told.own, *told.silent} == failed
    assert not {*told.own} & {*told.silent}
    assert not {*told.silent} & {*told.well}
    assert not any(any(others[name]) for name in told.silent)
    assert told.well or not told.silent, "some canary was answered, so canaries are right"
    assert told.proved == (not told.own), "a pair that fails and is not explained keeps it out"
