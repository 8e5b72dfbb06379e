"""What an engine shows of itself: every metric family, label and bucket edge, and the fields of its JSON answers.

The same requests are sent to real and to simulated engines, and what each shows afterwards is noted without its
numbers. The notes of real engines are kept in the repository (`RECORDED`, by `python -m e2e.sglang record`), so that
the simulator is compared with them where no SGLang is.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import REPOSITORY

RECORDED = REPOSITORY / "worker_images" / "simulator" / "tests" / "recorded"
"""One file for each kind of engine: regular, prefill, decode."""

UNEVEN_LABELS = frozenset({"pid"})
"""Labels whose values are of one process."""

_LEAVE_SECONDS = 0.3
_IDLE_LOOKS = 1200

Json = Any
Post = Callable[[str, dict[str, Any]], Awaitable[int]]


@dataclass(frozen=True)
class Target:
    """An engine to look at.

    Attributes:
        url: where it answers, without a path.
        bootstrap_port: where decode finds it, if it is a prefill engine.
    """

    url: str
    bootstrap_port: int = 0


async def exercise_regular(http: aiohttp.ClientSession, engine: Target) -> None:
    """Send what shows most of an engine that serves whole requests."""
    await _exercise(http, [engine], {})


async def exercise_pair(http: aiohttp.ClientSession, prefill: Target, decode: Target) -> None:
    """Send the same to a pair, each request to both sides."""
    meeting = {"bootstrap_host": urlsplit(prefill.url).hostname, "bootstrap_port": prefill.bootstrap_port}
    await _exercise(http, [prefill, decode], meeting)


async def _exercise(http: aiohttp.ClientSession, engines: list[Target], meeting: dict[str, Any]) -> None:
    async def all_of(path: str, body: dict[str, Any]) -> None:
        room = {**meeting, "bootstrap_room": random.getrandbits(62)} if meeting else {}
        await asyncio.gather(*(_post(http, engine.url + path, {**body, **room}) for engine in engines))

    for engine in engines:
        for path in ("/ready", "/health"):
            await _get(http, engine.url + path)
    await all_of("/generate", _generate(300, 60))
    await all_of("/generate", _generate(300, 60, stream=True))
    await all_of("/generate", _generate(5000, 4, stream=True))  # in pieces
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8, "ignore_eos": True}
    await all_of("/v1/chat/completions", {**chat, "stream": True})
    await all_of("/v1/completions", {"model": "tiny", "prompt": "hello", "max_tokens": 8, "ignore_eos": True})
    for engine in engines:  # refused
        await _post(http, engine.url + "/generate", {"sampling_params": {}})
    for stream in (True, False):  # clients that leave
        with suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_SECONDS):
                await all_of("/generate", _generate(300, 3000, stream=stream))
        for engine in engines:
            await _until_idle(http, engine)
    await all_of("/generate", _generate(300, 60, stream=True))
    for engine in engines:
        await _until_idle(http, engine)


def _generate(prompt_tokens: int, tokens: int, *, stream: bool = False) -> dict[str, Any]:
    return {
        "input_ids": [5 + place % 50 for place in range(prompt_tokens)],
        "sampling_params": {"max_new_tokens": tokens, "temperature": 0, "ignore_eos": True},
        "stream": stream,
    }


async def _post(http: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> int:
    async with http.post(url, json=body) as answer:
        await answer.read()
        return answer.status


async def _get(http: aiohttp.ClientSession, url: str) -> str:
    async with http.get(url) as answer:
        return await answer.text()


async def _until_idle(http: aiohttp.ClientSession, engine: Target) -> None:
    for _ in range(_IDLE_LOOKS):
        if await _post(http, engine.url + "/flush_cache", {}) == 200:
            return
        await asyncio.sleep(0.1)
    raise ClusterError(f"{engine.url} is not idle: something else uses it")


async def note(http: aiohttp.ClientSession, engine: Target) -> dict[str, Json]:
    """What an engine shows now, without its numbers."""
    info = json.loads(await _get(http, engine.url + "/server_info"))
    states = ({name: each for name, each in state.items() if name not in info} for state in info["internal_states"])
    return {
        "version": info["version"],
        "metrics": metrics_shape(await _get(http, engine.url + "/metrics")),
        "loads": shape(json.loads(await _get(http, engine.url + "/v1/loads"))),
        "server_info": shape({**info, "internal_states": list(states)}),
        "model_info": shape(json.loads(await _get(http, engine.url + "/model_info"))),
    }


def metrics_shape(text: str) -> dict[str, Json]:
    """Type, label values and bucket edges of every family of a scrape, by its name."""
    shapes: dict[str, Json] = {}
    for family in text_string_to_metric_families(text):
        labels: dict[str, set[str]] = {}
        edges: dict[str, None] = {}
        names = set()
        for sample in family.samples:
            names.add(tuple(sorted(set(sample.labels) - {"le"})))
            for label, value in sample.labels.items():
                if label == "le":
                    edges[value] = None
                else:
                    labels.setdefault(label, set()).add("*" if label in UNEVEN_LABELS else value)
        entry: dict[str, Json] = {
            "type": family.type,
            "labels": {name: sorted(labels[name]) for name in sorted(labels)},
        }
        if len(names) > 1:
            entry["label_sets"] = sorted(map(list, names))
        if edges:
            entry["le"] = list(edges)
        shapes[family.name] = entry
    return dict(sorted(shapes.items()))


def shape(value: Json) -> Json:
    """The type of a JSON value; of objects the types of their fields, of lists that of the first element."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in sorted(value.items())}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    if value is None or isinstance(value, bool | str):
        return "null" if value is None else "text" if isinstance(value, str) else "bool"
    return "number"


def differences(real: Json, simulated: Json, path: str = "") -> Iterator[str]:
    """One line for each field in which two notes differ: what it is and what each side has."""
    if isinstance(real, Mapping) and isinstance(simulated, Mapping):
        for name in sorted({*real, *simulated}):
            inner = f"{path}/{name}"
            if name not in simulated:
                yield f"{inner}: only real"
            elif name not in real:
                yield f"{inner}: only simulated"
            else:
                yield from differences(real[name], simulated[name], inner)
    elif isinstance(real, list) and isinstance(simulated, list) and "/metrics/" in path and path.count("/labels/"):
        for value in sorted({*real} ^ {*simulated}):
            yield f"{path}={value}: only {'real' if value in real else 'simulated'}"
    elif isinstance(real, list) and isinstance(simulated, list) and len(real) == len(simulated) == 1:
        yield from differences(real[0], simulated[0], f"{path}[]")
    elif real != simulated:
        yield f"{path}: {real} real, {simulated} simulated"


def read(kind: str, folder: Path = RECORDED) -> dict[str, Json]:
    """What was recorded of a real engine."""
    recorded: dict[str, Json] = json.loads((folder / f"{kind}.json").read_text())
    return recorded


def write(kind: str, recorded: Mapping[str, Json], folder: Path = RECORDED) -> Path:
    """Keep what was recorded of a real engine."""
    folder.mkdir(exist_ok=True)
    target = folder / f"{kind}.json"
    target.write_text("{\n" + ",\n".join(_lines(recorded)) + "\n}\n")
    return target


def _lines(recorded: Mapping[str, Json]) -> Iterator[str]:
    """A line for each field of each part, so that a change of version reads well."""
    for part, value in recorded.items():
        inner = json.dumps(value)
        if isinstance(value, dict):
            fields = (f"  {json.dumps(name)}: {json.dumps(each)}" for name, each in value.items())
            inner = "{\n" + ",\n".join(fields) + "\n }"
        yield f" {json.dumps(part)}: {inner}"
