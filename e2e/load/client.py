"""One request as a client sees it: sent, streamed, timed, and judged whether all that was asked for came."""

import asyncio
import json
import re
import time
from dataclasses import dataclass
from enum import StrEnum

import aiohttp

from e2e.load.schedule import Arrival

BYTES_PER_TOKEN = 4
"""The simulated engine counts one token for every four bytes of a prompt."""
_EVENT_END = re.compile(rb"\r?\n\r?\n")
_USAGE = re.compile(rb'"usage":\s*\{')
_ERROR = re.compile(rb'"error":\s*[{"]')
_DONE = b"data: [DONE]"


class Outcome(StrEnum):
    """How a request ended."""

    OK = "ok"
    """All tokens came and the stream was closed as it should be."""
    FAILED = "failed"
    """Refused, or ended with an error, or not answered in time."""
    TRUNCATED = "truncated"
    """A stream without its end, or with fewer tokens than asked for."""


@dataclass(frozen=True)
class Result:
    """One request, measured at the client. Times are seconds of the clock.

    Attributes:
        at_seconds: when it was due, since the start of the schedule.
        late_seconds: how much later than due it was sent: the client's own fault, not the server's.
        input_tokens: length of its prompt.
        asked_tokens: tokens that it asked for.
        outcome: how it ended.
        status: HTTP status; 0 when there was no answer.
        got_tokens: tokens that the server says it sent; None when it did not come to say so.
        ttft_seconds: from sending to the first token; None without one.
        itl_seconds: mean time between tokens; None with fewer than two tokens or without an end.
        total_seconds: from sending to the end.
        error: what went wrong; empty when nothing did.
    """

    at_seconds: float
    late_seconds: float
    input_tokens: int
    asked_tokens: int
    outcome: Outcome
    status: int
    got_tokens: int | None
    ttft_seconds: float | None
    itl_seconds: float | None
    total_seconds: float
    error: str


@dataclass(frozen=True)
class Target:
    """Whom the load is for.

    Attributes:
        url: base URL of an OpenAI-compatible server, without `/v1`.
        model: served model name.
        timeout_seconds: a request that is not whole after this long has failed.
        token_ids: send prompts as lists of token ids, which any engine counts alike, instead of text.
    """

    url: str
    model: str
    timeout_seconds: float = 120.0
    token_ids: bool = False

    def body(self, arrival: Arrival) -> bytes:
        """The request's body: a completion of exactly so many tokens in and out, streamed."""
        prompt = [1] * arrival.input_tokens if self.token_ids else "ask " * arrival.input_tokens
        request = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": arrival.output_tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return json.dumps(request, separators=(",", ":")).encode()


class _Stream:
    """The events of one answer as they come in, with as little parsing as the measurement needs."""

    def __init__(self) -> None:
        self._rest = b""
        self.first_at = self.last_at = 0.0
        self.tokens: int | None = None
        self.done = False
        self.error = ""

    def feed(self, chunk: bytes, now: float) -> None:
        *events, self._rest = _EVENT_END.split(self._rest + chunk)
        for event in events:
            if event.startswith(_DONE):
                self.done = True
            elif _ERROR.search(event):
                self.error = event.decode(errors="replace").removeprefix("data: ")
            elif event.startswith(b"data:"):
                self._data(event, now)

    def _data(self, event: bytes, now: float) -> None:
        if _USAGE.search(event):
            content = json.loads(event.removeprefix(b"data:"))
            self.tokens = int(content["usage"]["completion_tokens"])
            if not content["choices"]:
                return
        self.first_at = self.first_at or now
        self.last_at = now


async def send(session: aiohttp.ClientSession, target: Target, arrival: Arrival, late_seconds: float = 0.0) -> Result:
    """Send one request, read its stream to the end, and say how it went. Never raises for what a server may do."""
    stream, status, error = _Stream(), 0, ""
    start = time.perf_counter()
    try:
        async with asyncio.timeout(target.timeout_seconds):
            async with session.post(
                f"{target.url}/v1/completions",
                data=target.body(arrival),
                headers={"Content-Type": "application/json"},
            ) as answer:
                status = answer.status
                if status == 200:
                    async for chunk in answer.content.iter_any():
                        stream.feed(chunk, time.perf_counter())
                else:
                    error = (await answer.text())[:500]
    except TimeoutError:
        error = f"not whole after {target.timeout_seconds:.0f} s"
        status = 0 if not stream.first_at else status
    except (aiohttp.ClientError, OSError, ValueError, KeyError) as problem:
        error = f"{type(problem).__name__}: {problem}"
    return _judge(arrival, stream, status, error or stream.error, start, late_seconds)


def _judge(arrival: Arrival, stream: _Stream, status: int, error: str, start: float, late_seconds: float) -> Result:
    whole = stream.done and stream.tokens is not None and stream.tokens >= arrival.output_tokens
    began = status == 200 and stream.first_at > 0
    if whole and not error:
        outcome = Outcome.OK
    elif began and not stream.error:
        outcome = Outcome.TRUNCATED
        error = (
            error or f"{stream.tokens} of {arrival.output_tokens} tokens, {'' if stream.done else 'no '}end of stream"
        )
    else:
        outcome = Outcome.FAILED
        error = error or "an empty stream"
    itl = None
    if stream.tokens is not None and stream.tokens > 1:
        itl = (stream.last_at - stream.first_at) / (stream.tokens - 1)
    return Result(
        at_seconds=arrival.at_seconds,
        late_seconds=late_seconds,
        input_tokens=arrival.input_tokens,
        asked_tokens=arrival.output_tokens,
        outcome=outcome,
        status=status,
        got_tokens=stream.tokens,
        ttft_seconds=stream.first_at - start if stream.first_at else None,
        itl_seconds=itl,
        total_seconds=time.perf_counter() - start,
        error=error,
    )
