"""Server-sent events, headers sent with the first event so that a failure before it can still be an HTTP error."""

from aiohttp import web

STREAMS = web.RequestKey("streams", bool)
"""Set on a request whose answer is a stream."""


class EventStream:
    """A stream of `data:` events on one HTTP answer."""

    def __init__(self, http: web.Request) -> None:
        self._http = http
        http[STREAMS] = True
        self._response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        self._open = False

    async def send(self, *payloads: str) -> None:
        """Send events, in one write."""
        if not self._open:
            await self._response.prepare(self._http)
            self._open = True
        await self._response.write("".join(f"data: {payload}\n\n" for payload in payloads).encode())

    async def done(self) -> web.StreamResponse:
        """End the stream as OpenAI's does."""
        await self.send("[DONE]")
        await self._response.write_eof()
        return self._response
