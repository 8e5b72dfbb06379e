"""The real gateway in the loop of the replay: SMG chooses the prefill worker, all else is simulated.

SMG knows one stub for each simulated worker. When a prompt arrives in simulated time, it is sent through SMG, and the
stub that gets it is the choice; the stub answers once the simulated worker has prefilled it, so that SMG counts what
is in flight as it would, and reports the simulated queue where SMG asks for it. No time is measured, so a busy machine
falsifies nothing but SMG's own intervals: simulated time runs at most so fast beside SMG's clock, and stands while the
machine does not keep up.
"""

import asyncio
import random
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp
import numpy as np
import uvloop
from aiohttp import web
from gateway_load import Floats, Load

from dopd.api.names import Role
from dopd.replay.cluster import Cluster
from dopd.replay.workers import PrefillWorker, Worker
from e2e.load.client import BYTES_PER_TOKEN

T = TypeVar("T")

DECODE_STUBS = 2
CATCH_UP_SECONDS = 0.1
"""Simulated time makes up for this much that it was late; what is more is a machine that stood still."""
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
        self._http = await self._stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        await asyncio.sleep(2)

    async def _start_gateway(self, workers: list[str]) -> str:
        for attempts_left in reversed(range(3)):  # somebody else may have taken a port that was free
            try:
                return await self._stack.enter_async_context(self._gateway(workers))
            except RuntimeError:
                if not attempts_left:
                    raise
        raise AssertionError("unreachable")

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


class Looped(Cluster):
    """The replay's cluster, whose prefill workers a real gateway chooses."""

    def __init__(self, gateways: Gateways, speed: float, *args: Any) -> None:  # noqa: ANN401
        super().__init__(*args)
        self._gateways, self._speed = gateways, speed
        self._serving = list(self.serving[Role.PREFILL])
        gateways.workers = self._serving  # type: ignore[assignment]
        self._simulated, self._real = 0.0, time.monotonic()

    def _keep_pace(self) -> None:
        due = self._real + (self.now - self._simulated) / self._speed
        now = time.monotonic()
        if due > now:
            time.sleep(due - now)
        self._real, self._simulated = max(due, now - CATCH_UP_SECONDS), self.now

    def _arrive(self, request: int) -> None:
        self._keep_pace()
        super()._arrive(request)

    def _pick_prefill(self, request: int) -> Worker:
        return self._serving[self._gateways.choose(request)]

    def _pass_done(self, worker: PrefillWorker) -> None:
        self._keep_pace()
        completed = list(worker.batch)
        super()._pass_done(worker)
        self._gateways.finish(completed)


@dataclass(frozen=True)
class Run:
    """A load that is played through the real gateway.

    Attributes:
        speed: most seconds of simulated time in a second of SMG's clock.
    """

    smg: Path
    flags: list[str]
    gateways: int
    load: Load
    order: str
    speed: float

    def __call__(self) -> tuple[Floats, float]:
        """TTFT of each request, seconds, and simulated seconds in a second of SMG's clock."""
        with Gateways(self.smg, self.flags, self.gateways, self.load) as gateways:
            began = time.monotonic()
            cluster = Looped(gateways, self.speed, *self.load.cluster(self.order))
            cluster.run()
            return np.array(cluster.ttft_seconds), cluster.now / (time.monotonic() - began)
