"""The first door of what comes over HTTP: a body of bounded size, and JSON of bounded growth. Pure.

Size counts after decompression, and is looked at while the body comes: what is too large is never held. JSON of nothing
but brackets takes twenty times its size as objects, so those are counted as well.
"""

import zlib
from typing import Any

from pydantic_core import from_json

STEP_BYTES = 2**16
"""So much is decompressed at a time."""
BYTES_OF_BRACKET = 8
"""An object or a list of an honest answer takes more bytes than that; the shortest that is read is a point of 15."""
BRACKETS_FREE = 1024


class BadBody(ValueError):
    """What came is no body that is read here. The message says why, without a word of the body."""


class Body:
    """A body as it comes in, piece by piece.

    Attributes:
        waits: there is more of it than is small, and the rest needs `grow`.

    Args:
        limit_bytes: after decompression.
        encoding: header Content-Encoding.
        json: whether brackets are counted.
        small_bytes: that it may have before it waits; absent: all.

    Raises:
        BadBody: the encoding is none that was asked for.
    """

    def __init__(
        self, limit_bytes: int, encoding: str = "", *, json: bool = False, small_bytes: int | None = None
    ) -> None:
        self._limit_bytes, self._json = limit_bytes, json
        self._small_bytes = limit_bytes if small_bytes is None else small_bytes
        self._data = bytearray()
        self._rest = b""
        self._brackets = 0
        self._dropped = self.waits = False
        self._zip = None
        encoding = encoding.strip().lower()
        if encoding in ("gzip", "x-gzip"):
            self._zip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        elif encoding not in ("", "identity"):
            raise BadBody("it is compressed by another method than gzip")

    def feed(self, piece: bytes) -> None:
        """Take in a piece as it came over the wire.

        Raises:
            BadBody: with it there is too much, it can not be unzipped, or the body was dropped.
        """
        if self._zip is None:
            self._add(piece)
            return
        try:
            while piece and not self.waits:
                if self._zip.eof:
                    raise BadBody("there are bytes after the end of the zipped answer")
                self._add(self._zip.decompress(piece, STEP_BYTES))
                piece = self._zip.unconsumed_tail or self._zip.unused_data
        except zlib.error:
            raise BadBody("it can not be unzipped") from None
        self._rest = piece

    def grow(self) -> None:
        """It may become as large as its limit: go on with what waits.

        Raises:
            BadBody: see `feed`.
        """
        self._small_bytes, self.waits = self._limit_bytes, False
        self.feed(self._rest)

    def drop(self) -> None:
        """Hold nothing of it any more, from whatever thread; whoever feeds it is told."""
        self._dropped = True
        self._data, self._rest = bytearray(), b""

    def whole(self) -> bytearray:
        """The body, once nothing more comes.

        Raises:
            BadBody: it ended early.
        """
        if self._zip is not None:
            while rest := self._zip.decompress(b"", STEP_BYTES):
                self._add(rest)
            if not self._zip.eof:
                raise BadBody("the zipped answer ends early")
        self._held()
        return self._data

    def _held(self) -> None:
        if self._dropped:
            raise BadBody("it came too slowly for its size while other answers waited")

    def _add(self, data: bytes) -> None:
        self._held()
        self._data.extend(data)  # in place: what another thread has dropped must not come back
        if len(self._data) > self._limit_bytes:
            raise BadBody(f"more than {self._limit_bytes / 2**20:g} MiB")
        self.waits = len(self._data) > self._small_bytes
        if self._json:
            self._brackets += data.count(b"[") + data.count(b"{")
            if self._brackets > BRACKETS_FREE + len(self._data) // BYTES_OF_BRACKET:
                raise BadBody("almost nothing but brackets")


def parse_json(body: bytes | bytearray) -> Any:
    """JSON as Python has it; `NaN` and `Infinity` are none, and neither is what is nested more than 200 deep.

    Raises:
        BadBody: it is none.
    """
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise BadBody(f"no JSON: {error}") from None
