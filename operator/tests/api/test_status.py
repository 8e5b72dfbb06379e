"""A status that another version wrote: what can be read counts, the rest is left out."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.api.status import DisaggregatedInferenceStatus, read_status

LOAD = {"requestsPerSecond": 1.0, "inputTokens": 2.0, "outputTokens": 3.0}
DECISION = {"time": "t", "from": "1+1", "to": "2+1", "reason": "r", "message": "m"}
CONDITION = {"type": "Ready", "status": "True", "reason": "r", "lastTransitionTime": "t"}
WHOLE: dict[str, Any] = {
    "observedGeneration": 3,
    "conditions": [CONDITION],
    "prefill": {"desired": 1, "ready": 1, "summary": "1/1"},
    "load": {"time": "t", "demand": LOAD, "prefill": LOAD, "decode": LOAD},
    "missShare": 0.25,
    "decisions": [DECISION],
}


@pytest.mark.parametrize(
    ("field", "stored", "read"),
    [
        ("decisions", [{**DECISION, "message": None}, DECISION], [DECISION]),
        ("decisions", [{"time": "t"}, DECISION, "x"], [DECISION]),
        ("decisions", [["x"], []], []),
        ("decisions", [{**DECISION, "to": str(n)} for n in range(12)], [{**DECISION, "to": str(n)} for n in range(10)]),
        ("missShare", 1.5, None),
        ("missShare", "half", None),
        ("load", {"time": "t", "demand": LOAD}, None),
        ("load", "high", None),
        ("conditions", {"Ready": "True"}, []),
        ("conditions", [CONDITION, {**CONDITION, "reason": "twice"}, {"type": "Old"}], [CONDITION]),
        ("observedGeneration", "many", 0),
        ("newField", {"a": 1}, None),
    ],
)
def test_one_part_at_a_time_is_left_out(field: str, stored: Any, read: Any):
    told = read_status({**WHOLE, field: stored}).model_dump(by_alias=True, exclude_unset=True, mode="json")
    assert told.get(field) == (read or told.get(field)), "what can be read"
    assert bool(told.get(field)) == bool(read)
    others = {name: value for name, value in told.items() if name != field}
    assert others == {name: value for name, value in WHOLE.items() if name != field}


NAMES = [*WHOLE, *WHOLE["load"], *LOAD, *DECISION, *CONDITION, "desired"]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=25,
)


@given(values)
def test_whatever_is_stored_a_valid_status_is_read(stored: Any):
    status = read_status(stored)
    assert DisaggregatedInferenceStatus.model_validate(status.model_dump(by_alias=True)) == status


@given(st.sampled_from(sorted(WHOLE)), values)
def test_one_field_in_whatever_form_leaves_the_others(name: str, value: Any):
    told, whole = (
        read_status({**WHOLE, name: value}).model_dump(by_alias=True),
        read_status(WHOLE).model_dump(by_alias=True),
    )
    assert {**told, name: 0} == {**whole, name: 0}
