"""Bodies of bounded size, whatever is sent."""

import contextlib
import gzip
import json
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.cluster.bodies import BRACKETS_FREE, BadBody, Body, parse_json


def read(data: bytes, encoding: str = "", *, limit: int = 2**20, json: bool = False, piece: int = 1000) -> bytes:
    body = Body(limit, encoding, json=json)
    for start in range(0, len(data), piece):
        body.feed(data[start : start + piece])
    return bytes(body.whole())


@given(st.binary(max_size=5000), st.integers(1, 700))
def test_what_is_within_bounds_comes_as_it_was_sent(data: bytes, piece: int):
    assert read(data, piece=piece) == data
    assert read(gzip.compress(data, mtime=0), "gzip", piece=piece) == data
    assert read(gzip.compress(data, mtime=0), " X-GZIP ", piece=piece) == data


@given(st.binary(max_size=2000), st.sampled_from(["gzip", "", "identity", "br", "deflate", "gzip, gzip"]))
def test_anything_is_a_body_or_a_bad_one(data: bytes, encoding: str):
    with contextlib.suppress(BadBody):
        read(data, encoding, json=True)


def test_size_counts_after_decompression_and_is_never_held():
    packer = zlib.compressobj(wbits=31)
    packed = b"".join(packer.compress(b" " * 2**20) for _ in range(64)) + packer.flush()
    tracemalloc.start()
    with pytest.raises(BadBody, match="more than 1 MiB"):
        read(packed, "gzip", piece=len(packed))
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < 4 * 2**20


@pytest.mark.parametrize(
    ("data", "encoding", "words"),
    [
        (b"x" * 101, "", "more than"),
        (gzip.compress(b"x", mtime=0)[:-3], "gzip", "ends early"),
        (gzip.compress(b"x", mtime=0) + b"y", "gzip", "after the end"),
        (gzip.compress(b"", mtime=0) * 2, "gzip", "after the end"),
        (b"no zip", "gzip", "can not be unzipped"),
    ],
)
def test_bad_bodies_say_why(data: bytes, encoding: str, words: str):
    with pytest.raises(BadBody, match=words):
        read(data, encoding, limit=100)


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip", "compress"])
def test_no_other_compression_than_was_asked_for(encoding: str):
    with pytest.raises(BadBody, match="another method than gzip"):
        Body(100, encoding)


@pytest.mark.parametrize("unit", [b"[],", b"{},", b"[[", b'{"":', b"[[],{}],"])
def test_nothing_but_brackets(unit: bytes):
    with pytest.raises(BadBody, match="brackets"):
        read(b"[" + unit * BRACKETS_FREE * 4, json=True)


def test_what_prometheus_answers_is_not_too_dense():
    points = [[1764000000 + 60 * n, "0"] for n in range(20_000)]
    answer = json.dumps({"data": {"result": [{"metric": {}, "values": points}]}}, separators=(",", ":"))
    assert read(answer.encode(), json=True) == answer.encode()


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=20))
def test_json_is_read_or_refused(value: Any):
    text = json.dumps(value).encode("utf-8", "surrogatepass")
    try:
        read_back = parse_json(text)
    except BadBody:
        assert b"NaN" in text or b"Infinity" in text or b"\\ud" in text
    else:
        assert read_back == value


@pytest.mark.parametrize("text", [b"", b"x", b"[" * 10_000, b'{"a":' * 10_000, b"[1,]", b"NaN", b"-Infinity", b"\xff"])
def test_what_is_no_json(text: bytes):
    with pytest.raises(BadBody, match="no JSON"):
        parse_json(text)


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_beyond_what_is_small_a_body_waits(encoding: str):
    data = b"[" + b"1," * 400_000 + b"1]"
    sent = gzip.compress(data, mtime=0) if encoding else data
    body = Body(2**20, encoding, json=True, small_bytes=2**16)
    most_bytes = 0
    for start in range(0, len(sent), 5000):
        body.feed(sent[start : start + 5000])
        if body.waits:
            most_bytes = most_bytes or len(body._data)
            body.grow()
    assert bytes(body.whole()) == data
    assert 2**16 < most_bytes <= 2**17, "no more was taken in before"


def test_what_is_small_never_waits():
    body = Body(2**20, "gzip", small_bytes=2**16)
    body.feed(gzip.compress(b"x" * 2**16, mtime=0))
    assert not body.waits
    assert len(body.whole()) == 2**16


def test_a_body_that_was_dropped_holds_nothing_and_says_so():
    body = Body(2**20, small_bytes=10)
    body.feed(b"x" * 1000)
    body.grow()
    body.drop()
    assert len(body._data) == 0
    with pytest.raises(BadBody, match="too slowly for its size while other answers waited"):
        body.feed(b"y")
    with pytest.raises(BadBody, match="too slowly"):
        body.whole()
