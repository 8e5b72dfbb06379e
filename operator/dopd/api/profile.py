"""EngineProfile: the performance of one engine, in a table that a person can read, write and keep in Git.

It holds service times only. Queueing is computed from them, never stored in them: a table that already contains an
allowance for queueing (some estimators print one) doubles the answer.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from dopd.api.base import Model, Rule

LEAST_SECONDS = 1e-6
"""Of a forward pass: none is faster than a microsecond."""
_UNIT = {"hint": "the unit is seconds, and 46.1 ms are 0.0461"}
Seconds = Annotated[float, Field(ge=LEAST_SECONDS, le=86400)]
Tokens = Annotated[int, Field(ge=1, le=10_000_000)]

StartSeconds = Annotated[float, Field(gt=0, le=7200, json_schema_extra={"hint": "the unit is seconds"})]

LONGEST_FIXED_SECONDS, LONGEST_TOKEN_SECONDS = 1.0, 0.005
LONGEST_LEAST_STEP_SECONDS = 2.0
"""Of a prefill, and of the fastest decode step: what takes longer was written in milliseconds, or is no engine that one
would scale."""


LEAST_CORRECTION, MOST_CORRECTION = 0.01, 10.0


class Origin(StrEnum):
    """Where the numbers of a profile come from."""

    PUBLISHED = "Published"
    MEASURED = "Measured"
    ESTIMATED = "Estimated"
    SYNTHETIC = "Synthetic"


class ProfileSource(Model):
    """Where and when the table was made, so that a reader can judge it."""

    origin: Origin
    """Published measurements, measured on running engines, estimated, or synthetic (made up for a demonstration)."""
    description: Annotated[str, Field(min_length=1, max_length=1024)]
    """Which tool, data set, engine version and data type the numbers come from."""
    date: Annotated[
        str,
        Field(
            pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
            max_length=10,
            json_schema_extra={"expected": "a day (YYYY-MM-DD), such as 2026-11-24"},
        ),
    ]
    """Day on which the numbers were taken (YYYY-MM-DD)."""


class PrefillPoint(Model):
    """Time of one prefill of a given length."""

    tokens: Tokens
    """Uncached prompt tokens of the batch."""
    seconds: Seconds
    """Service time of that batch, without queueing."""


class PrefillProfile(Model):
    """How long an engine takes to prefill."""

    rules = (
        Rule(
            "self.points.all(i, self.points.all(j, i.tokens >= j.tokens || i.seconds <= j.seconds))",
            "seconds must not fall as tokens grow; check for a swapped pair",
            ".points",
        ),
        Rule(
            "self.points.all(i, self.points.exists_one(j, i.tokens == j.tokens))",
            "each tokens value may stand once; remove the duplicate",
            ".points",
        ),
        Rule(
            f"self.points.all(i, double(i.seconds) <= {LONGEST_FIXED_SECONDS}"
            f" + {LONGEST_TOKEN_SECONDS} * double(i.tokens))",
            f"must be at most {LONGEST_FIXED_SECONDS:g} s and {1000 * LONGEST_TOKEN_SECONDS:g} ms a token;"
            f" {_UNIT['hint']}",
            ".points",
        ),
    )

    points: Annotated[list[PrefillPoint], Field(min_length=2, max_length=64)]
    """Service time over uncached tokens, at batch 1 or packed batches of that many tokens."""
    chunk_tokens: Annotated[int, Field(ge=64, le=1048576)] = 8192
    """Tokens in one forward pass at most (SGLang `--chunked-prefill-size`)."""


class DecodePoint(Model):
    """Inter-token latency at one batch size and context length."""

    batch: Annotated[int, Field(ge=1, le=65536)]
    """Requests decoded together."""
    context_tokens: Tokens
    """Mean tokens held per request (prompt plus what is generated so far)."""
    itl_seconds: Annotated[float, Field(ge=LEAST_SECONDS, le=600, json_schema_extra=_UNIT)]
    """Time of one decode step, which is the inter-token latency of each request of the batch."""


class DecodeProfile(Model):
    """How fast an engine decodes and how much it can hold."""

    rules = (
        Rule(
            f"self.points.exists(i, double(i.itlSeconds) <= {LONGEST_LEAST_STEP_SECONDS})",
            f"must hold a step of at most {LONGEST_LEAST_STEP_SECONDS:g} s; {_UNIT['hint']}",
            ".points",
        ),
        Rule(
            "self.points.all(i, self.points.exists_one(j, i.batch == j.batch && i.contextTokens == j.contextTokens))",
            "each pair of batch and contextTokens may stand once; remove the duplicate",
            ".points",
        ),
        # Without duplicates this makes a grid: the lines through any point, along batch and along context, span it all.
        Rule(
            "self.points.all(i, self.points.filter(j, i.batch == j.batch).size()"
            " * self.points.filter(j, i.contextTokens == j.contextTokens).size() == self.points.size())",
            "must hold every batch at every contextTokens; add the points that are missing, or remove the odd batch"
            " or context",
            ".points",
        ),
        Rule(
            "self.points.all(i, self.points.all(j, i.batch > j.batch || i.contextTokens > j.contextTokens"
            " || i.itlSeconds <= j.itlSeconds))",
            "itlSeconds must not fall as batch and contextTokens grow; check for a swapped pair",
            ".points",
        ),
    )

    points: Annotated[list[DecodePoint], Field(min_length=1, max_length=64)]
    """Inter-token latency over batch and context: a full grid (every batch at every context)."""
    kv_tokens: Annotated[int, Field(ge=1, le=10_000_000_000)]
    """Tokens of KV cache that one engine holds (SGLang `max_total_num_tokens`)."""
    max_running_requests: Annotated[int, Field(ge=1, le=65536)] = 256
    """Requests decoded together at most (SGLang `--max-running-requests`)."""


class TransferProfile(Model):
    """Time to move a request's KV cache from prefill to decode."""

    base_seconds: Annotated[float, Field(ge=0, le=2, json_schema_extra=_UNIT)] = 0.005
    """Handshake, independent of length."""
    tokens_per_second: Annotated[float, Field(ge=1, le=1e12)] = 1e6
    """KV tokens moved per second."""


class StartupProfile(Model):
    """How long a new worker takes until this cluster's own starts are measured; the defaults are assumptions."""

    prefill_seconds: StartSeconds = 60.0
    """From scheduled to ready, prefill worker."""
    decode_seconds: StartSeconds = 90.0
    """From scheduled to ready, decode worker (captures CUDA graphs)."""
    flip_seconds: StartSeconds = 5.0
    """Role switch of an idle worker."""


class EngineProfileSpec(Model):
    """Measured or estimated performance of one engine."""

    model: Annotated[str, Field(min_length=1, max_length=253)]
    """Model whose performance this is; condition ProfileMatches compares it with the one that is served."""
    gpu: Annotated[str, Field(min_length=1, max_length=63)]
    """GPU type, such as h100_sxm; condition ProfileMatches compares it where the workers' is known."""
    gpus: Annotated[int, Field(ge=1, le=1024)] = 1
    """GPUs of the engine that was measured (all of one worker); condition ProfileMatches compares them."""
    data_type: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """Data types of that engine, for people, such as `weights fp8, KV cache fp8`; unknown if absent."""
    source: ProfileSource
    correction: Annotated[float, Field(ge=LEAST_CORRECTION, le=MOST_CORRECTION)] = 1.0
    """Factor on all times, for what the table leaves out (scheduling, tokenizing): real seconds / table seconds."""
    prefill: PrefillProfile
    decode: DecodeProfile
    transfer: TransferProfile = TransferProfile()
    startup: StartupProfile = StartupProfile()
