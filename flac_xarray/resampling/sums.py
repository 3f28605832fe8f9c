"""Weighted sums along one axis.

Strategy: the k-th source pixels of all targets are added at once. Where windows are
evenly spaced, which they are but for the edges, those are a slice of every second pixel
or so; only sizes of an odd ratio need their positions looked up.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.resampling.axis import Taps

__all__ = ["shaped", "sum_along"]

MOST_RUNS: Final = 8
"""Runs of windows that are summed apart; more are not worth it."""


def sum_along(
    values: NDArray[Any],
    taps: Taps,
    weights: NDArray[np.float64],
    origin: int,
    axis: int,
) -> NDArray[np.float64]:
    """Add up values, in the order of the taps.

    Parameters
    ----------
    values
        Shape (plane, row, col).
    taps
        Which of them each target pixel sees.
    weights
        Shape (target pixel, tap).
    origin
        Number of the source pixel where `values` begins along the axis.
    axis
        1 for rows, 2 for columns.
    """
    shape = list(values.shape)
    shape[axis] = len(taps.start)
    out = np.zeros(shape, np.float64)
    wide: tuple[Any, ...] = (slice(None),) * axis
    runs = taps.runs()
    if len(runs) > MOST_RUNS:
        for k in range(weights.shape[1]):
            at = taps.start + np.minimum(k, taps.count - 1) - origin
            part = values[(*wide, at)] * shaped(weights[:, k], axis)
            # What lies beyond a window is not to be seen, be it infinite.
            inside = shaped(taps.count > k, axis)
            out += np.where(inside, part, 0.0)
        return out
    for run, first, step, count in runs:
        target = out[(*wide, run)]
        n = run.stop - run.start
        for k in range(count):
            low = first + k - origin
            here = values[(*wide, slice(low, low + step * (n - 1) + 1, step))]
            weight = weights[run, k]
            if (weight == 1).all():
                target += here
            else:
                target += here * shaped(weight, axis)
    return out


def shaped(along: NDArray[Any], axis: int) -> NDArray[Any]:
    """Give a value per row or column the shape that goes with (plane, row, col)."""
    return along[:, None] if axis == 1 else along
