import math

import pytest

from dopd_forecasting import TrustPolicy, TrustReason

GOOD = {
    "age_seconds": 60.0,
    "bin_seconds": 60.0,
    "scored_bins": 100,
    "error_vs_last_value": 0.85,
    "coverage_90": 0.9,
}


def test_a_good_forecast_is_trusted() -> None:
    trust = TrustPolicy().judge(**GOOD)
    assert trust.trusted
    assert trust.reason is TrustReason.TRUSTED


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("age_seconds", 600.0, TrustReason.STALE),
        ("age_seconds", math.inf, TrustReason.STALE),
        ("scored_bins", 3, TrustReason.SHORT_HISTORY),
        ("error_vs_last_value", 1.2, TrustReason.WORSE_THAN_LAST_VALUE),
        ("coverage_90", 0.6, TrustReason.BANDS_MISS),
    ],
)
def test_each_fault_has_its_reason(field: str, value: float, reason: TrustReason) -> None:
    trust = TrustPolicy().judge(**{**GOOD, field: value})  # type: ignore[arg-type]
    assert not trust.trusted
    assert trust.reason is reason


def test_the_age_is_measured_in_bins() -> None:
    policy = TrustPolicy(max_age_bins=3)
    assert policy.judge(**{**GOOD, "age_seconds": 6.0, "bin_seconds": 2.0}).trusted  # type: ignore[arg-type]
    assert not policy.judge(**{**GOOD, "age_seconds": 7.0, "bin_seconds": 2.0}).trusted  # type: ignore[arg-type]
