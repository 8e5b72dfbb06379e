"""How good forecasts were, relative to the last value, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dopd_forecasting.backtest.rolling import LEVEL, Rolling
from dopd_forecasting.series import FloatArray

BASELINE = "last_value"
AUTO = "auto"
RESAMPLES = 1000
SEED = 20_240_512
MEASURES = ("mae", "mae_vs_last", "ci95", "coverage_90", "pinball_vs_last", "headroom_90")


def pinball(values: FloatArray, quantiles: FloatArray, level: float) -> FloatArray:
    """Quantile loss of each forecast; least, on average, for the true quantile."""
    errors = values - quantiles
    return np.where(errors >= 0, level * errors, (level - 1) * errors)


def ratio_interval(errors: FloatArray, baseline: FloatArray) -> tuple[float, float] | None:
    """95 % interval of mean(errors) / mean(baseline) by a circular moving-block bootstrap; pairs stay together.

    Blocks of the square root of the sample keep the correlation of neighbouring origins. None where the baseline is
    right everywhere. Reference: Politis and Romano (1992).
    """
    count = len(errors)
    length = max(1, round(np.sqrt(count)))
    starts = np.random.default_rng(SEED).integers(0, count, size=(RESAMPLES, -(-count // length)))
    above, below = (_block_sums(part, length)[starts].sum(axis=1) for part in (errors, baseline))
    ratios = above[below > 0] / below[below > 0]
    if len(ratios) == 0:
        return None
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def _block_sums(values: FloatArray, length: int) -> FloatArray:
    """Sum of the `length` values from each place on, around the end; shape (values,)."""
    around = np.concatenate([values, values[: length - 1]])
    sums: FloatArray = np.lib.stride_tricks.sliding_window_view(around, length).sum(axis=1)
    return sums


def summarise(runs: Mapping[str, Rolling], horizons: Sequence[int], column: str, bin_seconds: float) -> dict[str, Any]:
    """The measures of all models, in the shape of the JSON that the command writes.

    Errors of a model and of the last value are compared over the same origins: those where both spoke and the
    load became known. A measure that does not exist (nothing to score, a ratio to zero) is None, so that the JSON
    stays JSON.
    """
    base = runs[BASELINE]
    by_horizon: dict[str, Any] = {}
    for row, horizon in enumerate(horizons):
        by_horizon[str(horizon)] = {name: _measures(run, base, row) for name, run in runs.items()}
    timed = runs.get(AUTO, base).update_ms
    return {
        "column": column,
        "bin_seconds": bin_seconds,
        "origins": len(base.origins),
        "horizons": by_horizon,
        "update_ms": {"mean": float(timed.mean()), "max": float(timed.max())},
        "update_ms_by_model": {
            name: {"mean": float(run.update_ms.mean()), "max": float(run.update_ms.max())} for name, run in runs.items()
        },
    }


def _measures(run: Rolling, base: Rolling, row: int) -> dict[str, Any]:
    both = np.isfinite(run.targets[:, row]) & np.isfinite(run.means[:, row]) & np.isfinite(base.means[:, row])
    values = run.targets[both, row]
    if len(values) == 0:
        nothing: dict[str, Any] = dict.fromkeys(MEASURES)
        return nothing | {"ci95": [None, None]}
    errors, naive = np.abs(run.means[both, row] - values), np.abs(base.means[both, row] - values)
    loss = pinball(values, run.upper[both, row], LEVEL).mean()
    naive_loss = pinball(values, base.upper[both, row], LEVEL).mean()
    load, planned = float(values.mean()), float(run.upper[both, row].mean())
    return {
        "mae": float(errors.mean()),
        "mae_vs_last": _ratio(float(errors.mean()), float(naive.mean())),
        "ci95": list(ratio_interval(errors, naive) or (None, None)),
        "coverage_90": float((values <= run.upper[both, row]).mean()),
        "pinball_vs_last": _ratio(float(loss), float(naive_loss)),
        "headroom_90": planned / load - 1 if load > 0 else None,
    }


def _ratio(ours: float, theirs: float) -> float | None:
    """Ours over theirs; one where both are zero, None where only theirs is."""
    if theirs > 0:
        return ours / theirs
    return 1.0 if ours == 0 else None
