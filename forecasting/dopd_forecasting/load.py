"""What a model received: requests, how long they were, and how much of their input no cache held."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from dopd_forecasting.series import FloatArray, Series


@dataclass(frozen=True)
class Load:
    """What a model received, as sums per second over the same bins.

    Attributes:
        requests: requests/s.
        input_tokens: tokens/s.
        input_tokens_squared: sum of squared input lengths per second, tokens^2/s.
        output_tokens: tokens/s.
        output_tokens_squared: tokens^2/s.
        uncached_input_tokens: tokens/s that no prefix cache held.
    """

    requests: Series
    input_tokens: Series
    input_tokens_squared: Series
    output_tokens: Series
    output_tokens_squared: Series
    uncached_input_tokens: Series

    def __post_init__(self) -> None:
        for field in fields(self):
            series: Series = getattr(self, field.name)
            if (series.first_bin, len(series), series.bin_seconds) != (
                self.requests.first_bin,
                len(self.requests),
                self.requests.bin_seconds,
            ):
                raise ValueError(
                    f"{field.name} has {len(series)} bins of {series.bin_seconds} s from bin {series.first_bin} on, "
                    f"requests {len(self.requests)} of {self.requests.bin_seconds} s from "
                    f"{self.requests.first_bin} on: cut them alike"
                )

    @classmethod
    def from_means(
        cls,
        requests: Series,
        input_tokens_mean: Series,
        output_tokens_mean: Series,
        *,
        input_tokens_second_moment: Series | None = None,
        output_tokens_second_moment: Series | None = None,
        uncached_share: Series | None = None,
    ) -> Load:
        """Build a load from a request rate and what one request was like on average in each bin.

        Args:
            requests: requests/s; its bins are those of the result.
            input_tokens_mean: tokens per request; missing where no request told. Bins that it lacks count as missing.
            output_tokens_mean: the same.
            input_tokens_second_moment: tokens^2 per request; default: not known.
            output_tokens_second_moment: the same.
            uncached_share: share of the input tokens that no prefix cache held; default: all.
        """
        inputs = _times(requests, input_tokens_mean, "tokens/s")
        return cls(
            requests,
            inputs,
            _times(requests, input_tokens_second_moment, "tokens^2/s"),
            _times(requests, output_tokens_mean, "tokens/s"),
            _times(requests, output_tokens_second_moment, "tokens^2/s"),
            inputs if uncached_share is None else _times(inputs, uncached_share, "tokens/s"),
        )

    def rows(self, since: int) -> FloatArray:
        """The bins from number `since` on, shape (bins, 6), in the order of the attributes."""
        return np.column_stack([getattr(self, field.name).since(since).values for field in fields(self)])


def _times(rate: Series, per_unit: Series | None, unit: str) -> Series:
    """A rate times an amount per unit of it, bin by bin; zero where the rate is, whatever the amount."""
    amounts = np.full(len(rate), np.nan)
    if per_unit is not None:
        if per_unit.bin_seconds != rate.bin_seconds:
            raise ValueError(
                f"{per_unit.unit} has bins of {per_unit.bin_seconds} s, {rate.unit} of {rate.bin_seconds} s: "
                "cut them alike"
            )
        known = per_unit.since(rate.first_bin).before(rate.next_bin)
        start = known.first_bin - rate.first_bin
        amounts[start : start + len(known)] = known.values
    return Series(np.where(rate.values == 0, 0.0, rate.values * amounts), rate.first_bin, rate.bin_seconds, unit)
