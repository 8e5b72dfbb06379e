"""Engines to test: simulators in the test's own process, and real ones, started here or named on the command line.

A conformance test runs once for each kind of engine: it asserts one behaviour, and where the simulator is known to
differ it says so with `@pytest.mark.differs("what the simulator does instead")`.
"""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest

from dopd_simulator.options import Options, Timeouts
from dopd_simulator.profile import DEFAULT_PROFILE
from dopd_simulator.server import Server
from dopd_simulator.surface.app import listen

SPEEDUP = 20.0
IMPATIENT = Timeouts(bootstrap_seconds=10.0, waiting_seconds=10.0)
"""For tests that wait for a time-out: half a second at this speed-up."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup(
        "conformance", "engine conformance: real SGLang engines instead of, or beside the simulator"
    )
    group.addoption(
        "--engines",
        choices=["simulated", "real", "both"],
        help="which engines to test; real ones are installed and started here [simulated; real if a URL is given]",
    )
    group.addoption("--prefill-url", help="a prefill engine with --enable-pd-role-switch and --enable-metrics")
    group.addoption("--prefill-bootstrap-port", type=int, default=8998, help="its bootstrap port [8998]")
    group.addoption("--decode-url", help="a decode engine on the same host, launched likewise")
    group.addoption("--decode-bootstrap-port", type=int, default=8999, help="its bootstrap port [8999]")
    group.addoption("--regular-url", help="an engine without disaggregation, with --enable-metrics")
    group.addoption(
        "--engine-timeout-seconds", type=float, default=8.0, help="their bootstrap and waiting time-out [8]"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Once for each kind of engine; all tests of one kind run together."""
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", _kinds(metafunc.config), scope="session")


def _kinds(config: pytest.Config) -> list[str]:
    named = config.getoption("--prefill-url") or config.getoption("--regular-url")
    asked = config.getoption("--engines") or ("real" if named else "simulated")
    return ["simulated", "real"] if asked == "both" else [asked]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Real engines keep their own, longer times; known differences of the simulator are expected failures."""
    seconds = 4 * config.getoption("--engine-timeout-seconds") + 120
    for item in items:
        kind = getattr(item, "callspec", None) and item.callspec.params.get("kind")
        if kind == "real":
            # Not the fixtures: the first one installs SGLang and starts it.
            item.add_marker(pytest.mark.timeout(seconds, func_only=True))
        elif kind == "simulated" and (mark := item.get_closest_marker("differs")):
            item.add_marker(pytest.mark.xfail(reason=mark.args[0], strict=True))


@dataclass(frozen=True)
class Engine:
    """An engine under test. `server` is the simulator behind it, when there is one."""

    url: str
    http: aiohttp.ClientSession
    bootstrap_port: int = 0
    server: Server | None = None

    async def get(self, path: str, **query: str) -> tuple[int, str]:
        """Status and text of a GET."""
        async with self.http.get(self.url + path, params=query) as answer:
            return answer.status, await answer.text()

    async def json(self, path: str, **query: str) -> Any:
        """The JSON of a GET that must succeed."""
        async with self.http.get(self.url + path, params=query) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def post(self, path: str, body: object) -> tuple[int, Any]:
        """Status and JSON (or text) of a POST."""
        async with self.http.post(self.url + path, json=body) as answer:
            is_json = answer.content_type == "application/json"
            return answer.status, await answer.json() if is_json else await answer.text()

    async def stream(self, path: str, body: dict[str, Any]) -> tuple[int, list[str]]:
        """Status and the payloads of a stream."""
        async with self.http.post(self.url + path, json={**body, "stream": True}) as answer:
            parts = (await answer.text()).split("\n\n")
            return answer.status, [part.removeprefix("data: ") for part in parts if part]

    async def load(self) -> dict[str, Any]:
        """The one entry of /v1/loads."""
        return (await self.json("/v1/loads"))["loads"][0]

    async def until(self, holds: Callable[[dict[str, Any]], bool], seconds: float = 60.0) -> dict[str, Any]:
        """Poll /v1/loads until it satisfies a condition."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not holds(load := await self.load()):
            assert asyncio.get_running_loop().time() < deadline, load
            await asyncio.sleep(0.02)
        return load

    async def slow_down(self, seconds: float | None) -> None:
        """Make each forward pass take that much longer as a client sees it; None: as fast as it can."""
        speedup = self.server.options.sim_speedup if self.server else 1.0
        body = {"forward_sleep_time": seconds and seconds * speedup}
        assert await self.post("/slow_down", body) == (200, None)

    async def until_idle(self) -> None:
        """Wait until nothing at all is left, deferred releases of KV cache included."""
        deadline = asyncio.get_running_loop().time() + 90
        while (await self.post("/flush_cache", None))[0] != 200:
            assert asyncio.get_running_loop().time() < deadline, await self.load()
            await asyncio.sleep(0.05)


@dataclass(frozen=True)
class Pair:
    """A prefill and a decode engine that can reach each other."""

    prefill: Engine
    decode: Engine

    def room(self, **body: Any) -> dict[str, Any]:
        """A request body with a rendezvous of its own, as a gateway makes it."""
        port = self.prefill.bootstrap_port
        return {**body, "bootstrap_host": "127.0.0.1", "bootstrap_port": port, "bootstrap_room": random.getrandbits(62)}

    async def generate(self, tokens: int = 4, **body: Any) -> tuple[tuple[int, Any], tuple[int, Any]]:
        """One request through both engines: (prefill's answer, decode's answer)."""
        sampling = {"max_new_tokens": tokens, "temperature": 0, "ignore_eos": True}
        both = self.room(input_ids=[5, 6, 7], sampling_params=sampling, **body)
        return await asyncio.gather(self.prefill.post("/generate", both), self.decode.post("/generate", both))


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def simulate(http: aiohttp.ClientSession) -> AsyncIterator[Callable[..., Awaitable[Engine]]]:
    """Start simulators on free ports: `await simulate("prefill", ...)`, keywords of Options."""
    async with AsyncExitStack() as stack:

        async def start(mode: str = "null", **options: Any) -> Engine:
            base = Options(
                model_path="tiny", served_model_name="tiny", port=0, disaggregation_bootstrap_port=0,
                disaggregation_mode=mode, enable_metrics=True, context_length=32768, chunked_prefill_size=2048,
                sim_startup_seconds=0.0, sim_speedup=SPEEDUP,
            )  # fmt: skip
            server = Server(replace(base, **options), DEFAULT_PROFILE)
            await server.start()
            stack.push_async_callback(server.engine.stop)
            runner = await listen(server)
            stack.push_async_callback(runner.cleanup)
            await server.warm_up()
            bootstrap = server.engine.bootstrap.port if server.engine.bootstrap is not None else 0
            return Engine(f"http://127.0.0.1:{runner.addresses[0][1]}", http, bootstrap, server)

        yield start


@pytest.fixture
async def simulate_pair(simulate: Callable[..., Awaitable[Engine]]) -> Callable[..., Awaitable[Pair]]:
    async def start(**options: Any) -> Pair:
        return Pair(await simulate("prefill", **options), await simulate("decode", **options))

    return start


@dataclass(frozen=True)
class Address:
    """Where a real engine is."""

    url: str
    bootstrap_port: int = 0


@pytest.fixture(scope="session")
def real_engines(pytestconfig: pytest.Config) -> Iterator[dict[str, Address]]:
    """Real engines by what they are: those of the command line, else a regular one and a pair that are started here."""
    option = pytestconfig.getoption
    named: dict[str, Address] = {}
    if option("--regular-url"):
        named["regular"] = Address(option("--regular-url"))
    if option("--prefill-url"):
        named["prefill"] = Address(option("--prefill-url"), option("--prefill-bootstrap-port"))
        named["decode"] = Address(option("--decode-url"), option("--decode-bootstrap-port"))
    if named:
        yield named
        return
    from e2e.sglang.engines import start_engine, start_pair
    from e2e.sglang.fleet import Fleet

    seconds = f"{option('--engine-timeout-seconds'):g}"  # SGLang takes whole numbers only
    waits = {f"SGLANG_DISAGGREGATION_{name}_TIMEOUT": seconds for name in ("BOOTSTRAP", "WAITING")}
    with Fleet() as fleet:
        # A worker that switched its role with a prefix cache crashes (0.5.23 on a CPU).
        pair = start_pair(fleet, "--enable-pd-role-switch", "--disable-radix-cache", environment=waits)
        regular = start_engine(fleet, None)
        fleet.wait_until_ready()
        yield {
            "regular": Address(regular.url),
            "prefill": Address(pair.prefill.url, pair.prefill.bootstrap_port),
            "decode": Address(pair.decode.url, pair.decode.bootstrap_port),
        }


@pytest.fixture
def real(kind: str, http: aiohttp.ClientSession, request: pytest.FixtureRequest) -> Callable[[str], Engine] | None:
    """Get a real engine by what it is; None when simulated ones are under test."""
    if kind != "real":
        return None
    engines = request.getfixturevalue("real_engines")

    def get(what: str) -> Engine:
        if what not in engines:
            pytest.skip(f"no --{what}-url")
        return Engine(engines[what].url, http, engines[what].bootstrap_port)

    return get


@pytest.fixture
async def pair(real: Callable[[str], Engine] | None, simulate_pair: Any) -> Pair:
    """A prefill and a decode engine with role switching."""
    return Pair(real("prefill"), real("decode")) if real else await simulate_pair(enable_pd_role_switch=True)


@pytest.fixture
async def impatient_pair(real: Callable[[str], Engine] | None, simulate_pair: Any) -> Pair:
    """The same with short time-outs."""
    if real:
        return Pair(real("prefill"), real("decode"))
    return await simulate_pair(enable_pd_role_switch=True, timeouts=IMPATIENT)


@pytest.fixture
async def regular(real: Callable[[str], Engine] | None, simulate: Any) -> Engine:
    """An engine that serves whole requests."""
    return real("regular") if real else await simulate()


@pytest.fixture(params=["prefill", "decode"])
def role(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def each(pair: Pair, role: str) -> Engine:
    """The prefill, then the decode engine of the pair."""
    return getattr(pair, role)


rids = itertools.count()


@pytest.fixture
def rid() -> str:
    """A request id that no other test uses."""
    return f"rid-{next(rids)}-{random.getrandbits(32)}"
