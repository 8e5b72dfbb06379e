"""A user's pod template over the operator's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.workloads.merge import overlay


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        ({"a": 1, "b": {"c": 2}}, {"b": {"d": 3}}, {"a": 1, "b": {"c": 2, "d": 3}}),
        ({"a": 1}, {"a": None}, {}),
        (
            [{"name": "engine", "image": "x"}],
            [{"name": "engine", "env": []}, {"name": "side"}],
            [{"name": "engine", "image": "x", "env": []}, {"name": "side"}],
        ),
        ([{"key": "a"}], [{"key": "b"}], [{"key": "a"}, {"key": "b"}]),
        (
            [{"name": "shm", "mountPath": "/dev/shm"}],
            [{"name": "shm", "mountPath": "/dev/shm", "readOnly": True}],
            [{"name": "shm", "mountPath": "/dev/shm", "readOnly": True}],
        ),
        (
            {"volumes": [{"name": "cache", "emptyDir": {}}]},
            {
                "volumes": [
                    {"name": "cache", "persistentVolumeClaim": {"claimName": "c"}},
                    {"name": "x", "emptyDir": {}},
                ]
            },
            {
                "volumes": [
                    {"name": "cache", "persistentVolumeClaim": {"claimName": "c"}},
                    {"name": "x", "emptyDir": {}},
                ]
            },
        ),
        (
            {"volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}]},
            {"volumes": [{"name": "shm", "emptyDir": {"sizeLimit": "1Gi"}}]},
            {"volumes": [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}]},
        ),
        (["a"], ["b"], ["a", "b"]),
        ({"a": [1]}, {"a": "x"}, {"a": "x"}),
    ],
)
def test_overlay(base, over, merged):
    assert overlay(base, over) == merged


scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
trees = st.recursive(
    scalars, lambda inner: st.dictionaries(st.text("abc", max_size=2), inner, max_size=3), max_leaves=8
)


@given(trees)
def test_an_empty_template_changes_nothing(base):
    if isinstance(base, dict):
        assert overlay(base, {}) == base


def test_neither_side_is_changed():
    base, over = {"a": {"b": [1]}}, {"a": {"b": [2], "c": 3}}
    overlay(base, over)
    assert (base, over) == ({"a": {"b": [1]}}, {"a": {"b": [2], "c": 3}})
