"""The hand-over of the KV cache: decode connects to prefill over TCP, names a room, and receives the bytes for it.

SGLang does the same with ZeroMQ for control and mooncake for the bytes (disaggregation/common/conn.py and
mooncake/conn.py). Here both share one connection. Decode sends JSON lines, `{"room", "tokens"}` or
`{"room", "abort": true}`. Prefill answers `{"room", "bytes"}` followed by that many bytes, `{"room", "failed"}`, or
`{"room", "aborted"}`. The two sides are prefill_transfer.py and decode_transfer.py.
"""

import asyncio
import json
from typing import Any


class TransferError(Exception):
    """The hand-over of one room failed."""

    def __init__(self, room: int, reason: str) -> None:
        super().__init__(f"KVTransferError(bootstrap_room={room}): {reason}")


def write_message(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    """Send one JSON line."""
    writer.write(json.dumps(message).encode() + b"\n")
