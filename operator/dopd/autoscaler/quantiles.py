"""Quantiles of weighted samples, many rows at once."""

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
    order = np.argsort(values, axis=1)
    reached = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1)
    total = reached[:, -1:]
    wanted = total * (1 - np.broadcast_to(misses, (len(values), misses.shape[-1])))
    at = np.stack([(reached < one[:, None]).sum(axis=1) for one in wanted.T], axis=1)
    at = np.minimum(at, values.shape[1] - 1)
    found = np.take_along_axis(values, np.take_along_axis(order, at, axis=1), axis=1)
    return np.where(total > 0, found, np.nan)
