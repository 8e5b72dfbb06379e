"""SGLang's own orders of prompts by flag, and dopd's by plugin: where they start, and what they change."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from dopd.api.names import Role
from e2e.cluster.errors import ClusterError
from e2e.sglang.engines import StartedEngine, plugin_folder, start_engine
from e2e.sglang.fleet import Fleet
from e2e.sglang.install import IMAGE_FOLDER
from e2e.sglang.tests.http import generate, load_of, metrics_of, post

SHORTEST = ("--schedule-policy", "shortest-prefill-first")
LONG_TOKENS, SHORT_TOKENS = 8192, 50
PASS_SECONDS = 0.3


ORDERS = ("engine default", "shortest-prefill-first", "plugin")
DOOMED = {"decode": (Role.DECODE, ()), "prefill without its cache": (Role.PREFILL, ("--disable-radix-cache",))}


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Fleet() as each:
        yield each


@pytest.fixture(scope="module")
def doomed(fleet: Fleet) -> dict[str, StartedEngine]:
    """Engines that cannot have the order that they are told, started together."""
    return {name: start_engine(fleet, role, *SHORTEST, *flags) for name, (role, flags) in DOOMED.items()}


@pytest.mark.parametrize("which", DOOMED)
def test_shortest_prefill_first_needs_the_prefix_cache(doomed: dict[str, StartedEngine], which: str) -> None:
    """managers/schedule_policy.py: a decode worker has the cache forced off, so the flag ends it at its start."""
    server = doomed[which].server
    with pytest.raises(ClusterError, match="ended after"):
        server.wait_until_ready()
    assert "requires prefix caching" in server.log.read_text()


@dataclass(frozen=True)
class Workers:
    """Prefill workers by their order of prompts, and the decode worker of them all."""

    prefill: dict[str, StartedEngine]
    decode: StartedEngine


@pytest.fixture(scope="module")
def workers(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Workers:
    """Started together, ready."""
    folder = tmp_path_factory.mktemp("plugin")
    settings = folder / "scheduling.json"
    settings.write_text('{"version": 1, "policy": "shortest-first"}')
    told = {"DOPD_SCHEDULING_FILE": str(settings)}
    prefill = {
        "engine default": start_engine(fleet, Role.PREFILL),
        "shortest-prefill-first": start_engine(fleet, Role.PREFILL, *SHORTEST),
        "plugin": start_engine(
            fleet, Role.PREFILL, environment=told, plugins=[plugin_folder(IMAGE_FOLDER, folder / "path")]
        ),
    }
    decode = start_engine(fleet, Role.DECODE)
    for engine in (*prefill.values(), decode):
        engine.server.wait_until_ready()
    return Workers(prefill, decode)


@pytest.mark.parametrize("order", ORDERS)
def test_short_prompts_pass_long_ones(workers: Workers, order: str) -> None:
    """managers/schedule_policy.py: calc_priority; by itself an engine takes first what came first."""
    prefill, decode = workers.prefill[order], workers.decode
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
    assert (last_short > last_long) == (order == "engine default"), ended


def test_the_plugin_says_that_its_order_holds(workers: Workers) -> None:
    """dopd_sglang/plugin.py: loaded in the scheduler by its entry point, and heard of in the engine's own /metrics."""
    said = metrics_of(workers.prefill["plugin"].url)
    assert said["dopd_prefill_order_active"] == 1
    assert said["dopd_prefill_prompts_total"] >= 7
    assert "dopd_prefill_order_active" not in metrics_of(workers.prefill["engine default"].url)
