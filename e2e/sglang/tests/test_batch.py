"""A batch beside online requests on real engines: behind them in prefill, at decode and at the real gateway."""

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.workloads.batch import batch_engine_flags, batch_router_flags, priority_classes
from e2e.sglang.engines import SPEC, StartedPair, plugin_folder, start_gateway, start_pair
from e2e.sglang.fleet import Fleet, Server
from e2e.sglang.install import IMAGE_FOLDER
from e2e.sglang.tests.http import load_of
from e2e.sglang.tests.pairs import Pair, answered, prompt

pytestmark = pytest.mark.timeout(600, func_only=True)  # the first start may install SGLang, which is not limited

ONLINE_PROMPTS = "dopd_prefill_prompts_total"
BATCH_PROMPTS, BATCH_TOKENS = "dopd_prefill_batch_prompts_total", "dopd_prefill_batch_tokens_total"
LONG, SHORT = 5000, 100
SLOTS = 8
BATCH = {"slotShare": 0.25, "queueSize": 100, "queueTimeout": "10m"}
BEHIND = {"ttftSeconds": 2, "mostUnfinished": 3, "batch": {}}
"""A pass of the batch may take 0.2 s: that is less than 256 tokens, so these."""


@pytest.fixture(scope="module")
def spec() -> DisaggregatedInferenceSpec:
    raw = SPEC.model_dump(by_alias=True, exclude_unset=True)
    return DisaggregatedInferenceSpec.model_validate({**raw, "scheduling": {"batch": BATCH}})


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Fleet() as fleet:
        yield fleet


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings") / "scheduling.json"


@pytest.fixture(scope="module")
def engines(
    fleet: Fleet, spec: DisaggregatedInferenceSpec, settings: Path, tmp_path_factory: pytest.TempPathFactory
) -> StartedPair:
    """With the operator's flags for a batch."""
    return start_pair(
        fleet,
        *("--max-running-requests", str(SLOTS)),
        prefill_flags=["--chunked-prefill-size", "1024", *batch_engine_flags(spec, Role.PREFILL)],
        decode_flags=batch_engine_flags(spec, Role.DECODE),
        environment={"DOPD_SCHEDULING_FILE": str(settings), "SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_IDLE": "1"},
        prefill_plugins=[plugin_folder(IMAGE_FOLDER, tmp_path_factory.mktemp("plugin"))],
    )


@pytest.fixture(scope="module")
def gateway_metrics_port(fleet: Fleet) -> int:
    return fleet.port()


@pytest.fixture(scope="module")
def gateway(
    fleet: Fleet,
    engines: StartedPair,
    spec: DisaggregatedInferenceSpec,
    gateway_metrics_port: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> Server:
    """With the operator's classes, from the file that a pod would find them in."""
    assert spec.scheduling.batch is not None
    file = tmp_path_factory.mktemp("gateway") / "classes.yaml"
    file.write_text(json.dumps(priority_classes(spec.scheduling.batch, 1)))
    *flags, _in_the_pod = batch_router_flags(spec)
    return start_gateway(fleet, engines, flags=[*flags, str(file)], metrics_port=gateway_metrics_port)


@pytest.fixture(scope="module")
def pair(fleet: Fleet, engines: StartedPair, gateway: Server, settings: Path) -> Pair:
    fleet.wait_until_ready()
    return Pair(engines, settings)


async def batch_then_online(pair: Pair, seed: object) -> tuple[int, list[tuple[int, ...]]]:
    """Three long prompts of a batch, then ten short online ones.

    Returns how many of these were answered before the second long one, and all answers in the order of the prompts.
    """
    prompts = [prompt(LONG, f"{seed} {number}") for number in range(3)]
    prompts += [prompt(SHORT, f"{seed} {number}") for number in range(3, 13)]
    crowd = await pair.crowd(prompts, gap_seconds=0.02, priorities=dict.fromkeys(range(3), -1))
    answers = answered(crowd)
    second = sorted(answer.place for answer in answers[:3])[1]
    return sum(answer.place < second for answer in answers[3:]), [answer.tokens for answer in answers]


async def test_online_prompts_pass_a_batch_and_no_answer_changes(pair: Pair) -> None:
    await pair.set(policy="engine-default")
    passed, plain = await batch_then_online(pair, "same")
    assert passed <= 3
    await pair.until_idle()
    assert pair.flush() == [0, 0]
    await pair.set(**BEHIND)
    before = pair.metrics()
    passed, behind = await batch_then_online(pair, "same")
    assert passed == 10
    assert behind == plain
    after = pair.metrics()
    assert after[BATCH_PROMPTS] - before[BATCH_PROMPTS] == 3
    assert after[BATCH_TOKENS] - before[BATCH_TOKENS] == 3 * LONG
    assert sum(after[name] - before[name] for name in after if name.startswith(ONLINE_PROMPTS)) == 10


async def test_a_batch_that_waits_is_no_load_to_scale_for(pair: Pair) -> None:
    await pair.set(**BEHIND)
    seed = random.random()
    prompts = [prompt(LONG, f"{seed} {number}") for number in range(6)]
    running = asyncio.create_task(pair.crowd(prompts, priorities=dict.fromkeys(range(6), -1)))
    waited = 0
    while not running.done():
        load = await asyncio.to_thread(load_of, pair.prefill)
        waited = max(waited, load["num_waiting_reqs"])
        assert load["num_waiting_uncached_tokens"] == 0
        await asyncio.sleep(0.05)
    answered(await running)
    assert waited > 0


async def test_decode_counts_the_two_apart(pair: Pair) -> None:
    await pair.set(**BEHIND)
    name = "sglang:generation_tokens_histogram_count"

    def counted() -> Counter[str]:
        lines = httpx.get(f"{pair.decode}/metrics", timeout=30).text.splitlines()
        found: Counter[str] = Counter()
        for line in lines:
            if line.startswith(name):
                found[line.split('priority="')[1].split('"')[0]] += int(float(line.rsplit(" ", 1)[1]))
        return found

    before, seed = counted(), random.random()
    prompts = [prompt(SHORT, f"{seed} {number}") for number in range(5)]
    answered(await pair.crowd(prompts, priorities={0: -1, 1: -1}))
    assert counted() - before == Counter({"-1": 2, "0": 3})


async def test_clients_that_leave_in_the_middle_leave_nothing_behind(pair: Pair) -> None:
    await pair.set(**BEHIND)
    chance = random.Random(9)
    prompts = [prompt(chance.choice([50, 200, 1500, LONG]), f"leaving {number}") for number in range(30)]
    batch = {number: -1 for number in range(30) if chance.random() < 0.5}
    leaves_after = {number: chance.uniform(0, 6) for number in range(30) if chance.random() < 0.4}
    answers = await pair.crowd(prompts, gap_seconds=0.05, leaves_after=leaves_after, priorities=batch)
    answered([answer for number, answer in enumerate(answers) if number not in leaves_after])
    await pair.until_idle()
    assert pair.flush() == [0, 0]
    assert "memory leak" not in pair.log.read_text()


async def test_the_gateway_lets_in_its_share_and_online_requests_take_its_slots(
    pair: Pair, gateway: Server, gateway_metrics_port: int
) -> None:
    """Sixteen slots, of which the batch may have four. Online requests that find none take those of the batch."""
    await pair.set(**BEHIND)

    async def ask(client: httpx.AsyncClient, tokens: int, *, batch: bool) -> str:
        body = {
            "input_ids": prompt(SHORT, random.random()),
            "sampling_params": {"max_new_tokens": tokens, "ignore_eos": True},
        }
        headers = {"X-SMG-Priority": "bulk"} if batch else {}
        try:
            answer = await client.post(
                f"{gateway.url}/generate", json=body | ({"priority": -1} if batch else {}), headers=headers
            )
        except httpx.RemoteProtocolError:
            return "closed"
        return str(answer.status_code)

    def at_decode() -> int:
        load = load_of(pair.decode)
        return int(load["num_running_reqs"])

    async with httpx.AsyncClient(timeout=300, limits=httpx.Limits(max_connections=None)) as client:
        bulk = [asyncio.create_task(ask(client, 1500, batch=True)) for _ in range(12)]
        let_in = 0
        for _ in range(20):
            await asyncio.sleep(0.1)
            let_in = max(let_in, await asyncio.to_thread(at_decode))
        online = [asyncio.create_task(ask(client, 50, batch=False)) for _ in range(14)]
        came = Counter(await asyncio.gather(*online))
        ended_first = sum(task.done() for task in bulk)
        of_batch = Counter(await asyncio.gather(*bulk))
    assert let_in == 4
    assert came == Counter({"200": 14})
    assert of_batch.total() == 12
    assert set(of_batch) <= {"200", "503", "closed"}
    assert of_batch["200"] >= 8  # those that waited at the gateway, at least
    assert ended_first <= 4
    counted = scheduler_counters(gateway_metrics_port)
    assert counted["admit", "default"] == 14
    assert counted["preemption", "bulk"] == 12 - of_batch["200"]
    await pair.until_idle()
    assert pair.flush() == [0, 0]


def scheduler_counters(port: int) -> Counter[tuple[str, str]]:
    """What the gateway's classes did: by counter and class."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
    found: Counter[tuple[str, str]] = Counter()
    for name, labels, value in re.findall(r"^smg_scheduler_(\w+)_total\{(.*)\} (\S+)$", text, re.MULTILINE):
        found[name, labels.split('class="')[1].split('"')[0]] += int(float(value))
    return found
