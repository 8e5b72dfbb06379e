"""One request as a client sees it: sent, streamed, timed, and judged whether all that was asked for came."""

import asyncio
import json
import re
import time
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import SimpleNamespace

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
        sent_again: its kept connection was closed before a byte of an answer came, and it was sent once more.
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
    sent_again: bool = False


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


@dataclass
class _Try:
    """One sending of a request: what came, and over which connection."""

    stream: _Stream = field(default_factory=_Stream)
    status: int = 0
    error: str = ""
    kept_connection: bool = False
    disconnected: bool = False

    @property
    def unheard(self) -> bool:
        """A connection of an earlier request was closed before a byte of this one's answer came."""
        return self.kept_connection and self.disconnected and self.status == 0


def client_session() -> aiohttp.ClientSession:
    """A session for `send`: it keeps connections, as many as it takes, and knows which request goes over a kept one."""

    async def reused(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
        context.trace_request_ctx.kept_connection = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(reused)
    # No limit: it would hold requests back in the client and hide the server's queue.
    connector = aiohttp.TCPConnector(limit=0, force_close=False)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None), trace_configs=[trace])


async def send(session: aiohttp.ClientSession, target: Target, arrival: Arrival, late_seconds: float = 0.0) -> Result:
    """Send one request, read its stream to the end, and say how it went. Never raises for what a server may do.

    A server may close a kept connection at the moment in which a request goes over it (RFC 9112, 9.5). Clients of
    OpenAI's API, browsers and proxies then send it again; so does this one, once, and says so in the result. All
    times count from the first sending.
    """
    start = time.perf_counter()
    tried, again = _Try(), False
    try:
        async with asyncio.timeout(target.timeout_seconds):
            await _once(session, target, arrival, tried)
            if tried.unheard:
                tried, again = _Try(), True
                await _once(session, target, arrival, tried)
    except TimeoutError:
        tried.error = f"not whole after {target.timeout_seconds:.0f} s"
        tried.status = 0 if not tried.stream.first_at else tried.status
    return replace(_judge(arrival, tried, start, late_seconds), sent_again=again)


async def _once(session: aiohttp.ClientSession, target: Target, arrival: Arrival, tried: _Try) -> None:
    try:
        async with session.post(
            f"{target.url}/v1/completions",
            data=target.body(arrival),
            headers={"Content-Type": "application/json"},
            trace_request_ctx=tried,
        ) as answer:
            tried.status = answer.status
            if answer.status == 200:
                async for chunk in answer.content.iter_any():
                    tried.stream.feed(chunk, time.perf_counter())
            else:
                tried.error = (await answer.text())[:500]
    except TimeoutError:
        raise
    except (aiohttp.ClientError, OSError, ValueError, KeyError) as problem:
        tried.error = f"{type(problem).__name__}: {problem}"
        tried.disconnected = isinstance(problem, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)


def _judge(arrival: Arrival, tried: _Try, start: float, late_seconds: float) -> Result:
    stream, status, error = tried.stream, tried.status, tried.error or tried.stream.error
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
