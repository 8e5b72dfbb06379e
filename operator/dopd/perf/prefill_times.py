"""Service times of prefill in the few numbers that an order of prompts goes by."""

from dopd.perf.engine import EngineModel
from dopd_scheduling import ServiceTimes


def service_times(model: EngineModel) -> ServiceTimes:
    """Fit an engine's prefill curve by its smallest pass and a line through its large ones, and attention.

    With f(t) = prefill_seconds(t) - A t^2, A = attention_seconds: the line goes through f at half a chunk and a chunk.
    Small passes take the time of one token. A token never costs less than nothing. Where f is convex,
    `fixed_seconds` is negative. That is kept: with a line through the origin instead, orders bring fewer prompts in on
    time (docs/reproduction.md, 2: 94.5 % for 95.1 %).
    """
    chunk, attention = model.chunk_tokens, model.attention_seconds

    def linear(tokens: float) -> float:
        return model.prefill_seconds(tokens) - attention * tokens * tokens

    token_seconds = max(0.0, linear(chunk) - linear(chunk / 2)) / (chunk / 2)
    return ServiceTimes(
        least_seconds=model.prefill_seconds(1),
        fixed_seconds=linear(chunk) - token_seconds * chunk,
        token_seconds=token_seconds,
        attention_seconds=attention,
        transfer_seconds=model.transfer_base_seconds,
        transfer_token_seconds=1 / model.transfer_tokens_per_second,
    )
