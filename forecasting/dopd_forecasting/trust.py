"""Whether a forecast should be acted upon, and why not."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class TrustReason(Enum):
    """Why a forecast is trusted or not; the first that applies, in this order."""

    STALE = "Stale"  # the newest measured bin is too old
    SHORT_HISTORY = "ShortHistory"  # too few forecasts have met their load yet
    WORSE_THAN_LAST_VALUE = "WorseThanLastValue"  # the last value would have been nearer
    BANDS_MISS = "BandsMiss"  # the load leaves the 90 % quantile too often
    TRUSTED = "Trusted"


@dataclass(frozen=True)
class TrustPolicy:
    """When a forecast is trusted.

    Attributes:
        max_age_bins: the newest measured bin may have ended this many bins ago.
        min_scored_bins: so many forecasts must have met their load.
        max_error_vs_last_value: rolling mean absolute error, relative to that of the last value.
        min_coverage_90: share of bins that must have stayed under the 90 % quantile.
    """

    max_age_bins: float = 3.0
    min_scored_bins: int = 20
    max_error_vs_last_value: float = 1.03
    min_coverage_90: float = 0.8

    def judge(
        self,
        *,
        age_seconds: float,
        bin_seconds: float,
        scored_bins: int,
        error_vs_last_value: float,
        coverage_90: float,
        doubted_bins: int = 0,
    ) -> Trust:
        """Weigh what was measured; a measure that is NaN speaks for nothing and against nothing."""
        if not age_seconds <= self.max_age_bins * bin_seconds:
            reason = TrustReason.STALE
        elif scored_bins < self.min_scored_bins:
            reason = TrustReason.SHORT_HISTORY
        elif error_vs_last_value > self.max_error_vs_last_value:
            reason = TrustReason.WORSE_THAN_LAST_VALUE
        elif coverage_90 < self.min_coverage_90:
            reason = TrustReason.BANDS_MISS
        else:
            reason = TrustReason.TRUSTED
        return Trust(
            trusted=reason is TrustReason.TRUSTED,
            reason=reason,
            error_vs_last_value=error_vs_last_value,
            coverage_90=coverage_90,
            newest_point_age_seconds=age_seconds,
            scored_bins=scored_bins,
            doubted_bins=doubted_bins,
        )


@dataclass(frozen=True)
class Trust:
    """The verdict on a forecaster.

    Attributes:
        trusted: act on the forecast; otherwise on what is observed.
        reason: why.
        error_vs_last_value: rolling mean absolute error relative to the last value's; below one is better; NaN
            while unknown.
        coverage_90: share of the newest bins at or under their 90 % quantile; NaN while unknown.
        newest_point_age_seconds: since the end of the newest measured bin; infinite when there is none.
        scored_bins: how many bins the two measures rest on.
        doubted_bins: how many of the newest sixty bins were withheld, since each stood alone, far from all around it:
            none of them moved the forecast.
    """

    trusted: bool
    reason: TrustReason
    error_vs_last_value: float
    coverage_90: float
    newest_point_age_seconds: float
    scored_bins: int
    doubted_bins: int = 0
