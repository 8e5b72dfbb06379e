"""JSON of the API server, whatever a tenant has put into it."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.cluster.decode import KEPT_LEVELS, decode, depth_of, lines, without_depths

trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


def shallow(value: Any, levels: int) -> Any:
    if isinstance(value, dict | list) and levels == 0:
        return None
    if isinstance(value, dict):
        return {key: shallow(inner, levels - 1) for key, inner in value.items()}
    return [shallow(inner, levels - 1) for inner in value] if isinstance(value, list) else value


@given(trees, st.integers(min_value=0, max_value=4), st.booleans())
def test_what_lies_deeper_is_left_out_and_nothing_else(tree: Any, levels: int, escaped: bool):
    raw = json.dumps(tree, ensure_ascii=escaped).encode(errors="surrogatepass")
    assert json.loads(without_depths(raw, levels).decode(errors="surrogatepass")) == shallow(tree, levels)


@given(trees | st.floats(), st.booleans())
def test_what_is_decoded_is_what_python_decodes(tree: Any, escaped: bool):
    raw = json.dumps(tree, ensure_ascii=escaped).encode(errors="surrogatepass")
    assert repr(decode(raw)) == repr(json.loads(raw))


@pytest.mark.parametrize(
    "raw", [b'"\\ud800"', b'{"a": 1, "a": 2}', b"[NaN, -Infinity]", b"1" + 400 * b"0", b"-0.0", b"1e400", b" \n[1E2]\t"]
)
def test_what_decoders_may_differ_in_is_as_python_has_it(raw: bytes):
    assert repr(decode(raw)) == repr(json.loads(raw))


@pytest.mark.parametrize("raw", [b"", b"{", b"[1,]", b"{} {}", b"'a'", b'"\n"', b"01"])
def test_what_is_no_json_is_refused(raw: bytes):
    with pytest.raises(json.JSONDecodeError):
        decode(raw)


def test_short_values_are_one_string_for_all_answers_that_have_them():
    first, second = (decode(b'{"phase": "Running", "n": %d}' % number) for number in range(2))
    assert first["phase"] is second["phase"]


def nested(levels: int, opening: str = '{"a":', closing: str = "}") -> str:
    return opening * levels + "1" + closing * levels


@pytest.mark.parametrize(
    "inner", [nested(1_500), nested(9_990), nested(9_990, "[", "]"), nested(5_000, '[{"x\\"]}":', "}]")]
)
def test_an_object_that_is_too_deep_keeps_its_name(inner: str):
    raw = f'{{"items": [{{"metadata": {{"name": "m"}}, "spec": {inner}, "status": {{"a": 1}}}}, {{"b": 2}}]}}'
    first, second = decode(raw.encode())["items"]
    assert (first["metadata"], first["status"], second) == ({"name": "m"}, {"a": 1}, {"b": 2})
    assert depth_of(first["spec"]) >= KEPT_LEVELS - 4


@given(trees)
def test_depth(tree: Any):
    def depth(value: Any) -> int:
        inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    assert depth_of(tree) == depth(tree)


async def stream(chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@given(st.lists(st.binary(max_size=6).map(lambda b: b.replace(b"\n", b"")), max_size=8), st.integers(1, 7))
async def test_lines_come_whole_however_they_arrive_and_long_ones_are_left_out(wanted: list[bytes], size: int):
    raw = b"".join(line + b"\n" for line in wanted)
    chunks = [raw[i : i + size] for i in range(0, len(raw), size)]
    assert [line async for line in lines(stream(chunks), 4)] == [line for line in wanted if 0 < len(line) <= 4]
