"""How long the requests of a window were, from what the engines counted. Pure.

Each signal has three outcomes: a number, zero (series are there and count nothing) and no series. Lengths are known
only when every one of them is there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from dopd.api.conditions import ConditionReason
from dopd.planning.demand import Demand
from dopd.planning.generation import generation_tokens
from dopd.telemetry import queries
from dopd.telemetry.histograms import second_moment, share_above
from dopd.telemetry.prometheus import QueryFailed
from dopd.telemetry.queries import Signal
from dopd.telemetry.signals import Found

NEEDED = (
    queries.PROMPTS,
    queries.PROMPT_TOKENS,
    queries.PROMPT_LENGTHS,
    queries.UNCACHED,
    queries.ANSWERS,
    queries.ANSWER_TOKENS,
    queries.ANSWER_LENGTHS,
)
"""Without any of these nothing is known of lengths; decoded tokens can be done without."""
LONGEST_TOKENS = 1e9
"""Of one request: beyond any context window, so whatever says so is broken."""
HISTOGRAMS = (queries.PROMPT_LENGTHS, queries.ANSWER_LENGTHS)


@dataclass(frozen=True)
class Lengths:
    """Lengths of recent requests, tokens; second moments in tokens squared."""

    input_tokens: float
    input_tokens_second_moment: float
    output_tokens: float
    output_tokens_second_moment: float
    uncached_share: float


def absent(found: Mapping[Signal, Found]) -> Signal | None:
    """The first signal that lengths need and that has no series; None if all have."""
    for signal in NEEDED:
        if not (found[signal].has_buckets if signal in HISTOGRAMS else found[signal].present):
            return signal
    return None


def lengths(found: Mapping[Signal, Found], window_seconds: float, at_least: float) -> Lengths | None:
    """Lengths of the requests of a window; None if they are not known, or fewer finished in it than asked for.

    Args:
        found: the signals of one resource.
        window_seconds: over which they were measured.
        at_least: so many prompts and answers, and one more.

    Raises:
        QueryFailed: a number is none, or no length.
    """
    if absent(found) is not None:
        return None
    prompts, answers = found[queries.PROMPTS].value, found[queries.ANSWERS].value
    prompt_tokens, answer_tokens = found[queries.PROMPT_TOKENS].value, found[queries.ANSWER_TOKENS].value
    answer_lengths = found[queries.ANSWER_LENGTHS].histogram
    if min(prompts, answers) * window_seconds <= at_least or min(prompt_tokens, answer_tokens) <= 0:
        return None
    inputs = prompt_tokens / prompts
    squared_spread = second_moment(answer_lengths, 1.0)
    outputs = generation_tokens(
        answers * window_seconds,
        answer_tokens * window_seconds,
        squared_spread - 1,
        _made_by_decode(found[queries.DECODED], answers * (share_above(answer_lengths, 1.0) or 0.0)) * window_seconds,
    )
    for signal, tokens in ((queries.PROMPT_TOKENS, inputs), (queries.ANSWER_TOKENS, outputs)):
        if not tokens <= LONGEST_TOKENS:
            message = f"{signal.name}: {tokens:.3g} for each request; expected at most {LONGEST_TOKENS:.0e}"
            raise QueryFailed(ConditionReason.NOT_A_NUMBER, message)
    return Lengths(
        input_tokens=inputs,
        input_tokens_second_moment=second_moment(found[queries.PROMPT_LENGTHS].histogram, inputs),
        output_tokens=outputs,
        output_tokens_second_moment=squared_spread * outputs**2,
        uncached_share=min(1.0, found[queries.UNCACHED].value / prompt_tokens),
    )


def _made_by_decode(decoded: Found, ended: float) -> float:
    """Tokens per second that decode made and that belong to an answer.

    SGLang counts one more for each answer of two tokens or more: when the last one is found, the next step has begun
    already (overlap scheduling), and is counted and thrown away. Seen on 0.5.23: five answers of 40 tokens count 200
    and not 5 x 39; ten of one token count none.

    Args:
        decoded: as counted.
        ended: answers of two tokens or more that finished per second.
    """
    return max(0.0, decoded.value - ended)


def demand_at(rate: float, lengths: Lengths | None) -> Demand:
    """Requests of known lengths at a rate; without any finished request there is nothing to size for but the rate."""
    if lengths is None:
        return Demand(rate, 0.0, 0.0, 0.0)
    return Demand(
        requests_per_second=rate,
        input_tokens=lengths.input_tokens,
        input_tokens_second_moment=lengths.input_tokens_second_moment,
        output_tokens=lengths.output_tokens,
        output_tokens_second_moment=lengths.output_tokens_second_moment,
        uncached_share=lengths.uncached_share,
    )
