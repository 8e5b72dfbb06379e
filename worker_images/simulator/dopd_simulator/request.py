"""One request on its way through the engine, and the mailbox through which its HTTP handler hears of it."""

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import Enum, auto

FAKE_BOOTSTRAP_HOST = "2.2.2.2"
"""The prefill address of a health check: no KV cache is moved (SGLang disaggregation/utils.py)."""

HEALTH_CHECK_PREFIX = "HEALTH_CHECK"

FORCED_OUTPUT_INTERVAL = 50
"""Tokens after which the scheduler reports even a request that does not stream (SGLANG_FORCE_STREAM_INTERVAL)."""


class Stage(Enum):
    """Where a request is. The queue lengths of /v1/loads are counts of these."""

    ARRIVED = auto()
    """Not yet taken in: generation is paused, or the role is being switched."""
    BOOTSTRAP = auto()
    """Prefill: decode has not yet said where the KV cache goes."""
    PREALLOC = auto()
    """Decode: no KV cache allocated yet."""
    TRANSFER = auto()
    """Decode: waiting for the KV cache."""
    WAITING = auto()
    """Waiting for a place in a batch."""
    PREFILLING = auto()
    """In the prefill pass that runs, or between two chunks."""
    INFLIGHT = auto()
    """Prefill: computed, KV cache being sent."""
    RUNNING = auto()
    """In the decode batch."""
    RETRACTED = auto()
    """Decode: taken out of the batch because the KV cache was full."""
    FINISHED = auto()


@dataclass(frozen=True)
class Rendezvous:
    """Where prefill and decode meet: the prefill worker's bootstrap server, and the room of this request."""

    host: str
    port: int
    room: int

    @property
    def address(self) -> str:
        """Host and port of the bootstrap server."""
        return f"{self.host}:{self.port}"

    @property
    def fake(self) -> bool:
        """Whether nothing is to be moved (health checks)."""
        return self.host == FAKE_BOOTSTRAP_HOST


@dataclass(frozen=True)
class Finish:
    """Why a request ended: `length`, `stop`, or `abort` with a message and, for an error, an HTTP status."""

    type: str
    length: int = 0
    message: str = ""
    status: int | None = None

    def as_json(self) -> dict[str, object]:
        """The `finish_reason` of SGLang's meta_info."""
        if self.type == "length":
            return {"type": "length", "length": self.length}
        if self.type == "stop":
            return {"type": "stop", "matched": EOS_TOKEN_ID}
        return {"type": "abort", "message": self.message, "status_code": self.status, "err_type": None}


EOS_TOKEN_ID = 2


@dataclass(eq=False)
class Request:
    """One generation.

    Attributes:
        prompt_tokens: tokens of the prompt.
        max_new_tokens: tokens that the client allows.
        length: tokens that will be generated: `max_new_tokens`, or fewer where the model ends by itself.
        rendezvous: where prefill and decode meet; None outside disaggregation.
        priority: the higher, the earlier where an engine goes by that; None if the client named none.
        prefilled_tokens: tokens whose KV cache is computed.
        output_tokens: tokens generated so far.
        emitted_tokens: tokens handed to the client so far.
        kv_tokens: tokens held in the KV cache.
        passes: prefill passes that it took part in.
        times: engine seconds at which a stage was entered, by stage.
    """

    rid: str
    prompt_tokens: int
    max_new_tokens: int
    length: int
    stream: bool = False
    stream_interval: int = 1
    rendezvous: Rendezvous | None = None
    priority: int | None = None
    log_metrics: bool = True
    created: float = 0.0
    stage: Stage = Stage.ARRIVED
    prefilled_tokens: int = 0
    output_tokens: int = 0
    emitted_tokens: int = 0
    kv_tokens: int = 0
    retractions: int = 0
    passes: int = 0
    handshaken: bool = False
    finish: Finish | None = None
    times: dict[Stage, float] = field(default_factory=dict)
    first_token: float | None = None
    last_emission: float = 0.0
    finished: float = 0.0
    allocated: "asyncio.Event" = field(default_factory=asyncio.Event)
    prefilled: "asyncio.Event" = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None
    _news: "asyncio.Event" = field(default_factory=asyncio.Event)

    @property
    def context_tokens(self) -> int:
        """Prompt and output so far."""
        return self.prompt_tokens + self.output_tokens

    @property
    def urgency(self) -> float:
        """Its priority; the least there is of one that has none, as SGLang takes it."""
        return -math.inf if self.priority is None else self.priority

    @property
    def is_health_check(self) -> bool:
        """Whether the engine sent it to itself."""
        return self.rid.startswith(HEALTH_CHECK_PREFIX)

    def enter(self, stage: Stage, now: float) -> None:
        """Move to a stage."""
        self.stage = stage
        self.times[stage] = now

    def emission_due(self) -> bool:
        """Whether the tokens not yet handed on are enough for an event (output_streamer.accept).

        A stream gets its first token at once. Without streaming nothing is reported before the 50th token or the end,
        so the time to the first token that SGLang observes for such a request is that of the whole answer.
        """
        if self.finish is not None:
            return True
        if self.stream:
            return self.emitted_tokens == 0 or self.steps_to_emission() <= 0
        return self.output_tokens % FORCED_OUTPUT_INTERVAL == 0

    def steps_to_emission(self) -> int:
        """Decode steps until the next event."""
        if self.stream:
            return self.stream_interval - (self.output_tokens - self.emitted_tokens)
        return FORCED_OUTPUT_INTERVAL - self.output_tokens % FORCED_OUTPUT_INTERVAL

    def emit(self) -> int:
        """Hand what there is to the mailbox; return how many tokens are new."""
        new_tokens = self.output_tokens - self.emitted_tokens
        self.emitted_tokens = self.output_tokens
        if self.stream or self.finish is not None:
            self._news.set()
        return new_tokens

    async def outputs(self) -> AsyncIterator[tuple[int, int]]:
        """Token ranges (from, to) as they come, joined where the client is slower; the last one is the finish."""
        sent = 0
        while True:
            await self._news.wait()
            self._news.clear()
            upto = self.emitted_tokens
            yield sent, upto
            sent = upto
            if self.finish is not None:
                return

    async def done(self) -> None:
        """Wait for the finish."""
        while self.finish is None:
            await self._news.wait()
            self._news.clear()
