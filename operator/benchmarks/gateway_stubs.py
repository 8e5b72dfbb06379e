"""The real gateway, SMG, with a stub behind it for each simulated worker, in a thread of its own."""

import asyncio
import random
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp
import uvloop
from aiohttp import web
from gateway_load import Load

from dopd.replay.workers import PrefillWorker
from e2e.load.client import BYTES_PER_TOKEN

T = TypeVar("T")

DECODE_STUBS = 2
MODEL = "chat"
INFO = {"model_path": MODEL, "served_model_name": MODEL, "is_generation": True, "version": "0.5.23", "dp_size": 1}
ANSWER = {
    "id": "1", "object": "text_completion", "created": 1, "model": MODEL,
    "choices": [{"index": 0, "text": "x", "finish_reason": "length"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}  # fmt: skip


def prompt(request: int, tokens: int) -> bytes:
    """A request of so many tokens of text, which shares no prefix with others."""
    mark = f"{request * 2654435761 % 2**32:08x}".encode()
    text = mark + b"ask " * (tokens - len(mark) // BYTES_PER_TOKEN)
    return b'{"model":"%s","prompt":"%s","max_tokens":1,"user":"%d"}' % (MODEL.encode(), text, request)


class Gateways:
    """SMG with stubs behind it, in a thread of its own; a context manager."""

    def __init__(self, smg: Path, flags: list[str], count: int, load: Load) -> None:
        self._command, self._count, self._load = [smg, "launch", *flags], count, load
        self._loop = uvloop.new_event_loop()
        self._stack = AsyncExitStack()
        self._draw = random.Random(load.seed)
        self._ports: list[int] = []
        self._chosen: dict[int, asyncio.Future[int]] = {}
        self._done: dict[int, asyncio.Event] = {}
        self._clients: dict[int, asyncio.Task[None]] = {}
        self.workers: list[PrefillWorker] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._wait(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._wait(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)

    def choose(self, request: int) -> int:
        """Send a prompt; returns the number of the worker that got it."""
        return self._wait(self._send(request))

    def finish(self, requests: list[int]) -> None:
        """Let the worker answer; returns when SMG has passed the answers on."""
        self._wait(self._finish(requests))

    def _wait(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result()

    async def _start(self) -> None:
        app = web.Application(client_max_size=2**28)
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_get("/v1/loads", self._loads)
        app.router.add_get("/{path:.*}", self._tell)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        workers: list[str] = []
        for number in range(self._load.workers + DECODE_STUBS):
            await web.TCPSite(runner, "127.0.0.1", port := free_port()).start()
            self._ports.append(port)
            prefill = number < self._load.workers
            workers += [f"--{'prefill' if prefill else 'decode'}", f"http://127.0.0.1:{port}"]
            workers += [str(port)] if prefill else []
        self._urls = [await self._start_gateway(workers) for _ in range(self._count)]
        http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout())
        self._http = await self._stack.enter_async_context(http)
        await asyncio.sleep(2)

    async def _start_gateway(self, workers: list[str], attempts: int = 3) -> str:
        try:
            return await self._stack.enter_async_context(self._gateway(workers))
        except RuntimeError:  # somebody else may have taken a port that was free
            if attempts == 1:
                raise
            return await self._start_gateway(workers, attempts - 1)

    @asynccontextmanager
    async def _gateway(self, workers: list[str]) -> AsyncIterator[str]:
        """Run a gateway as the operator does, but for the discovery; gives its URL once it knows all workers."""
        url = f"http://127.0.0.1:{(port := free_port())}"
        process = await asyncio.create_subprocess_exec(
            *self._command, "--host", "127.0.0.1", "--port", str(port),
            "--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port()),
            "--pd-disaggregation", "--log-level", "error", "--disable-tokenizer-autoload",
            "--worker-startup-check-interval", "2", "--disable-worker-overload-protection", *workers,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with asyncio.timeout(120), aiohttp.ClientSession() as http:
                while process.returncode is None:
                    try:
                        async with http.get(f"{url}/workers") as answer:
                            if (await answer.json())["total"] == len(self._ports):
                                break
                    except aiohttp.ClientError:
                        pass
                    await asyncio.sleep(0.5)
                else:
                    raise RuntimeError(f"{' '.join(map(str, self._command))} ended with status {process.returncode}")
            yield url
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()

    async def _send(self, request: int) -> int:
        self._chosen[request], self._done[request] = self._loop.create_future(), asyncio.Event()
        self._clients[request] = asyncio.create_task(self._client(request, self._draw.choice(self._urls)))
        await asyncio.wait((self._chosen[request], self._clients[request]), return_when=asyncio.FIRST_COMPLETED)
        if not self._chosen[request].done():
            await self._clients[request]
        return self._chosen.pop(request).result()

    async def _client(self, request: int, url: str) -> None:
        body = prompt(request, int(self._load.trace.input_tokens[request]))
        headers = {"Content-Type": "application/json"}
        async with self._http.post(f"{url}/v1/completions", data=body, headers=headers) as answer:
            text = await answer.text()
            if answer.status != 200:
                raise RuntimeError(f"request {request}: status {answer.status}, {text[:300]}; expected 200")

    async def _finish(self, requests: list[int]) -> None:
        for request in requests:
            self._done[request].set()
        for request in requests:
            await self._clients.pop(request)
            del self._done[request]

    # --- the stubs ----------------------------------------------------------------------------------------------

    def _number(self, http: web.Request) -> int:
        assert http.transport is not None
        return self._ports.index(http.transport.get_extra_info("sockname")[1])

    async def _complete(self, http: web.Request) -> web.Response:
        found = re.search(rb'"user":"(\d+)"', (await http.read())[-500:])
        assert found is not None
        request, number = int(found.group(1)), self._number(http)
        if number < self._load.workers:
            self._chosen[request].set_result(number)
        await self._done[request].wait()
        return web.json_response(ANSWER)

    async def _loads(self, http: web.Request) -> web.Response:
        number = self._number(http)
        load = {"dp_rank": 0, "num_running_reqs": 0, "num_waiting_reqs": 0, "num_waiting_uncached_tokens": 0,
                "token_usage": 0.0, "gen_throughput": 0.0, "max_running_requests": 1000}  # fmt: skip
        if number < len(self.workers):
            queue = self.workers[number].queue
            load |= {"num_waiting_reqs": len(queue), "num_waiting_uncached_tokens": queue.waiting_tokens}
        return web.json_response({"timestamp": str(time.time()), "version": INFO["version"], "loads": [load]})

    async def _tell(self, http: web.Request) -> web.Response:
        if http.path == "/v1/models":
            return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "stub"}]})
        if http.path in ("/health", "/server_info", "/model_info"):
            mode = "prefill" if self._number(http) < self._load.workers else "decode"
            return web.json_response(INFO | {"disaggregation_mode": mode, "max_running_requests": 100_000})
        return web.Response(status=404)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
