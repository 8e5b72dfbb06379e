"""`dopd profile measure`: an EngineProfile from one running prefill and one running decode engine.

Drives the pair over HTTP with bounded load and reads the engines' own counters (`/v1/loads`), so that neither the
network nor this program is in the numbers. The pair must be idle otherwise: take it out of the gateway first. Takes
minutes, and no longer than --limit-seconds; every request is one that a client could have sent.
"""

import argparse
import asyncio
import datetime
import random
import sys
from dataclasses import dataclass
from math import ceil
from typing import Any
from urllib.parse import urlsplit

import httpx

from dopd.api.profile import (
    DecodePoint,
    DecodeProfile,
    EngineProfileSpec,
    Origin,
    PrefillPoint,
    PrefillProfile,
    ProfileSource,
)
from dopd.cli.arguments import output_file
from dopd.cli.profile_estimate import rising, rising_grid, write_profile
from dopd.perf.engine import interpolate

PREFILL_TOKENS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384)
CONTEXT_TOKENS = (512, 2048, 8192)
BATCHES = (1, 4, 16, 32, 64, 128, 256)
REPEATS = 3
OUTPUT_TOKENS = 256
STEADY_SECONDS = 1.0
MOST_STEPS_UNSEEN = 50
"""Decode steps between two looks that an engine grants at its counters: 15 in SGLang, unless told otherwise."""
FASTEST_STEP_SECONDS = 0.004
BATCH_TOLERANCE = 0.05
POLL_SECONDS = 0.05
VOCABULARY = (100, 20_000)  # token ids that every tokenizer knows


class MeasureError(RuntimeError):
    """The engines did not do what a measurement needs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `dopd profile measure`."""
    parser.add_argument("--name", required=True, help="name of the EngineProfile")
    parser.add_argument("--model", required=True, help="model that the engines serve, for people")
    parser.add_argument("--gpu", required=True, help="GPU type, for people")
    parser.add_argument(
        "--data-type", help="data types of the engines, for people, such as 'weights fp8, KV cache fp8'"
    )
    parser.add_argument("--gpus", type=int, default=1, help="GPUs of one engine")
    parser.add_argument("--prefill-url", required=True, help="base URL of an idle prefill engine")
    parser.add_argument("--decode-url", required=True, help="base URL of an idle decode engine")
    parser.add_argument("--bootstrap-port", type=int, default=8998, help="of the prefill engine")
    parser.add_argument("--max-tokens", type=int, default=8192, help="longest prompt sent")
    parser.add_argument("--max-batch", type=int, default=128, help="most requests at once")
    parser.add_argument("--limit-seconds", type=float, default=1800.0, help="give up after so long (default 1800)")
    parser.add_argument("--output", type=output_file, metavar="FILE", help="file to write (default: standard output)")


def call(args: argparse.Namespace) -> int:
    """Measure and write the profile; returns the exit code."""
    if problem := refusal(args):
        print(f"dopd profile measure: {problem}", file=sys.stderr)
        return 2
    try:
        spec = asyncio.run(measure(args))
    except (MeasureError, httpx.HTTPError) as error:
        print(f"dopd profile measure: {error}", file=sys.stderr)
        return 1
    write_profile(args.name, spec, args.output)
    return 0


def refusal(args: argparse.Namespace) -> str:
    """Why these arguments can not lead to a profile: argument, value, what is expected; "" if they can."""
    for name, least, most in (
        ("gpus", 1, 1024),
        ("bootstrap_port", 1, 65535),
        ("max_tokens", CONTEXT_TOKENS[0], None),
        ("max_batch", 1, None),
        ("limit_seconds", 1, None),
    ):
        value = getattr(args, name)
        if not value >= least or (most is not None and value > most):
            expected = f"at least {least}" if most is None else f"{least} to {most}"
            return f"--{name.replace('_', '-')} {value}: expected {expected}"
    for name in ("prefill_url", "decode_url"):
        value = getattr(args, name)
        if not _is_base_url(value):
            return f"--{name.replace('_', '-')} {value}: expected a base URL such as http://10.0.0.7:30000"
    return ""


def _is_base_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        return False


async def measure(args: argparse.Namespace, transport: httpx.AsyncBaseTransport | None = None) -> EngineProfileSpec:
    """Drive the pair through every point.

    Raises:
        MeasureError: an engine is busy, refuses a request, or counts nothing; or it takes longer than it may.
        httpx.HTTPError: an engine does not answer.
    """
    try:
        async with asyncio.timeout(args.limit_seconds):
            return await _measure(args, transport)
    except TimeoutError as error:
        raise MeasureError(
            f"not done after {args.limit_seconds:g} s: raise --limit-seconds, or lower --max-tokens or --max-batch"
        ) from error


async def _measure(args: argparse.Namespace, transport: httpx.AsyncBaseTransport | None) -> EngineProfileSpec:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=300, transport=transport, limits=limits) as http:
        pair = Pair(http, args.prefill_url.rstrip("/"), args.decode_url.rstrip("/"), args.bootstrap_port)
        await pair.check_idle()
        capacity = await pair.loads(pair.decode_url)
        kv_tokens, most = int(capacity["max_total_num_tokens"]), int(capacity["max_running_requests"])
        lengths = [tokens for tokens in PREFILL_TOKENS if tokens <= args.max_tokens]
        contexts = [tokens for tokens in CONTEXT_TOKENS if tokens <= args.max_tokens]
        room = kv_tokens // (2 * contexts[-1])
        batches = [batch for batch in BATCHES if batch <= min(args.max_batch, most, max(1, room))]
        progress = Progress(len(lengths) + len(contexts) * len(batches))
        prefill = []
        for tokens in lengths:
            progress.show(f"prefill of {tokens} tokens")
            prefill.append(await pair.prefill_seconds(tokens))
        decode = []
        for context in contexts:
            row: list[float] = []
            for batch in batches:
                progress.show(f"decode of {batch} requests at {context} tokens")
                # The first must not have finished before the last prompt is through.
                until_full = batch * interpolate(tuple(zip(lengths, prefill, strict=True)), context)
                steps = ceil(1.5 * (until_full + STEADY_SECONDS) / (row[0] if row else FASTEST_STEP_SECONDS))
                steps += 3 * MOST_STEPS_UNSEEN
                row.append(await pair.step_seconds(batch, context, max(OUTPUT_TOKENS, steps)))
            decode.append(row)
        progress.end()
    seconds, grid = rising(prefill), rising_grid(decode)
    return EngineProfileSpec(
        model=args.model,
        gpu=args.gpu,
        gpus=args.gpus,
        data_type=args.data_type or None,
        source=ProfileSource(
            origin=Origin.MEASURED,
            description="running SGLang engines, their own counters of prefill time and decode steps",
            date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        ),
        prefill=PrefillProfile(
            points=[PrefillPoint(tokens=t, seconds=s) for t, s in zip(lengths, seconds, strict=True)]
        ),
        decode=DecodeProfile(
            points=[
                DecodePoint(batch=batch, context_tokens=context, itl_seconds=grid[i][j])
                for i, context in enumerate(contexts)
                for j, batch in enumerate(batches)
            ],
            kv_tokens=kv_tokens,
            max_running_requests=most,
        ),
    )


@dataclass(frozen=True)
class Pair:
    """One prefill and one decode engine."""

    http: httpx.AsyncClient
    prefill_url: str
    decode_url: str
    bootstrap_port: int

    async def loads(self, url: str) -> dict[str, Any]:
        """The engine's counters (`/v1/loads`, first rank)."""
        answer = await self.http.get(f"{url}/v1/loads", params={"include": "all"})
        answer.raise_for_status()
        first: dict[str, Any] = answer.json()["loads"][0]
        return first

    async def check_idle(self) -> None:
        """Refuse to measure engines that serve someone."""
        for url in (self.prefill_url, self.decode_url):
            load = await self.loads(url)
            if load["num_running_reqs"] or load["num_waiting_reqs"]:
                raise MeasureError(f"{url} runs {load['num_running_reqs']} requests; take it out of the gateway first")

    async def prefill_seconds(self, tokens: int) -> float:
        """Time of one prefill of that many tokens, mean of a few, by the engine's own busy time."""
        before = await self.loads(self.prefill_url)
        for _ in range(REPEATS):
            await self._generate(tokens, 2)
        after = await self.loads(self.prefill_url)
        computed = after["total_prefill_uncached_tokens"] - before["total_prefill_uncached_tokens"]
        if computed < REPEATS * tokens * 0.9:
            raise MeasureError(
                f"{self.prefill_url} computed {computed} of {REPEATS * tokens} tokens; disable its prefix cache"
            )
        busy = after["total_prefill_busy_us"] - before["total_prefill_busy_us"]
        return float(busy) / 1e6 / float(computed) * tokens

    async def step_seconds(self, batch: int, context_tokens: int, output_tokens: int) -> float:
        """Time of one decode step while exactly `batch` requests run."""
        requests = [asyncio.create_task(self._generate(context_tokens, output_tokens)) for _ in range(batch)]
        try:
            await self._until_running(batch, requests)
            before = await self._moments_when_published(requests)
            await asyncio.sleep(STEADY_SECONDS)
            after = await self._moments_when_published(requests)
        except asyncio.CancelledError:
            for request in requests:
                request.cancel()
            raise
        finally:
            await asyncio.gather(*requests, return_exceptions=True)
        for request in requests:
            if error := request.exception():
                raise MeasureError(f"a request of {context_tokens} tokens at batch {batch} failed: {error}")
        steps = after[0] - before[0]
        if steps < 1:
            raise MeasureError(f"no decode step was counted at batch {batch} and {context_tokens} tokens")
        ran = (after[1] - before[1]) / steps
        if abs(ran - batch) > BATCH_TOLERANCE * batch:
            raise MeasureError(
                f"{ran:.1f} requests of {context_tokens} tokens ran together where {batch} were sent; lower --max-batch"
            )
        return (after[2] - before[2]) / steps / 1e6

    async def _until_running(self, batch: int, requests: list[asyncio.Task[None]]) -> None:
        while (await self.loads(self.decode_url))["num_running_reqs"] < batch:
            if any(request.done() for request in requests):
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _moments_when_published(self, requests: list[asyncio.Task[None]]) -> list[float]:
        """The counters as soon as they move: engines show them every few steps, a large part of what is measured."""
        known = moments = await self._moments()
        while moments[0] == known[0] and not any(request.done() for request in requests):
            await asyncio.sleep(POLL_SECONDS)
            moments = await self._moments()
        return moments

    async def _moments(self) -> list[float]:
        moments = (await self.loads(self.decode_url))["decode_moments"]
        if moments is None:
            raise MeasureError(f"{self.decode_url} counts no decode steps; it needs SGLang 0.5.17 or later")
        return [float(value) for value in moments]

    async def _generate(self, tokens: int, output_tokens: int) -> None:
        body = {
            "input_ids": [random.randint(*VOCABULARY) for _ in range(tokens)],
            "sampling_params": {"max_new_tokens": output_tokens, "temperature": 0, "ignore_eos": True},
            "bootstrap_host": urlsplit(self.prefill_url).hostname,
            "bootstrap_port": self.bootstrap_port,
            "bootstrap_room": random.getrandbits(62),
        }
        urls = (self.prefill_url, self.decode_url)
        answers = await asyncio.gather(*(self.http.post(f"{url}/generate", json=body) for url in urls))
        for url, answer in zip(urls, answers, strict=True):
            if answer.status_code != httpx.codes.OK:
                raise MeasureError(f"{url}/generate answered {answer.status_code}: {answer.text[:200]}")


class Progress:
    """A line on standard error that says what is being measured and how far it is."""

    def __init__(self, points: int) -> None:
        self._points, self._done = points, 0

    def show(self, what: str) -> None:
        """Begin the next point."""
        filled = 30 * self._done // self._points
        print(
            f"\r[{'#' * filled}{'.' * (30 - filled)}] {self._done}/{self._points} {what:<44}", end="", file=sys.stderr
        )
        self._done += 1

    def end(self) -> None:
        """Leave the line."""
        print(f"\r[{'#' * 30}] {self._points}/{self._points}{'':<46}", file=sys.stderr)
