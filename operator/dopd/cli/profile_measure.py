"""`dopd profile measure`: an EngineProfile from one running prefill and one running decode engine.

Drives the pair over HTTP with bounded load and reads the engines' own counters (`/v1/loads`), so that neither the
network nor this program is in the numbers. The pair must be idle otherwise: take it out of the gateway first. Takes
minutes, and no longer than --limit-seconds; every request is one that a client could have sent. Finished points are
kept in a file, and the next run goes on from them. An annotation of the profile says of each number whether it was
measured, reported by the engine, or is a default.
"""

import asyncio
import datetime
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import click
import httpx
import numpy as np

from dopd.api.profile import (
    DecodePoint,
    DecodeProfile,
    EngineProfileSpec,
    Origin,
    PrefillPoint,
    PrefillProfile,
    ProfileSource,
    TransferProfile,
)
from dopd.cli.arguments import number, object_name, option, output_file, whole, word
from dopd.cli.measure_pair import LEAST_OUTPUT_TOKENS, Facts, MeasureError, Pair
from dopd.cli.measure_points import Points
from dopd.cli.profile_estimate import rising, rising_grid, write_profile

PREFILL_TOKENS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384)
CONTEXT_TOKENS = (512, 2048, 8192)
BATCHES = (1, 4, 16, 32, 64, 128, 256)
ORIGINS_ANNOTATION = "dopd.dev/origins"
"""Where the numbers come from, one line each: field and Measured, Reported or Default."""


@click.command("measure", help=__doc__)
@option("--name", of=object_name, metavar="NAME", required=True, help="name of the EngineProfile")
@option("--model", of=word(253), required=True, help="model that the engines serve, for people")
@option("--gpu", of=word(63), required=True, help="GPU type, for people")
@option(
    "--data-type",
    of=word(253),
    help="data types of the engines, for people, such as 'weights fp8, KV cache fp8' (default: as they report)",
)
@option("--gpus", of=whole, metavar="N", help="GPUs of one engine (default: as it reports)")
@option("--prefill-url", metavar="URL", required=True, help="base URL of an idle prefill engine")
@option("--decode-url", metavar="URL", required=True, help="base URL of an idle decode engine")
@option("--bootstrap-port", of=whole, metavar="PORT", default="8998", help="of the prefill engine")
@option("--max-tokens", of=whole, metavar="N", default="8192", help="longest prompt sent")
@option("--max-batch", of=whole, metavar="N", default="128", help="most requests at once")
@option("--vocabulary", of=whole, metavar="N", help="token ids of the model (default: asked of its tokenizer)")
@option("--limit-seconds", of=number(), metavar="SECONDS", default="1800", help="give up after so long (default 1800)")
@option("--output", of=output_file, metavar="FILE", help="file to write (default: standard output)")
@option(
    "--points",
    of=output_file,
    metavar="FILE",
    help="file that keeps finished points until the profile is written (default: NAME.points.json)",
)
def command(**given: Any) -> int:
    """Arguments of `dopd profile measure`."""
    return call(SimpleNamespace(**given))


def call(args: SimpleNamespace) -> int:
    """Measure and write the profile; returns the exit code."""
    if problem := refusal(args):
        print(f"dopd profile measure: {problem}", file=sys.stderr)
        return 2
    if args.points is None:
        args.points = Path(f"{args.name}.points.json")
    try:
        spec, origins, points = asyncio.run(measure(args))
    except (MeasureError, httpx.HTTPError, ValueError, OSError) as error:
        reason = str(error) or type(error).__name__
        kept = f"; finished points are in {args.points}: the same command goes on" if args.points.exists() else ""
        print(f"dopd profile measure: {reason}{kept}", file=sys.stderr)
        return 1
    write_profile(args.name, spec, args.output, {ORIGINS_ANNOTATION: origins})
    points.done()
    return 0


def refusal(args: SimpleNamespace) -> str:
    """Why these arguments can not lead to a profile: argument, value, what is expected; "" if they can."""
    for name, least, most in (
        ("gpus", 1, 1024),
        ("bootstrap_port", 1, 65535),
        ("max_tokens", CONTEXT_TOKENS[0], None),
        ("max_batch", 1, None),
        ("vocabulary", 2, None),
        ("limit_seconds", 1, None),
    ):
        value = getattr(args, name)
        if value is not None and (not value >= least or (most is not None and value > most)):
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


async def measure(
    args: SimpleNamespace, transport: httpx.AsyncBaseTransport | None = None
) -> tuple[EngineProfileSpec, str, Points]:
    """Drive the pair through every point that is not yet measured.

    Returns:
        The profile, where its numbers come from, and the points.

    Raises:
        MeasureError: an engine is busy, refuses a request, or counts nothing; or it takes longer than it may.
        ValueError: the file of points is of other engines.
        httpx.HTTPError: an engine does not answer.
    """
    try:
        async with asyncio.timeout(args.limit_seconds):
            return await _measure(args, transport)
    except TimeoutError as error:
        raise MeasureError(
            f"not done after {args.limit_seconds:g} s: raise --limit-seconds, or lower --max-tokens or --max-batch"
        ) from error


async def _measure(
    args: SimpleNamespace, transport: httpx.AsyncBaseTransport | None
) -> tuple[EngineProfileSpec, str, Points]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=300, transport=transport, limits=limits) as http:
        pair = Pair(
            http, args.prefill_url.rstrip("/"), args.decode_url.rstrip("/"), args.bootstrap_port, args.vocabulary
        )
        facts = await pair.prepare()
        if args.gpus is not None and args.gpus != facts.gpus:
            raise MeasureError(f"--gpus {args.gpus}: the engines report {facts.gpus}; leave it out")
        points = Points.load(args.points, asdict(facts))
        longest = min(args.max_tokens, facts.longest_tokens - LEAST_OUTPUT_TOKENS)
        lengths = [tokens for tokens in PREFILL_TOKENS if tokens <= longest]
        contexts = [tokens for tokens in CONTEXT_TOKENS if tokens <= longest]
        if not contexts:
            raise MeasureError(f"the engines take {facts.longest_tokens} tokens; expected at least 640")
        room = facts.kv_tokens // (contexts[-1] + max(contexts[-1], 1024))
        most = min(args.max_batch, facts.max_running_requests, max(1, room))
        batches = [batch for batch in BATCHES if batch <= most]
        progress = Progress(len(lengths) + len(contexts) * len(batches))
        for tokens in lengths:
            progress.show(f"prefill of {tokens} tokens")
            if tokens not in points.prefill:
                points.prefill[tokens], sent = await pair.prefill_seconds(tokens)
                points.transfer |= {} if sent is None else {tokens: sent}
                points.keep()
        for context in contexts:
            for batch in batches:
                progress.show(f"decode of {batch} requests at {context} tokens")
                if (context, batch) not in points.decode:
                    left = min(facts.longest_tokens, facts.kv_tokens // batch) - context
                    points.decode[context, batch] = await pair.step_seconds(batch, context, left)
                    points.keep()
        progress.end()
    return *profile(args, facts, points, lengths, contexts, batches), points


def profile(
    args: SimpleNamespace,
    facts: Facts,
    points: Points,
    lengths: list[int],
    contexts: list[int],
    batches: list[int],
) -> tuple[EngineProfileSpec, str]:
    """The profile of what was measured and reported, and where each of its numbers comes from."""
    seconds = rising([points.prefill[tokens] for tokens in lengths])
    grid = rising_grid([[points.decode[context, batch] for batch in batches] for context in contexts])
    transfer = _transfer(points.transfer)
    spec = EngineProfileSpec(
        model=args.model,
        gpu=args.gpu,
        gpus=facts.gpus,
        data_type=args.data_type or facts.data_type,
        source=ProfileSource(
            origin=Origin.MEASURED,
            description=(
                f"running SGLang {facts.version} engines, their own counters of prefill time and decode steps; "
                f"annotation {ORIGINS_ANNOTATION} says which numbers were not measured"
            ),
            date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        ),
        prefill=PrefillProfile(
            points=[PrefillPoint(tokens=t, seconds=s) for t, s in zip(lengths, seconds, strict=True)],
            chunk_tokens=min(max(facts.chunk_tokens, 64), 1_048_576),
        ),
        decode=DecodeProfile(
            points=[
                DecodePoint(batch=batch, context_tokens=context, itl_seconds=grid[i][j])
                for i, context in enumerate(contexts)
                for j, batch in enumerate(batches)
            ],
            kv_tokens=facts.kv_tokens,
            max_running_requests=facts.max_running_requests,
        ),
        transfer=transfer or TransferProfile(),
    )
    origins = {
        "gpus": "Reported",
        "dataType": "Given" if args.data_type else "Reported",
        "correction": "Default",
        "prefill.points": "Measured",
        "prefill.chunkTokens": "Reported",
        "decode.points": "Measured",
        "decode.kvTokens": "Reported",
        "decode.maxRunningRequests": "Reported",
        "transfer": "Measured" if transfer else "Default",
        "startup": "Default",
    }
    return spec, "".join(f"{name}: {origin}\n" for name, origin in origins.items())


def _transfer(seconds: dict[int, float]) -> TransferProfile | None:
    """A line through the times of transfers, least squares; None where they tell none."""
    if len(seconds) < 2:
        return None
    slope, base = np.polyfit(list(seconds), list(seconds.values()), 1)
    if not slope > 0:
        return None
    return TransferProfile(
        base_seconds=min(max(round(float(base), 6), 0.0), 2.0), tokens_per_second=max(float(round(1 / slope)), 1.0)
    )


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
