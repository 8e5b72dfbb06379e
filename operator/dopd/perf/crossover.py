"""From which length on a prompt is worth a prefill worker and a transfer, by an engine's profile.

A prompt of n tokens takes S(n) of prefill wherever it is computed. On a prefill worker its KV cache has to move
afterwards, for base + n / rate. On the engine that decodes it nothing moves, but all that decode there wait for its
pass. So (times from the profile; our own arithmetic, as neither the paper nor SGLang publishes one)::

    handshake_tokens    largest n with S(n) <= base                the transfer's fixed cost is all that it is about
    transfer_tokens     largest n with S(n) <= base + n / rate     moving takes longer than computing
    gap_tokens          largest n with ITL(b) + S(n) <= itl        no client sees a gap longer than the objective
    prefill_share       1 - ITL(b) / itl                           steps then take ITL(b) / (1 - share) in the mean

with b the decode batch beside it. The objective of dopd is the mean over a request, which the last line keeps; the
third keeps the stricter one, each gap by itself.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from dopd.perf.engine import Curve, EngineModel


@dataclass(frozen=True)
class Crossover:
    """Lengths in tokens; 0 where even one token is too long, infinite where no length is.

    Attributes:
        handshake_tokens: prompts up to here take no longer to compute than the fixed cost of their transfer.
        transfer_tokens: prompts up to here take no longer to compute than to transfer.
        gap_tokens: prompts up to here fit between two decode steps within the ITL objective.
        prefill_share: share of the time, 0 to 1, that a decode engine may spend on prefill within the mean ITL.
        step_seconds: decode step beside it.
        first_pass_seconds: prefill of one token: what any pass costs.
        saved_seconds: most that a prompt of transfer_tokens saves, which is its transfer.
    """

    handshake_tokens: float
    transfer_tokens: float
    gap_tokens: float
    prefill_share: float
    step_seconds: float
    first_pass_seconds: float
    saved_seconds: float


def crossover(model: EngineModel, batch: float, context_tokens: float, itl_seconds: float) -> Crossover:
    """The lengths for one engine.

    Args:
        model: the engine.
        batch: requests that decode beside the prompt.
        context_tokens: tokens that each of them holds.
        itl_seconds: objective of the time between tokens.
    """
    step_seconds = model.itl_seconds(batch, context_tokens)
    curve = model.prefill_curve
    transfer_tokens = longest_within(curve, model.transfer_seconds)
    return Crossover(
        handshake_tokens=longest_within(curve, lambda _: model.transfer_base_seconds),
        transfer_tokens=transfer_tokens,
        gap_tokens=longest_within(curve, lambda _: itl_seconds - step_seconds),
        prefill_share=max(0.0, 1 - step_seconds / itl_seconds),
        step_seconds=step_seconds,
        first_pass_seconds=model.prefill_seconds(1),
        saved_seconds=model.transfer_seconds(transfer_tokens) if transfer_tokens else 0.0,
    )


def longest_within(curve: Curve, limit: Callable[[float], float]) -> float:
    """Largest length such that up to there a curve stays at or below a limit; 0 if it never does, infinite if always.

    Args:
        curve: (tokens, seconds), as `dopd.perf.engine.interpolate` reads it.
        limit: seconds over tokens, linear, so that between two points of the curve the difference is linear, too.
    """
    points = [(1.0, curve[0][1]), *(point for point in curve if point[0] > 1)]
    if points[0][1] > limit(1.0):
        return 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        over = y1 - limit(x1)
        if over > 0:
            within = limit(x0) - y0
            return x0 + (x1 - x0) * within / (within + over)
    if len(points) == 1:
        return math.inf
    (x0, y0), (x1, y1) = points[-2:]
    steepness = (y1 - limit(x1) - y0 + limit(x0)) / (x1 - x0)
    return x1 + (limit(x1) - y1) / steepness if steepness > 0 else math.inf
