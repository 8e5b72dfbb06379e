"""Quantiles of samples, many rows at once."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def upper(values: Floats, weights: Floats, misses: Floats) -> Floats:
    """What is exceeded with each of some chances, in each row.

    Args:
        values: shape (rows, samples).
        weights: of each, same shape; not negative. A row without any weight gives NaN.
        misses: chances, shape (chances,), or of each row, shape (rows, chances).

    Returns:
        Shape (rows, chances): the least value up to which a share of at least 1 - miss of the weight lies.
    """
    order, row = np.argsort(values, axis=1), np.arange(len(values))[:, None]
    reached = np.cumsum(weights[row, order], axis=1)
    total = reached[:, -1:]
    wanted = total * (1 - np.broadcast_to(misses, (len(values), misses.shape[-1])))
    at = np.stack([(reached < one[:, None]).sum(axis=1) for one in wanted.T], axis=1)
    at = np.minimum(at, values.shape[1] - 1)
    return np.where(total > 0, values[row, order[row, at]], np.nan)


def middle(values: Floats) -> Floats:
    """The median along axis 1 of what is not NaN; numpy's own goes by masked arrays, which take longer.

    Args:
        values: shape (rows, samples, columns).

    Returns:
        Shape (rows, columns); NaN where all are.
    """
    ordered = np.sort(values, axis=1)  # NaN comes last
    known = (~np.isnan(values)).sum(axis=1)
    row, column = np.ogrid[: values.shape[0], : values.shape[2]]
    lower, higher = np.maximum(known - 1, 0) // 2, known // 2
    return np.asarray((ordered[row, lower, column] + ordered[row, higher, column]) / 2)
