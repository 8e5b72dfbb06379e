"""What single engines say of themselves: `/v1/loads` (SGLang >= 0.5.8).

The door for it: an answer is an `EngineLoad` or the named failure of that one worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator, Field

from dopd.cluster.podhttp import PodHttp, PodHttpError
from dopd.perf.online import Counters
from dopd.telemetry.addresses import engine_port
from dopd.telemetry.doors import (
    Answer,
    BadAnswer,
    Count,
    OptionalCount,
    OptionalShare,
    OptionalTotal,
    Total,
    printable,
    validated,
)
from dopd.telemetry.patience import LOOK_SECONDS, answers_within

MOST_RANKS = 4096
FRESH_SECONDS = 1.5
"""An idle SGLang renews its snapshot at each turn of its loop, with --sleep-on-idle each second; one that computes only
when a pass ends."""
NO_KV_USAGE = 0.001
"""What leaks or is pinned is no work, and a prompt that takes no more of the KV cache is computed in no time."""


@dataclass(frozen=True)
class EngineLoad:
    """Load of one engine now, summed over its data-parallel ranks.

    Attributes:
        running: requests in the batch.
        waiting: requests in any queue, and on a prefill worker those whose KV cache is still being pulled.
        waiting_for_slot: requests that this engine itself keeps waiting: on a decode worker for a place in the batch or
            in the KV cache. Those that wait for their prefill are not among them.
        waiting_tokens: uncached prompt tokens queued.
        kv_usage: share of the KV cache in use, 0 to 1.
        counters: what it has done so far.
        age_seconds: of this load, on the engine's own clock; 0 where it does not tell.
        role: what the engine is now: prefill, decode, or "" where it does not tell. `/server_info` tells its start.
        graph_gb: GPU memory of its decode graphs, GB; 0 where it has none or does not tell.
    """

    running: int
    waiting: int
    waiting_for_slot: int
    waiting_tokens: int
    kv_usage: float
    counters: Counters
    age_seconds: float = 0.0
    role: str = ""
    graph_gb: float = 0.0

    @property
    def idle(self) -> bool:
        """Whether it had nothing to do at some moment of the last FRESH_SECONDS.

        No signal alone tells that of a prefill engine: what is in a forward pass is neither running nor waiting. The
        first pass of a prompt shows by the age of the load alone, later ones by their tokens too. What came within
        FRESH_SECONDS is not seen: a worker gets nothing for longer than that before a gateway lets go of it.
        """
        nothing = self.running == 0 and self.waiting == 0 and self.waiting_tokens == 0
        return nothing and self.kv_usage <= NO_KV_USAGE and self.age_seconds <= FRESH_SECONDS


class EngineLoads(dict[str, EngineLoad]):
    """Loads by pod name; of an engine that is absent it is known why.

    Attributes:
        problems: why an engine's load is not known, by pod name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.problems: dict[str, str] = {}


async def read_loads(http: PodHttp, pods: Sequence[dict[str, Any]]) -> EngineLoads:
    """Loads by pod name; a pod that does not answer, or answers what is none, is absent."""

    async def one(pod: dict[str, Any]) -> EngineLoad | str:
        try:
            answer = await http.get_json(pod, engine_port(pod), "/v1/loads", {"include": "core,disagg,queues,memory"})
            return parse_loads(answer)
        except (PodHttpError, BadAnswer) as error:
            return printable(str(error))

    answers = await answers_within(LOOK_SECONDS, one, pods)
    found = EngineLoads()
    for pod, answer in zip(pods, answers, strict=True):
        name = pod["metadata"]["name"]
        if isinstance(answer, EngineLoad):
            found[name] = answer
        else:
            found.problems[name] = answer or f"no answer within {LOOK_SECONDS:g} s"
    return found


def _empty(value: Any) -> Any:
    return {} if value is None else value


class _Disaggregation(Answer):
    mode: Annotated[str, Field(max_length=16)] | None = None
    prefill_inflight_queue_reqs: OptionalCount = 0
    decode_retracted_queue_reqs: OptionalCount = 0


class _Queues(Answer):
    waiting: OptionalCount = 0
    prealloc_ready: OptionalCount = 0


class _Memory(Answer):
    graph_gb: Annotated[float, Field(ge=0, le=1e4, allow_inf_nan=False)] | None = None


class _Rank(Answer):
    """One data-parallel rank; what newer engines tell may be absent."""

    timestamp: Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)] | None = None
    num_running_reqs: Count
    num_waiting_reqs: Count
    num_waiting_uncached_tokens: OptionalCount = 0
    token_usage: OptionalShare = 0.0
    total_prefill_uncached_tokens: OptionalTotal = 0.0
    total_prefill_busy_us: OptionalTotal = 0.0
    decode_moments: Annotated[list[Total], Field(min_length=5, max_length=64)] | None = None
    disaggregation: Annotated[_Disaggregation, BeforeValidator(_empty)] = _Disaggregation()
    queues: Annotated[_Queues, BeforeValidator(_empty)] = _Queues()
    memory: Annotated[_Memory, BeforeValidator(_empty)] = _Memory()


class _Loads(Answer):
    timestamp: AwareDatetime | None = None
    loads: Annotated[list[_Rank], Field(min_length=1, max_length=MOST_RANKS)]


def parse_loads(answer: Any) -> EngineLoad:
    """Read the answer of `/v1/loads` (sglang 0.5.23 scheduler_components/load_inquirer.py).

    `num_waiting_reqs` counts every queue of its role but the one in which a prefill worker keeps requests whose
    KV cache is on its way.

    Raises:
        BadAnswer: it is not what SGLang answers.
    """
    loads = validated(_Loads, answer)
    ranks, told = loads.loads, loads.timestamp
    modes = {rank.disaggregation.mode or "" for rank in ranks}  # ranks that differ are on their way
    taken = [rank.timestamp for rank in ranks if rank.timestamp is not None]
    return EngineLoad(
        running=sum(rank.num_running_reqs for rank in ranks),
        waiting=sum(rank.num_waiting_reqs + rank.disaggregation.prefill_inflight_queue_reqs for rank in ranks),
        waiting_for_slot=sum(
            rank.queues.waiting + rank.queues.prealloc_ready + rank.disaggregation.decode_retracted_queue_reqs
            for rank in ranks
        ),
        waiting_tokens=sum(rank.num_waiting_uncached_tokens for rank in ranks),
        kv_usage=min(1.0, max(rank.token_usage for rank in ranks)),
        counters=_counters(ranks),
        age_seconds=max(0.0, told.timestamp() - min(taken)) if told is not None and taken else 0.0,
        role=next(iter(modes)) if len(modes) == 1 else "",
        graph_gb=max(rank.memory.graph_gb or 0.0 for rank in ranks),
    )


def _counters(ranks: Sequence[_Rank]) -> Counters:
    moments = [(rank.decode_moments or [0.0] * 5)[:5] for rank in ranks]
    steps, batch, micros, squares, batch_micros = (sum(column) for column in zip(*moments, strict=True))
    return Counters(
        prefill_tokens=sum(rank.total_prefill_uncached_tokens for rank in ranks),
        prefill_busy_seconds=sum(rank.total_prefill_busy_us for rank in ranks) / 1e6,
        decode_moments=(steps, batch, micros / 1e6, squares, batch_micros / 1e6),
    )
