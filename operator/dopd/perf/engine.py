"""The performance model of one engine: prefill time over tokens, inter-token latency over batch and context.

Between the points of the profile it interpolates linearly, which keeps the monotonicity that the profile has and
never swings between points as a cubic does. Beyond the last point times go on growing, which is the safe side: prefill
by attention as the square of the length and by the rest at its last slope, decode at its last slope. Before the first
point they hold the first value. `covers_*` say whether an answer lies within the table, so that a caller can report an
extrapolation instead of hiding it.

A forward pass packs several prompts, or a piece of a long one. Its time is that of one prompt with as many tokens,
less the attention that the pieces do not pay to each other: attention grows with the square of a length, all else
with the sum.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from math import inf

from dopd.api.profile import EngineProfileSpec

Curve = tuple[tuple[float, float], ...]
"""(x, seconds), x strictly ascending."""


@dataclass(frozen=True)
class EngineModel:
    """One engine, as its profile describes it. All times in seconds, corrected by the profile's factor.

    Attributes:
        prefill_curve: (tokens, seconds), tokens strictly ascending.
        itl_curves: (context_tokens, ((batch, seconds), ...)), both ascending.
        kv_tokens: KV cache capacity of one engine, tokens.
        max_running_requests: largest decode batch of the engine.
        chunk_tokens: tokens of one prefill forward pass at most.
        transfer_base_seconds: handshake of a KV transfer.
        transfer_tokens_per_second: speed of a KV transfer.
        startup_seconds: by role, scheduled to ready.
        flip_seconds: role switch of an idle worker.
        drain_seconds: by role, from the last request that a worker is given until it is idle, as measured; a role
            without a measurement is absent.
    """

    prefill_curve: Curve
    itl_curves: tuple[tuple[float, Curve], ...]
    kv_tokens: int
    max_running_requests: int
    chunk_tokens: int
    transfer_base_seconds: float
    transfer_tokens_per_second: float
    startup_seconds: dict[str, float]
    flip_seconds: float
    drain_seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_profile(cls, profile: EngineProfileSpec) -> "EngineModel":
        """Build the model from a profile that holds for workers of both roles.

        Raises:
            ValueError: the decode points are not a full grid of batches and contexts.
        """
        return cls.from_profiles(profile, profile)

    @classmethod
    def from_profiles(cls, prefill: EngineProfileSpec, decode: EngineProfileSpec) -> "EngineModel":
        """Build the model of a pair of workers: each role as its own profile says, a transfer as the slower of both.

        Raises:
            ValueError: the decode points are not a full grid of batches and contexts.
        """
        contexts = sorted({p.context_tokens for p in decode.decode.points})
        batches = sorted({p.batch for p in decode.decode.points})
        itl = {(p.context_tokens, p.batch): p.itl_seconds * decode.correction for p in decode.decode.points}
        missing = [(b, c) for c in contexts for b in batches if (c, b) not in itl]
        if missing:
            batch, context = missing[0]
            raise ValueError(
                f"spec.decode.points: no point at batch {batch} and contextTokens {context}; expected every batch at "
                f"every context ({len(batches)} x {len(contexts)} points): add it, or remove the odd batch or context"
            )
        return cls(
            prefill_curve=tuple(
                sorted((float(p.tokens), p.seconds * prefill.correction) for p in prefill.prefill.points)
            ),
            itl_curves=tuple((float(c), tuple((float(b), itl[c, b]) for b in batches)) for c in contexts),
            kv_tokens=decode.decode.kv_tokens,
            max_running_requests=decode.decode.max_running_requests,
            chunk_tokens=prefill.prefill.chunk_tokens,
            transfer_base_seconds=max(prefill.transfer.base_seconds, decode.transfer.base_seconds),
            transfer_tokens_per_second=min(prefill.transfer.tokens_per_second, decode.transfer.tokens_per_second),
            startup_seconds={
                "prefill": prefill.startup.prefill_seconds,
                "decode": decode.startup.decode_seconds,
            },
            flip_seconds=max(prefill.startup.flip_seconds, decode.startup.flip_seconds),
        )

    def corrected(self, prefill: float = 1.0, decode: float = 1.0) -> "EngineModel":
        """The same engine with all prefill times and all decode step times multiplied by measured factors."""
        return replace(
            self,
            prefill_curve=tuple((tokens, seconds * prefill) for tokens, seconds in self.prefill_curve),
            itl_curves=tuple((c, tuple((b, s * decode) for b, s in curve)) for c, curve in self.itl_curves),
        )

    def prefill_seconds(self, tokens: float) -> float:
        """Service time of a prefill of `tokens` tokens with nothing cached before them, without queueing."""
        last_tokens, last_seconds = self.prefill_curve[-1]
        if tokens <= last_tokens:
            return interpolate(self.prefill_curve, tokens)
        attention = self.attention_seconds * (tokens**2 - last_tokens**2)
        return last_seconds + attention + self._linear_token_seconds * (tokens - last_tokens)

    def prefill_pass_seconds(self, tokens: float, attended: float) -> float:
        """Time of one forward pass over several prompts or pieces of prompts.

        Args:
            tokens: new tokens of the pass, all pieces together.
            attended: sum of end^2 - start^2 over the pieces, which is length^2 for a whole prompt; a piece starts
                where what is computed or cached before it ends. A whole prompt alone (attended = tokens^2) takes
                `prefill_seconds(tokens)`.
        """
        return self.prefill_seconds(tokens) + self.attention_seconds * (attended - tokens * tokens)

    def passes_seconds(self, tokens: float, cached_tokens: float = 0.0) -> float:
        """Time of a prompt that an otherwise idle engine cuts into forward passes of `chunk_tokens` at most.

        Args:
            tokens: to compute.
            cached_tokens: of the prefix before them, to which they attend.
        """
        full, rest = divmod(tokens, self.chunk_tokens)
        uncut = full * self.chunk_tokens**2 + rest**2
        seconds = full * self.prefill_seconds(self.chunk_tokens) + (self.prefill_seconds(rest) if rest else 0.0)
        return seconds + self.attention_seconds * (tokens**2 - uncut + 2 * tokens * cached_tokens)

    @cached_property
    def attention_seconds(self) -> float:
        """Seconds per squared token of attention: the slope of seconds per token over the long half of the curve.

        At no point more than the whole time there: what is left for all else would be negative, and so would the price
        of a token in a full pass.
        """
        last_tokens, last_seconds = self.prefill_curve[-1]
        middle = interpolate(self.prefill_curve, last_tokens / 2) / (last_tokens / 2)
        slope = (last_seconds / last_tokens - middle) / (last_tokens / 2)
        return max(0.0, min(slope, *(seconds / tokens**2 for tokens, seconds in self.prefill_curve)))

    @cached_property
    def _linear_token_seconds(self) -> float:
        """Seconds per token beyond the last point, without attention."""
        (x0, y0), (x1, y1) = self.prefill_curve[-2:]
        return max(0.0, (y1 - y0) / (x1 - x0) - self.attention_seconds * (x0 + x1))

    @cached_property
    def full_pass_token_seconds(self) -> float:
        """Seconds per token of a full forward pass, without attention."""
        chunk = self.chunk_tokens
        return (self.prefill_seconds(chunk) - self.attention_seconds * chunk * chunk) / chunk

    def packed_seconds(self, tokens: float, cached_tokens: float = 0.0) -> float:
        """Share of a full forward pass that a prompt takes when passes are full: its cost to a busy worker.

        Arguments as for `passes_seconds`.
        """
        return self.full_pass_token_seconds * tokens + self.attention_seconds * tokens * (tokens + 2 * cached_tokens)

    def itl_seconds(self, batch: float, context_tokens: float) -> float:
        """Time of one decode step of `batch` requests that hold `context_tokens` each on average."""
        return interpolate(self.itl_curve(context_tokens), batch)

    def itl_curve(self, context_tokens: float) -> Curve:
        """Time of one decode step over the batch, at one mean context.

        Far beyond the last context a small batch may seem to take longer than a large one, where the table's slopes
        differ: the larger one takes as long then.
        """
        curve = tuple((batch, interpolate(over_context, context_tokens)) for batch, over_context in self._itl_by_batch)
        if context_tokens <= self.itl_curves[-1][0]:
            return curve
        steps = accumulate((seconds for _, seconds in curve), max)
        return tuple((batch, seconds) for (batch, _), seconds in zip(curve, steps, strict=True))

    @cached_property
    def _itl_by_batch(self) -> tuple[tuple[float, Curve], ...]:
        """The decode points the other way round: (batch, ((context_tokens, seconds), ...))."""
        return tuple(
            (batch, tuple((context, curve[i][1]) for context, curve in self.itl_curves))
            for i, (batch, _) in enumerate(self.itl_curves[0][1])
        )

    def transfer_seconds(self, tokens: float) -> float:
        """Time to move the KV cache of `tokens` tokens from prefill to decode."""
        return self.transfer_base_seconds + tokens / self.transfer_tokens_per_second

    def kv_batch(self, context_tokens: float) -> int:
        """Requests of `context_tokens` tokens each that fit the KV cache."""
        return int(self.kv_tokens // max(context_tokens, 1.0))

    def covers_prefill(self, tokens: float) -> bool:
        """Whether `tokens` lies within the measured lengths."""
        return tokens <= self.prefill_curve[-1][0]

    def covers_decode(self, batch: float, context_tokens: float) -> bool:
        """Whether the point lies within the measured batches and contexts."""
        return context_tokens <= self.itl_curves[-1][0] and batch <= self.itl_curves[-1][1][-1][0]


def interpolate(curve: Sequence[tuple[float, float]], x: float) -> float:
    """Piecewise linear through ascending points; constant before the first, last slope after the last."""
    if len(curve) == 1 or x <= curve[0][0]:
        return curve[0][1]
    right = min(bisect_right(curve, (x, inf)), len(curve) - 1)
    (x0, y0), (x1, y1) = curve[right - 1], curve[right]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
