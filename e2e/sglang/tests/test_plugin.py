"""The plugin in the scheduler of a real prefill engine: its order, its settings, its metrics, and what goes wrong."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e.sglang.engines import plugin_folder, start_pair
from e2e.sglang.fleet import Fleet
from e2e.sglang.install import IMAGE_FOLDER
from e2e.sglang.tests.pairs import Pair, answered, prompt

pytestmark = pytest.mark.timeout(600, func_only=True)  # the first start may install SGLang, which is not limited

LONG, SHORT = 5000, 100
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


@pytest.fixture(scope="module")
def broken_while(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """While a file is here, the planner raises errors."""
    return tmp_path_factory.mktemp("broken") / "now"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, broken_while: Path) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("plugin")
    broken = folder / "broken"
    (broken / "broken_plugin-0.dist-info").mkdir(parents=True)
    (broken / "broken_plugin.py").write_text(BROKEN)
    (broken / "broken_plugin-0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0\n")
    (broken / "broken_plugin-0.dist-info" / "entry_points.txt").write_text(
        "[sglang.srt.plugins]\nbroken = broken_plugin:register\n"
    )
    settings = folder / "scheduling.json"
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
        yield Pair(started, settings)


@contextmanager
def there(file: Path) -> Iterator[None]:
    """A file is there for a while."""
    file.touch()
    yield
    file.unlink()


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


async def test_errors_leave_the_passes_to_the_engine_and_switch_the_plugin_off(pair: Pair, broken_while: Path) -> None:
    """The last one: afterwards the plugin is off for good."""
    await pair.set(ttftSeconds=60)
    with there(broken_while):
        assert await long_ones_then_short_ones(pair) <= 5
        metrics = pair.metrics()
        assert metrics['dopd_prefill_order_fallbacks_total{reason="error"}'] >= 3
        assert metrics['dopd_prefill_order_fallbacks_total{reason="switched-off"}'] == 1
        assert metrics["dopd_prefill_order_active"] == 0
    assert await long_ones_then_short_ones(pair) <= 5
