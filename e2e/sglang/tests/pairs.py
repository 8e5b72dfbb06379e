"""A prefill and a decode engine, and prompts for them as a gateway would send them."""

import asyncio
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.sglang.engines import StartedPair
from e2e.sglang.settings_file import put, replace_whole
from e2e.sglang.tests.http import load_of

TIMES = {"passPoints": [{"tokens": 30, "seconds": 0.05}, {"tokens": 1000, "seconds": 1.02}]}
"""What the plugin is told that passes take: about a millisecond a token."""


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

    def __init__(self, pair: StartedPair, settings: Path) -> None:
        self.prefill, self.decode, self.bootstrap_port = pair.prefill.url, pair.decode.url, pair.prefill.bootstrap_port
        self.log = pair.prefill.server.log
        self._settings = settings
        self._room = random.randrange(10**9)

    async def set(self, **settings: Any) -> None:
        """Change the settings as a ConfigMap does; the plugin looks once a second."""
        await put(self._settings, times=TIMES, **settings)

    def write(self, text: str) -> None:
        """Put any text in place of the settings."""
        replace_whole(self._settings, text)

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
        self,
        client: httpx.AsyncClient,
        ids: list[int],
        answered: list[int],
        leaves_after: float | None = None,
        priority: int | None = None,
    ) -> Answer | None:
        """One prompt, to both engines as a gateway does."""
        self._room += 1
        body: dict[str, Any] = {} if priority is None else {"priority": priority}
        body |= {
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
        self,
        prompts: Sequence[list[int]],
        gap_seconds: float = 0.0,
        leaves_after: Mapping[int, float] | None = None,
        priorities: Mapping[int, int] | None = None,
    ) -> list[Answer | None]:
        """Several prompts at once, or with a gap between them. Mappings are by the place of a prompt."""
        answered: list[int] = []
        leaves_after, priorities = leaves_after or {}, priorities or {}
        async with httpx.AsyncClient(timeout=300, limits=httpx.Limits(max_keepalive_connections=0)) as client:
            tasks = []
            for number, ids in enumerate(prompts):
                tasks.append(
                    asyncio.create_task(
                        self.ask(client, ids, answered, leaves_after.get(number), priorities.get(number))
                    )
                )
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


def answered(answers: Sequence[Answer | None]) -> list[Answer]:
    """All of them, of which none may have failed."""
    assert all(answer is not None and answer.statuses == (200, 200) for answer in answers), answers
    return [answer for answer in answers if answer is not None]
