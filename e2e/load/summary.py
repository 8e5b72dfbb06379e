"""Results in few numbers: what failed, how long clients waited, and how many got what the objectives promise."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from e2e.load.client import Outcome, Result


@dataclass(frozen=True)
class Objectives:
    """Latency objectives, in seconds of the trace (not of the clock, when time is compressed)."""

    ttft_seconds: float
    itl_seconds: float


@dataclass(frozen=True)
class Summary:
    """Results in few numbers. Latencies are seconds of the trace: of the clock, times the speedup.

    Attributes:
        requests: sent.
        ok: answered in whole.
        failed: refused, broken off with an error, or not answered in time.
        truncated: ended early.
        input_tokens: of all prompts.
        output_tokens: of all answers, as far as the server told.
        ttft_seconds: time to first token, by percentile (`p50`, `p90`, `p99`).
        itl_seconds: mean time between tokens of a request, by percentile.
        attainment: share of requests sent that met both objectives; None without objectives.
        attainment_ttft: share that met the objective for the first token.
        attainment_itl: share that met the objective for the time between tokens.
        late_p99_seconds: how late the client itself was, seconds of the clock; far from zero means that the client was
            overloaded and the latencies are not the server's.
        speedup: seconds of the trace in one of the clock.
        first_error: of the first request that was not answered in whole.
        sent_again: sent once more, since a kept connection was closed before a byte of an answer came.
    """

    requests: int
    ok: int
    failed: int
    truncated: int
    input_tokens: int
    output_tokens: int
    ttft_seconds: dict[str, float]
    itl_seconds: dict[str, float]
    attainment: float | None
    attainment_ttft: float | None
    attainment_itl: float | None
    late_p99_seconds: float
    speedup: float
    first_error: str
    sent_again: int

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)


def summarize(results: Sequence[Result], objectives: Objectives | None = None, *, speedup: float = 1.0) -> Summary:
    """Count and measure.

    Args:
        results: of all requests sent.
        objectives: what counts as attained; None: attainment is not computed.
        speedup: seconds of the trace in one of the clock.
    """
    outcomes = [result.outcome for result in results]
    failures = [result for result in results if result.outcome is not Outcome.OK]
    met_ttft = met_itl = met_both = None
    if objectives is not None and results:
        ttft_met = [_meets(r, r.ttft_seconds, objectives.ttft_seconds / speedup) for r in results]
        itl_met = [_meets(r, r.itl_seconds or 0.0, objectives.itl_seconds / speedup) for r in results]
        met_ttft, met_itl = sum(ttft_met) / len(results), sum(itl_met) / len(results)
        met_both = sum(map(all, zip(ttft_met, itl_met, strict=True))) / len(results)
    return Summary(
        requests=len(results),
        ok=outcomes.count(Outcome.OK),
        failed=outcomes.count(Outcome.FAILED),
        truncated=outcomes.count(Outcome.TRUNCATED),
        input_tokens=sum(r.input_tokens for r in results),
        output_tokens=sum(r.got_tokens or 0 for r in results),
        ttft_seconds=_percentiles([r.ttft_seconds * speedup for r in results if r.ttft_seconds is not None]),
        itl_seconds=_percentiles([r.itl_seconds * speedup for r in results if r.itl_seconds is not None]),
        attainment=met_both,
        attainment_ttft=met_ttft,
        attainment_itl=met_itl,
        late_p99_seconds=percentile([r.late_seconds for r in results], 0.99),
        speedup=speedup,
        first_error=failures[0].error if failures else "",
        sent_again=sum(result.sent_again for result in results),
    )


def _meets(result: Result, value: float | None, limit: float) -> bool:
    return result.outcome is Outcome.OK and value is not None and value <= limit


def _percentiles(values: list[float]) -> dict[str, float]:
    return {f"p{round(share * 100)}": percentile(values, share) for share in (0.5, 0.9, 0.99)}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]
