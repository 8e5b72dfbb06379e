"""One prefill and one decode engine, driven and read for `dopd profile measure`.

Engines show their counters late: SGLang renews `/v1/loads` at the end of a prefill pass, when nothing runs, and each
fifteenth decode step (`--load-snapshot-publish-interval`). So whoever reads them waits until they move; what lies
between two moves is exact, however long a step is. Requests are given up once they have been measured: the client
leaves and the engines are told, so that a point takes as long as it must be looked at and not as long as its answers.
"""

import asyncio
import math
import random
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from prometheus_client.parser import text_string_to_metric_families

REPEATS = 3
LEAST_SECONDS = 1.0
LEAST_STEPS = 30
BATCH_TOLERANCE = 0.05
WINDOWS = 5
"""So often a point is looked at anew when the batch was not whole all the time."""
POLL_SECONDS = 0.05
MOST_SECONDS_UNMOVED = 60.0
"""An engine counts no decode step of two seconds or more, and fifteen of less take half a minute."""
LEAST_OUTPUT_TOKENS = 4 * LEAST_STEPS
MOST_OUTPUT_TOKENS = 4096
"""What SGLang reserves room for at most (`SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION`)."""
TOKEN_IDS = (100, 20_000)
"""Of the ids that a model has, those without special tokens, which most vocabularies have at either end."""
SAMPLE = "The quick brown fox jumps over 13 lazy dogs; naïve café, Straße, Москва, 東京, 서울, 🙂. "


class MeasureError(RuntimeError):
    """The engines did not do what a measurement needs."""


@dataclass(frozen=True)
class Facts:
    """What a pair says of itself (`/server_info`).

    Attributes:
        version: of the engines.
        model_path: what they loaded.
        gpus: of one engine.
        data_type: of weights and KV cache.
        kv_tokens: KV cache of the decode engine, tokens.
        max_running_requests: largest batch of the decode engine.
        chunk_tokens: of one prefill pass at most.
        longest_tokens: prompt and answer together.
    """

    version: str
    model_path: str
    gpus: int
    data_type: str
    kv_tokens: int
    max_running_requests: int
    chunk_tokens: int
    longest_tokens: int


class Pair:
    """One prefill and one decode engine.

    Args:
        http: client.
        prefill_url: base URL of the prefill engine.
        decode_url: base URL of the decode engine.
        bootstrap_port: of the prefill engine.
        vocabulary: size of the model's vocabulary; None to ask the engine.
    """

    def __init__(
        self, http: httpx.AsyncClient, prefill_url: str, decode_url: str, bootstrap_port: int, vocabulary: int | None
    ) -> None:
        self.prefill_url, self.decode_url = prefill_url, decode_url
        self._http, self._bootstrap_port, self._vocabulary = http, bootstrap_port, vocabulary
        self._ids = range(0)

    async def prepare(self) -> Facts:
        """Ask both engines what they are.

        Raises:
            MeasureError: one serves somebody, is not of its role, or lacks what a measurement needs.
        """
        for url, role in ((self.prefill_url, "prefill"), (self.decode_url, "decode")):
            load = await self.loads(url)
            if not _idle(load):
                raise MeasureError(f"{url} runs {load['num_running_reqs']} requests; take it out of the gateway first")
            told = (load.get("disaggregation") or {}).get("mode", role)
            if told != role:
                raise MeasureError(f"{url} is a {told} engine; expected a {role} engine: swap or correct the URLs")
        prefill, decode = await self._info(self.prefill_url), await self._info(self.decode_url)
        self._ids = await self._token_ids()
        load = await self.loads(self.decode_url)
        chunk = _whole(prefill, "chunked_prefill_size")
        gpus = {_world_size(info) for info in (prefill, decode)}
        if len(gpus) > 1:
            sizes = " and ".join(map(str, sorted(gpus)))
            raise MeasureError(f"the engines have {sizes} GPUs; a profile is of one size: measure a pair of equal ones")
        return Facts(
            version=str(decode.get("version", "")),
            model_path=str(decode.get("model_path", "")),
            gpus=gpus.pop(),
            data_type=_data_type(decode),
            kv_tokens=int(load["max_total_num_tokens"]),
            max_running_requests=int(load["max_running_requests"]),
            chunk_tokens=chunk if chunk > 0 else _whole(prefill, "max_prefill_tokens"),
            longest_tokens=_whole(decode, "max_req_input_len"),
        )

    async def loads(self, url: str) -> dict[str, Any]:
        """The engine's counters (`/v1/loads`).

        Raises:
            MeasureError: it has several data-parallel ranks, each with its own.
        """
        ranks = (await self._json(f"{url}/v1/loads", include="all"))["loads"]
        if len(ranks) != 1:
            raise MeasureError(f"{url} has {len(ranks)} data-parallel ranks; measure an engine with one (--dp-size 1)")
        rank: dict[str, Any] = ranks[0]
        return rank

    async def prefill_seconds(self, tokens: int) -> tuple[float, float | None]:
        """Time of one prefill of that many tokens and of its transfer, means of a few, by the engine's own counters.

        The time of the transfer is None where the engine shows no metrics.
        """
        before, sent_before = await self.loads(self.prefill_url), await self._transfers()
        for _ in range(REPEATS):
            await self._generate(tokens, 2)
        counted = before["total_prefill_uncached_tokens"]

        def all_counted(load: dict[str, Any]) -> bool:
            return bool(load["total_prefill_uncached_tokens"] - counted >= REPEATS * tokens)

        after = await self._until(self.prefill_url, all_counted, MOST_SECONDS_UNMOVED / 20)
        computed = after["total_prefill_uncached_tokens"] - counted
        if computed < REPEATS * tokens * 0.9:
            raise MeasureError(
                f"{self.prefill_url} computed {computed} of {REPEATS * tokens} tokens; disable its prefix cache"
            )
        busy = after["total_prefill_busy_us"] - before["total_prefill_busy_us"]
        sent = [b - a for a, b in zip(sent_before, await self._transfers(), strict=True)]
        return float(busy) / 1e6 / float(computed) * tokens, sent[0] / 1e3 / sent[1] if sent[1] else None

    async def step_seconds(self, batch: int, context_tokens: int, room: int) -> float:
        """Time of one decode step while exactly `batch` requests run.

        Args:
            batch: requests at once.
            context_tokens: prompt of each.
            room: tokens that each may have for its answer.
        """
        output = min(room, MOST_OUTPUT_TOKENS)
        names = [f"measure-{uuid.uuid4().hex}" for _ in range(batch)]
        requests = [asyncio.create_task(self._generate(context_tokens, output, rid)) for rid in names]
        what = f"{batch} requests of {context_tokens} tokens"
        try:
            return await self._steady(batch, what, requests)
        except MeasureError:
            for request in requests:
                if request.done() and (reason := request.exception()):
                    raise MeasureError(f"one of {what} failed: {reason}") from reason
            raise
        finally:
            for request in requests:
                request.cancel()
            await asyncio.gather(*requests, return_exceptions=True)
            await self._give_up(names)

    async def _steady(self, batch: int, what: str, requests: "list[asyncio.Task[None]]") -> float:
        def ended() -> bool:
            return any(request.done() for request in requests)

        def all_run(load: dict[str, Any]) -> bool:
            return ended() or load["num_running_reqs"] >= batch

        await self._until(self.decode_url, all_run, math.inf)
        ran = 0.0
        for _ in range(WINDOWS):
            began = time.monotonic()
            first = last = await self._moved(_moments(await self.loads(self.decode_url)), ended)
            while last[0] - first[0] < LEAST_STEPS or time.monotonic() - began < LEAST_SECONDS:
                last = await self._moved(last, ended)
                if ended():
                    raise MeasureError(f"{what} ended before {LEAST_STEPS} steps were seen; lower --max-batch")
            steps = last[0] - first[0]
            ran = (last[1] - first[1]) / steps
            if abs(ran - batch) <= BATCH_TOLERANCE * batch:
                return (last[2] - first[2]) / steps / 1e6
        raise MeasureError(f"{ran:.1f} of {what} ran together; lower --max-batch")

    async def _moved(self, known: list[float], ended: Callable[[], bool]) -> list[float]:
        """The decode counters as soon as they are others than those known, or a request has ended."""
        load = await self._until(
            self.decode_url, lambda load: ended() or _moments(load)[0] != known[0], MOST_SECONDS_UNMOVED
        )
        if _moments(load)[0] == known[0] and not ended():
            unmoved = f"{self.decode_url} counted no decode step in {MOST_SECONDS_UNMOVED:g} s"
            raise MeasureError(f"{unmoved}; it needs SGLang 0.5.17 or later, and steps of less than 2 s")
        return _moments(load)

    async def _until(self, url: str, holds: Callable[[dict[str, Any]], bool], most_seconds: float) -> dict[str, Any]:
        """The load as soon as it satisfies a condition, or the last one seen after that time."""
        end = time.monotonic() + most_seconds
        while True:
            load = await self.loads(url)
            if holds(load) or time.monotonic() >= end:
                return load
            await asyncio.sleep(POLL_SECONDS)

    async def _give_up(self, names: list[str]) -> None:
        """End requests that have been measured, and wait until nothing runs."""
        urls = (self.prefill_url, self.decode_url)
        with suppress(httpx.HTTPError):  # if it matters the next request tells
            for name in names:
                for url in urls:
                    await self._http.post(f"{url}/abort_request", json={"rid": name})
            for url in urls:
                await self._until(url, _idle, MOST_SECONDS_UNMOVED)

    async def _transfers(self) -> tuple[float, float]:
        """Milliseconds and number of all transfers so far; zeros where the engine shows no metrics."""
        answer = await self._http.get(f"{self.prefill_url}/metrics")
        if answer.status_code != httpx.codes.OK:
            return 0.0, 0.0
        sums = dict.fromkeys(("_sum", "_count"), 0.0)
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples if family.name == "sglang:kv_transfer_latency_ms" else ():
                for suffix in sums:
                    sums[suffix] += sample.value * sample.name.endswith(suffix)
        return sums["_sum"], sums["_count"]

    async def _token_ids(self) -> range:
        """Ids that the model has: one outside its vocabulary ends a real engine.

        Raises:
            MeasureError: nobody knows them.
        """
        if self._vocabulary is not None:
            highest = self._vocabulary - 1
        else:
            url = f"{self.decode_url}/v1/tokenize"
            answer = await self._http.post(url, json={"model": "default", "prompt": SAMPLE})
            if answer.status_code != httpx.codes.OK:
                fix = "give --vocabulary, the vocab_size of the model's config.json"
                raise MeasureError(f"{url} answered {answer.status_code}; {fix}")
            highest = max(answer.json()["tokens"])
        first, last = TOKEN_IDS
        return range(min(first, highest // 2), min(last, highest) + 1)

    async def _generate(self, tokens: int, output_tokens: int, rid: str | None = None) -> None:
        body = {
            "rid": rid or f"measure-{uuid.uuid4().hex}",
            "input_ids": random.choices(self._ids, k=tokens),
            "sampling_params": {"max_new_tokens": output_tokens, "temperature": 0, "ignore_eos": True},
            "bootstrap_host": urlsplit(self.prefill_url).hostname,
            "bootstrap_port": self._bootstrap_port,
            "bootstrap_room": random.getrandbits(62),
        }
        urls = (self.prefill_url, self.decode_url)
        answers = await asyncio.gather(*(self._http.post(f"{url}/generate", json=body) for url in urls))
        for url, answer in zip(urls, answers, strict=True):
            if answer.status_code != httpx.codes.OK:
                raise MeasureError(f"{url}/generate answered {answer.status_code}: {answer.text[:200]}")

    async def _info(self, url: str) -> dict[str, Any]:
        info: dict[str, Any] = await self._json(f"{url}/server_info")
        return info

    async def _json(self, url: str, **query: str) -> Any:
        answer = await self._http.get(url, params=query)
        answer.raise_for_status()
        return answer.json()


def _idle(load: dict[str, Any]) -> bool:
    return not load["num_running_reqs"] and not load["num_waiting_reqs"]


def _moments(load: dict[str, Any]) -> list[float]:
    return [float(value) for value in load.get("decode_moments") or (0.0,) * 6]


def _whole(info: dict[str, Any], name: str) -> int:
    value = info.get(name)
    if not isinstance(value, int):
        raise MeasureError(f"/server_info tells {name} {value!r}; expected a number: it needs SGLang 0.5.17 or later")
    return value


def _world_size(info: dict[str, Any]) -> int:
    state = (info.get("internal_states") or [{}])[0]
    return int(state.get("world_size") or info.get("tp_size") or 1)


def _data_type(info: dict[str, Any]) -> str:
    weights = info.get("quantization") or info.get("dtype") or "auto"
    cache = info.get("kv_cache_dtype") or "auto"
    return f"weights {weights}, KV cache {weights if cache == 'auto' else cache}"
