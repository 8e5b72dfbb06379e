"""JSON of the API server, whatever a tenant has put into it.

The API server takes objects that are nested thousands deep, Python's decoder takes about a thousand levels. What lies
deeper than any object that Kubernetes defines is left out then: the object keeps its name, and whoever reads its spec
finds it too deep.

pydantic's decoder comes first: it is the quicker one, and names and short values that many objects have are one string
for all of them, not one for each. What it does not take (200 levels, half of a surrogate pair) Python's own decides on.
"""

import contextlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any

from pydantic_core import from_json

KEPT_LEVELS = 200
"""Levels that are kept of an answer that is nested too deep to be decoded."""

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)
_OPENING, _CLOSING = b"[{", b"]}"


def decode(raw: bytes) -> Any:
    """What an answer says, without what is nested too deep to be decoded.

    Raises:
        ValueError: it is no JSON.
    """
    with contextlib.suppress(ValueError):
        return from_json(raw)
    try:
        return json.loads(raw)
    except RecursionError:
        return json.loads(without_depths(raw, KEPT_LEVELS))


def without_depths(raw: bytes, levels: int) -> bytes:
    """JSON in which null stands for all that lies below some levels of nesting. Needs no recursion."""
    parts: list[bytes] = []
    depth = start = 0
    for token in _TOKEN.finditer(raw):
        sign = raw[token.start()]
        if sign in _OPENING:
            depth += 1
            if depth == levels + 1:
                parts += [raw[start : token.start()], b"null"]
        elif sign in _CLOSING:
            depth -= 1
            if depth == levels:
                start = token.end()
    return b"".join([*parts, raw[start:] if depth <= levels else b""])


def depth_of(value: Any) -> int:
    """Levels of nesting of decoded JSON; 0 of a plain value. Needs no recursion."""
    level, depth = [value], 0
    while containers := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [inner for item in containers for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


async def lines(chunks: AsyncIterable[bytes], most_bytes: int, *, strict: bool = False) -> AsyncGenerator[bytes]:
    """The lines of a stream that are not empty; one that is longer than `most_bytes` is left out.

    Raises:
        ValueError: there is one that is longer; only if `strict`.
    """
    pending, too_long = bytearray(), False
    async for chunk in chunks:
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            pending += end
            if pending and not too_long and len(pending) <= most_bytes:
                yield bytes(pending)
            if strict and len(pending) > most_bytes:
                raise ValueError(f"a line of more than {most_bytes} bytes")
            pending.clear()
            too_long = False
        pending += rest
        if len(pending) > most_bytes:
            if strict:
                raise ValueError(f"a line of more than {most_bytes} bytes")
            pending.clear()
            too_long = True
