"""What Prometheus may answer, and what of it gets further."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.api.conditions import ConditionReason
from dopd.telemetry.answers import buckets, parse_answer
from dopd.telemetry.doors import BadAnswer
from dopd.telemetry.prometheus import QueryFailed, Servers

from .server import Reply, Server

GOOD = {"metric": {"namespace": "ns"}, "value": [1, "2.5"]}
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


def vector(*result: Any, kind: str = "vector") -> bytes:
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": list(result)}}).encode()


def test_an_instant_answer():
    answer = parse_answer("vector", vector(GOOD, {"metric": {}, "value": [1.5, "NaN"], "other": 1}))
    first, second = answer["data"]["result"]
    assert first == {"metric": {"namespace": "ns"}, "value": (1.0, 2.5)}
    assert math.isnan(second["value"][1])


def test_a_range_answer():
    values = [[60, "1"], [120, "+Inf"], [180.5, "-0"]]
    answer = parse_answer("matrix", vector({"metric": {}, "values": values}, kind="matrix"))
    assert answer["data"]["result"][0]["values"] == [(60.0, 1.0), (120.0, math.inf), (180.5, 0.0)]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (None, "data.result.1"),
        ([], "data.result.1"),
        ("", "data.result.1"),
        ({}, r"data.result.1.metric: Field required|data.result.1.value: Field required"),
        ({"metric": {}}, "data.result.1.value: Field required"),
        ({"metric": None, "value": [1, "1"]}, "data.result.1.metric"),
        ({"metric": {"le": None}, "value": [1, "1"]}, "data.result.1.metric.le"),
        ({"metric": {"le": 1}, "value": [1, "1"]}, "data.result.1.metric.le"),
        ({"metric": {}, "value": None}, "data.result.1.value"),
        ({"metric": {}, "value": []}, "data.result.1.value"),
        ({"metric": {}, "value": [1]}, "data.result.1.value.1"),
        ({"metric": {}, "value": [1, ""]}, "data.result.1.value.1"),
        ({"metric": {}, "value": [1, "many"]}, "data.result.1.value.1"),
        ({"metric": {}, "value": [1, None]}, "data.result.1.value.1"),
        ({"metric": {}, "value": [None, "1"]}, "data.result.1.value.0"),
        ({"metric": {}, "value": ["NaN", "1"]}, "data.result.1.value.0"),
        ({"metric": {}, "values": [[1, "1"]]}, "data.result.1.value"),
        ({"metric": {}, "histogram": [1, {"count": "1"}]}, "data.result.1.value"),
    ],
)
def test_a_row_that_can_not_be_read_is_named(row: Any, words: str):
    with pytest.raises(BadAnswer, match=words):
        parse_answer("vector", vector(GOOD, row))


@pytest.mark.parametrize(
    "body",
    [
        vector(GOOD, kind="matrix"),
        vector(1, "2", kind="scalar"),
        vector(1, "2", kind="string"),
        b'{"status": "success", "data": {"resultType": "vector", "result": null}}',
        b'{"status": "success", "data": {"resultType": "vector"}}',
        b'{"status": "success", "data": null}',
        b'{"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1e999, "1"]}]}}',
        b"[" * 100_000,
        b'{"data":' * 100_000,
        b"null",
        b"[]",
        b'"text"',
        b"",
        b"\xff",
    ],
)
def test_what_is_no_answer_of_the_kind_that_was_asked_for(body: bytes):
    with pytest.raises(BadAnswer):
        parse_answer("vector", body)


@given(ANY_JSON, st.sampled_from(["vector", "matrix"]), st.integers(0, 4))
def test_anything_is_an_answer_or_a_bad_one(value: Any, kind: Any, depth: int):
    for key in ("value", "result", "data")[:depth]:
        value = {"status": "success", "resultType": kind, "metric": {}, key: [value] if key == "result" else value}
    try:
        answer = parse_answer(kind, json.dumps(value).encode())
    except BadAnswer:
        return
    for series in answer.get("data", {}).get("result", []):
        assert all(isinstance(label, str) for label in series["metric"].values())
        points = [series["value"]] if kind == "vector" else series["values"]
        assert all(math.isfinite(at) and isinstance(number, float) for at, number in points)


def bucket(le: Any, value: float) -> dict[str, Any]:
    return {"metric": {} if le is None else {"le": le}, "value": (0.0, value)}


def test_a_bound_may_be_written_in_two_ways():
    assert buckets([bucket("1", 2.0), bucket("1.0", 3.0), bucket("+Inf", 6.0)]) == {1.0: 5.0, math.inf: 6.0}
    assert buckets([bucket("1", math.nan), bucket("2", 1.0)]) == {2.0: 1.0}


@pytest.mark.parametrize("le", [None, "", "many", "NaN"])
def test_a_bucket_without_a_bound_is_named(le: Any):
    with pytest.raises(BadAnswer, match="label le"):
        buckets([bucket("1", 1.0), bucket(le, 1.0)])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (vector(GOOD, None), r"data\.result\.1"),
        (vector(GOOD, kind="matrix"), r"data\.resultType: Input should be 'vector'"),
        (b"[" * 100_000, "brackets"),
        (vector(*[None] * 100_000), r"data\.result\.0"),
        (vector(GOOD, *["x" * 9] * 20_000), r"data\.result\.1"),
    ],
)
async def test_it_is_a_failure_of_the_query(http: Server, body: bytes, words: str):
    http.reply = lambda _: Reply(body)
    with pytest.raises(QueryFailed, match=words) as failure:
        await Servers().instant(http.url, "up", 0.0)
    assert failure.value.reason is ConditionReason.QUERY_FAILED
    assert len(str(failure.value)) < 1000
