"""The fast layer: workers for what already waits, which neither the load of now nor a forecast knows."""

from math import ceil

from dopd.perf import EngineModel
from dopd.planning.demand import Demand
from dopd.planning.policy import Policy
from dopd.planning.queueing import DecodeLoad, PrefillLoad
from dopd.planning.workers import Workers

BACKLOG_RECOVERY_SECONDS = 30.0
"""Workers are added so that what waits is worked off in this time once they serve."""
BACKLOG_TOLERANCE = 0.5
"""A queue is no backlog while the serving workers clear it within this share of the TTFT objective: both that for
prefill and that for a slot at decode come before the first token."""
FULL_KV = 0.95
"""Above this share of KV cache in use, decode is about to make requests wait."""


def prefill_for_backlog(workers: Workers, now: Demand, load: PrefillLoad, model: EngineModel, policy: Policy) -> int:
    """Prefill workers that keep up and work off what waits; 0 if nothing waits for long.

    A queue that keeps growing tells a load that no rate over a window shows yet: all serving workers are busy, and what
    is added to the queue needs more. Before any request has finished nobody knows their lengths: then what waits is
    taken to fill whole passes.
    """
    if not workers.waiting_tokens:
        return 0
    if now.uncached_tokens:
        token_seconds = load.mean_seconds / now.uncached_tokens
    else:
        token_seconds = model.prefill_seconds(model.chunk_tokens) / model.chunk_tokens
    waiting_seconds = workers.waiting_tokens * token_seconds
    if waiting_seconds <= BACKLOG_TOLERANCE * policy.objectives.ttft_seconds * workers.serving:
        return 0
    busy, growth = load.busy_workers, workers.waiting_tokens_growth * token_seconds
    if growth > 0:
        busy = max(busy, workers.serving + growth)
    return ceil(busy + waiting_seconds / BACKLOG_RECOVERY_SECONDS)


def decode_for_backlog(workers: Workers, load: DecodeLoad, policy: Policy) -> int:
    """Decode workers with slots for what waits beside what runs; 0 if nothing waits for long and the KV cache has room.

    One request for each worker waits only for the next step. More is no backlog while slots that become free clear it
    as soon as a prefill queue would have to be cleared. Before any request has finished nobody knows when they do.
    """
    waiting, serving = workers.waiting_requests or 0.0, workers.serving
    slots, answer_seconds = load.batch_limit * serving, load.steps * load.step_seconds(load.batch_limit)
    waits_long = waiting * answer_seconds > BACKLOG_TOLERANCE * policy.objectives.ttft_seconds * slots
    if waiting > serving and (waits_long or not load.steps):
        return serving + ceil(waiting / load.batch_limit)
    return serving + 1 if workers.kv_use is not None and workers.kv_use > FULL_KV else 0
