"""SGLang's own orders of prompts by flag, and dopd's by plugin: where they start, and what they change."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dopd.api.names import Role
from e2e.cluster.errors import ClusterError
from e2e.sglang.engines import StartedEngine, plugin_folder, start_engine
from e2e.sglang.fleet import Fleet
from e2e.sglang.install import IMAGE_FOLDER
from e2e.sglang.tests.http import generate, load_of, post

SHORTEST = ("--schedule-policy", "shortest-prefill-first")
LONG_TOKENS, SHORT_TOKENS = 8192, 50
PASS_SECONDS = 0.3


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Fleet() as each:
        yield each


@pytest.mark.parametrize(("role", "flags"), [(Role.DECODE, ()), (Role.PREFILL, ("--disable-radix-cache",))])
def test_shortest_prefill_first_needs_the_prefix_cache(fleet: Fleet, role: Role, flags: tuple[str, ...]) -> None:
    """managers/schedule_policy.py: a decode worker has the cache forced off, so the flag ends it at its start."""
    engine = start_engine(fleet, role, *SHORTEST, *flags)
    with pytest.raises(ClusterError, match="ended after"):
        engine.server.wait_until_ready()
    assert "requires prefix caching" in engine.server.log.read_text()


@pytest.fixture(scope="module")
def decode(fleet: Fleet) -> StartedEngine:
    return start_engine(fleet, Role.DECODE)


@pytest.fixture(scope="module", params=["engine default", "shortest-prefill-first", "plugin"])
def prefill(
    request: pytest.FixtureRequest, fleet: Fleet, decode: StartedEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartedEngine]:
    """A prefill worker with one order of prompts, ready together with its decode worker."""
    flags = SHORTEST if request.param == "shortest-prefill-first" else ()
    plugins: list[Path] = []
    if request.param == "plugin":
        plugins = [plugin_folder(IMAGE_FOLDER, tmp_path_factory.mktemp("plugin"))]
    engine = start_engine(fleet, Role.PREFILL, *flags, plugins=plugins)
    engine.server.wait_until_ready()
    decode.server.wait_until_ready()
    yield engine
    engine.server.stop()


def test_short_prompts_pass_long_ones(
    prefill: StartedEngine, decode: StartedEngine, request: pytest.FixtureRequest
) -> None:
    """managers/schedule_policy.py: calc_priority; first come first served is what an engine does by itself."""
    ended: list[str] = []

    def run(name: str, tokens: int) -> None:
        ids = [random.randrange(100, 20_000) for _ in range(tokens)]
        both = {"bootstrap_host": "127.0.0.1", "bootstrap_port": prefill.bootstrap_port}
        body = generate(ids, 1, bootstrap_room=random.getrandbits(62), **both)
        with ThreadPoolExecutor() as sides:
            answers = list(sides.map(lambda engine: post(f"{engine.url}/generate", body), (prefill, decode)))
        assert [status for status, _ in answers] == [200, 200], answers
        ended.append(name)

    run("warm-up", SHORT_TOKENS)
    assert post(f"{prefill.url}/slow_down", {"forward_sleep_time": PASS_SECONDS}) == (200, None)
    before = load_of(prefill.url)["total_prefill_uncached_tokens"]
    with ThreadPoolExecutor(max_workers=16) as pool:
        runs = [pool.submit(run, f"long {number}", LONG_TOKENS) for number in range(3)]
        while load_of(prefill.url)["total_prefill_uncached_tokens"] == before:
            time.sleep(0.02)
        runs += [pool.submit(run, f"short {number}", SHORT_TOKENS) for number in range(4)]
        for each in runs:
            each.result()
    last_short = max(place for place, name in enumerate(ended) if name.startswith("short"))
    last_long = max(place for place, name in enumerate(ended) if name.startswith("long"))
    first_come_first_served = "engine default" in request.node.name
    assert (last_short > last_long) == first_come_first_served, ended
