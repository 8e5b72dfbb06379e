"""Service times of prefill in the few numbers that an order of prompts goes by."""

from dopd.perf.engine import EngineModel
from dopd_scheduling import ServiceTimes


def service_times(model: EngineModel) -> ServiceTimes:
    """The prefill curve of an engine up to a full pass, without attention, and attention.

    A pass of t tokens takes f(t) = prefill_seconds(t) - A t^2 beside the attention of its pieces, with
    A = attention_seconds. A measured curve may fall by that between two points: the larger pass then takes as long as
    the smaller one.
    """
    chunk, attention = model.chunk_tokens, model.attention_seconds
    points, least = [], 0.0
    for tokens in sorted({1.0, *(t for t, _ in model.prefill_curve if 1 < t < chunk), float(chunk)}):
        least = max(least, model.prefill_seconds(tokens) - attention * tokens * tokens)
        points.append((tokens, least))
    return ServiceTimes(
        pass_points=tuple(points),
        attention_seconds=attention,
        transfer_seconds=model.transfer_base_seconds,
        transfer_token_seconds=1 / model.transfer_tokens_per_second,
    )
