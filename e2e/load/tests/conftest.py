"""A small server that answers completions as an engine does, and misbehaves when told to."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from e2e.load import Target


@dataclass
class FakeServer:
    """Answers completions; `behaviour` says how."""

    behaviour: str = "well"
    bodies: list[dict[str, Any]] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    connections: list[asyncio.BaseTransport] = field(default_factory=list)
    url: str = ""

    @property
    def target(self) -> Target:
        return Target(self.url, "tiny", timeout_seconds=1.0)

    async def arrived(self, requests: int) -> None:
        """Wait until so many requests have come in."""
        async with asyncio.timeout(5), self.news:
            await self.news.wait_for(lambda: len(self.bodies) >= requests)

    async def complete(self, http: web.Request) -> web.StreamResponse:
        body = await http.json()
        self.bodies.append(body)
        async with self.news:
            self.news.notify_all()
        assert http.transport is not None
        kept = http.transport in self.connections
        self.connections.append(http.transport)
        if self.behaviour == "closes all" or (self.behaviour == "closes kept connections" and kept):
            http.transport.close()
            return web.Response()
        if self.behaviour == "refuses":
            return web.json_response({"error": {"message": "no worker"}}, status=503)
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(http)
        tokens = body["max_tokens"] - (1 if self.behaviour == "one token short" else 0)
        await self._event(answer, {"choices": [{"text": "a "}], "usage": None})
        if self.behaviour == "waits":
            await self.release.wait()
        if self.behaviour == "hangs":
            await asyncio.sleep(60)
        if self.behaviour == "breaks off":
            http.transport.close()
            return answer
        if self.behaviour == "reports an error":
            await self._event(answer, {"error": {"message": "Decode transfer failed", "code": 500}})
            return answer
        # An event that comes in two pieces, as TCP may deliver it.
        last = f"data: {json.dumps({'choices': [{'text': 'b ' * (tokens - 1)}], 'usage': None})}\n\n".encode()
        await answer.write(last[:25])
        await asyncio.sleep(0.01)
        await answer.write(last[25:])
        if self.behaviour != "does not end":
            usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
            await self._event(answer, {"choices": [], "usage": usage})
            await answer.write(b"data: [DONE]\n\n")
        return answer

    async def _event(self, answer: web.StreamResponse, content: dict[str, Any]) -> None:
        await answer.write(f"data: {json.dumps(content)}\n\n".encode())


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    fake = FakeServer()
    app = web.Application()
    app.router.add_post("/v1/completions", fake.complete)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield fake
    await runner.cleanup()
