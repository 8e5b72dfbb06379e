"""The plugin in the scheduler of a real prefill engine: its order, its settings, its metrics, and what goes wrong."""

import asyncio
import json
import os
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.sglang.engines import StartedPair, plugin_folder, start_pair
from e2e.sglang.fleet import Fleet
from e2e.sglang.install import IMAGE_FOLDER
from e2e.sglang.tests.http import load_of

pytestmark = pytest.mark.timeout(600, func_only=True)  # the first start may install SGLang, which is not limited

LONG, SHORT = 5000, 100
TIMES = {"passPoints": [{"tokens": 30, "seconds": 0.05}, {"tokens": 1000, "seconds": 1.02}]}

BROKEN = '''
"""Makes the plugin's planner raise errors while a file is there."""

import os


def register():
    from dopd_sglang.prefill_order.planner import Planner

    decide = Planner.decide

    def broken(self, *args):
        if os.path.exists(os.environ["BROKEN_WHILE"]):
            raise RuntimeError("injected")
        return decide(self, *args)

    Planner.decide = broken
'''


@dataclass(frozen=True)
class Answer:
    """What became of one prompt.

    Attributes:
        place: how many had had their first token before it.
        tokens: the answer.
        statuses: of prefill and decode.
    """

    place: int
    tokens: tuple[int, ...]
    statuses: tuple[int, int]


class Pair:
    """A prefill engine with the plugin, and its decode engine."""

    def __init__(self, pair: StartedPair, settings: Path, broken_while: Path) -> None:
        self.prefill, self.decode, self.bootstrap_port = pair.prefill.url, pair.decode.url, pair.prefill.bootstrap_port
        self.log = pair.prefill.server.log
        self._settings, self.broken_while = settings, broken_while
        self._room = random.randrange(10**9)

    async def set(self, **settings: Any) -> None:
        """Change the settings as a ConfigMap does; the plugin looks once a second."""
        self.write(json.dumps({"version": 1, "times": TIMES, **settings}))
        await asyncio.sleep(1.2)

    def write(self, text: str) -> None:
        new = self._settings.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self._settings)

    def metrics(self) -> dict[str, float]:
        text = httpx.get(f"{self.prefill}/metrics", timeout=30).text
        return {name: float(value) for name, value in re.findall(r"^(dopd_\S+) (\S+)$", text, re.MULTILINE)}

    def flush(self) -> list[int]:
        """Empty the caches; SGLang refuses while anything is under way. Returns the tokens that are held afterwards."""
        held = []
        for url in (self.prefill, self.decode):
            assert httpx.post(f"{url}/flush_cache", timeout=30).status_code == 200
            held.append(load_of(url)["num_used_tokens"])
        return held

    async def ask(
        self, client: httpx.AsyncClient, ids: list[int], answered: list[int], leaves_after: float | None = None
    ) -> Answer | None:
        """One prompt, to both engines as a gateway does."""
        self._room += 1
        body = {
            "input_ids": ids,
            "sampling_params": {"max_new_tokens": 4, "ignore_eos": True, "temperature": 0},
            "stream": True,
            "bootstrap_host": "127.0.0.1",
            "bootstrap_port": self.bootstrap_port,
            "bootstrap_room": self._room,
        }
        tokens: tuple[int, ...] = ()
        place = -1

        async def prefill() -> int:
            return (await client.post(f"{self.prefill}/generate", json=body)).status_code

        async def decode() -> int:
            nonlocal place, tokens
            async with client.stream("POST", f"{self.decode}/generate", json=body) as answer:
                async for line in answer.aiter_lines():
                    if line.startswith("data: {"):
                        if place < 0:
                            place = len(answered)
                            answered.append(self._room)
                        tokens = tuple(json.loads(line[6:]).get("output_ids", tokens))
                return answer.status_code

        both = asyncio.gather(prefill(), decode())
        try:
            statuses = await asyncio.wait_for(both, leaves_after)
        except TimeoutError:
            return None
        return Answer(place, tokens, (statuses[0], statuses[1]))

    async def crowd(
        self, prompts: Sequence[list[int]], gap_seconds: float = 0.0, leaves_after: Mapping[int, float] | None = None
    ) -> list[Answer | None]:
        """Several prompts at once, or with a gap between them."""
        answered: list[int] = []
        leaves_after = leaves_after or {}
        async with httpx.AsyncClient(timeout=300, limits=httpx.Limits(max_keepalive_connections=0)) as client:
            tasks = []
            for number, ids in enumerate(prompts):
                tasks.append(asyncio.create_task(self.ask(client, ids, answered, leaves_after.get(number))))
                await asyncio.sleep(gap_seconds)
            return await asyncio.gather(*tasks)

    async def until_idle(self) -> None:
        for _ in range(200):
            load, decode = load_of(self.prefill), load_of(self.decode)
            busy = load["num_waiting_reqs"] + load["disaggregation"]["prefill_inflight_queue_reqs"]
            busy += decode["num_waiting_reqs"] + decode["num_running_reqs"]
            if not busy and not self.metrics()["dopd_prefill_unfinished_prompts"]:
                return
            await asyncio.sleep(0.5)
        pytest.fail("the engines are not idle after 100 s")


def prompt(tokens: int, seed: object) -> list[int]:
    chance = random.Random(str(seed))
    return [chance.randrange(100, 19_000) for _ in range(tokens)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("plugin")
    broken = folder / "broken"
    (broken / "broken_plugin-0.dist-info").mkdir(parents=True)
    (broken / "broken_plugin.py").write_text(BROKEN)
    (broken / "broken_plugin-0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0\n")
    (broken / "broken_plugin-0.dist-info" / "entry_points.txt").write_text(
        "[sglang.srt.plugins]\nbroken = broken_plugin:register\n"
    )
    settings, broken_while = folder / "scheduling.json", folder / "broken-now"
    variables = {
        "DOPD_SCHEDULING_FILE": str(settings),
        "BROKEN_WHILE": str(broken_while),
        "SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_IDLE": "1",
    }
    with Fleet() as fleet:
        started = start_pair(
            fleet,
            prefill_flags=["--chunked-prefill-size", "1024"],
            environment=variables,
            prefill_plugins=[plugin_folder(IMAGE_FOLDER, folder / "dopd"), broken],
        )
        fleet.wait_until_ready()
        yield Pair(started, settings, broken_while)


def answered(answers: Sequence[Answer | None]) -> list[Answer]:
    """All of them, of which none may have failed."""
    assert all(answer is not None and answer.statuses == (200, 200) for answer in answers), answers
    return [answer for answer in answers if answer is not None]


async def long_ones_then_short_ones(pair: Pair) -> int:
    """Three long prompts, then twenty short ones: how many short ones were answered before the second long one."""
    seed = random.random()
    prompts = [prompt(LONG, f"{seed} {number}") for number in range(3)]
    prompts += [prompt(SHORT, f"{seed} {number}") for number in range(3, 23)]
    answers = answered(await pair.crowd(prompts, gap_seconds=0.02))
    second = sorted(answer.place for answer in answers[:3])[1]
    return sum(answer.place < second for answer in answers[3:])


async def test_the_engine_says_whose_order_it_is(pair: Pair) -> None:
    metrics = pair.metrics()
    assert metrics["dopd_prefill_order_active"] == 1
    assert any(name.startswith("dopd_prefill_order_info{") and value == 1 for name, value in metrics.items())


async def test_short_prompts_pass_long_ones_and_the_order_changes_without_a_restart(pair: Pair) -> None:
    await pair.set(ttftSeconds=60)
    assert await long_ones_then_short_ones(pair) >= 15
    await pair.set(policy="engine-default")
    assert await long_ones_then_short_ones(pair) <= 5
    assert pair.metrics()["dopd_prefill_order_active"] == 0
    await pair.set(ttftSeconds=60, mostUnfinished=1)
    assert await long_ones_then_short_ones(pair) >= 15
    assert pair.metrics()["dopd_prefill_overtakings_total"] > 0


async def test_a_bad_file_is_counted_and_changes_nothing(pair: Pair) -> None:
    await pair.set(ttftSeconds=60)
    before = pair.metrics()['dopd_prefill_order_fallbacks_total{reason="settings"}']
    pair.write("{")
    await asyncio.sleep(1.2)
    assert await long_ones_then_short_ones(pair) >= 15
    metrics = pair.metrics()
    assert metrics['dopd_prefill_order_fallbacks_total{reason="settings"}'] == before + 1
    assert metrics["dopd_prefill_order_active"] == 1


async def test_answers_are_the_same_whatever_the_order(pair: Pair) -> None:
    chance = random.Random(5)
    prompts = [prompt(min(LONG, 20 + int(chance.lognormvariate(6, 1.3))), number) for number in range(40)]
    answers = []
    several: tuple[dict[str, Any], ...] = ({"policy": "engine-default"}, {"mostUnfinished": 1}, {"mostUnfinished": 3})
    for settings in several:
        await pair.set(ttftSeconds=20, **settings)
        crowd = answered(await pair.crowd(prompts, gap_seconds=0.05))
        answers.append([answer.tokens for answer in crowd])
        await pair.until_idle()
        assert pair.flush() == [0, 0]
    assert answers[0] == answers[1]
    assert answers[0] == answers[2]


async def test_clients_that_leave_at_any_time_leave_nothing_behind(pair: Pair) -> None:
    await pair.set(ttftSeconds=20, mostUnfinished=3)
    chance = random.Random(6)
    prompts = [prompt(chance.choice([50, 200, 1500, LONG]), f"leaving {number}") for number in range(50)]
    leaves_after = {number: chance.uniform(0, 10) for number in range(50) if chance.random() < 0.4}
    answers = await pair.crowd(prompts, gap_seconds=0.05, leaves_after=leaves_after)
    answered([answer for number, answer in enumerate(answers) if number not in leaves_after])
    await pair.until_idle()
    assert pair.flush() == [0, 0]
    assert "memory leak" not in pair.log.read_text()


async def test_errors_leave_the_passes_to_the_engine_and_switch_the_plugin_off(pair: Pair) -> None:
    """The last one: afterwards the plugin is off for good."""
    await pair.set(ttftSeconds=60)
    pair.broken_while.touch()
    assert await long_ones_then_short_ones(pair) <= 5
    metrics = pair.metrics()
    assert metrics['dopd_prefill_order_fallbacks_total{reason="error"}'] >= 3
    assert metrics['dopd_prefill_order_fallbacks_total{reason="switched-off"}'] == 1
    assert metrics["dopd_prefill_order_active"] == 0
    pair.broken_while.unlink()
    assert await long_ones_then_short_ones(pair) <= 5
