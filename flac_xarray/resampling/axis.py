"""Which source pixels a target pixel sees along one axis, and with what weights.

Strategy: GDAL's doubles in GDAL's order (its version 3.10 is what is followed), which
follow from a target pixel's number and the two sizes alone. Everything is a `Taps`: the
k-th source pixel of each target pixel, and its weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Filter",
    "Taps",
    "gauss_taps",
    "kernel_taps",
    "nearest",
    "plain",
    "weighted",
]

EPSILON: Final = 1e-8
"""Of a pixel, by which a window may miss a pixel's edge."""

Filter = Callable[[NDArray[Any]], NDArray[Any]]
"""Weight of a distance, in target pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """The source pixels of each target pixel, consecutive ones.

    Examples
    --------
    >>> taps = weighted(5, 3, slice(0, 3))
    >>> taps.start.tolist(), taps.count.tolist(), taps.weights[1].round(2).tolist()
    ([0, 1, 3], [2, 3, 2], [0.33, 1.0, 0.33])
    """

    start: NDArray[np.intp]
    """First source pixel of each target pixel."""
    count: NDArray[np.intp]
    """How many there are."""
    weights: NDArray[np.float64]
    """Shape (target pixel, tap), 0 beyond `count`."""
    total: NDArray[np.float64]
    """Sum of the weights, added up as GDAL does."""
    pairs: bool = False
    """Whether all pixels of the axis, not of a part only, are of two pixels each."""

    @property
    def span(self) -> slice:
        """All source pixels that are needed."""
        return slice(int(self.start.min()), int((self.start + self.count).max()))

    def runs(self) -> list[tuple[slice, int, int, int]]:
        """Cut the targets into runs of evenly spaced windows of one size.

        Returns
        -------
        list of tuple
            Target pixels, first source pixel, spacing and size of the windows.

        Examples
        --------
        >>> for run in weighted(9, 5, slice(0, 5)).runs():
        ...     print(run)
        (slice(0, 1, None), 0, 1, 2)
        (slice(1, 4, None), 1, 2, 3)
        (slice(4, 5, None), 7, 1, 2)
        """
        starts, counts = self.start.tolist(), self.count.tolist()
        found, first = [], 0
        for i in range(1, len(starts) + 1):
            step = starts[first + 1] - starts[first] if i - first > 1 else 1
            if i < len(starts) and counts[i] == counts[first]:
                apart = starts[i] - starts[i - 1]
                if apart and (i - first == 1 or apart == step):
                    continue
            found.append((slice(first, i), starts[first], step, counts[first]))
            first = i
        return found


def nearest(n_source: int, n_target: int, target: slice) -> NDArray[np.intp]:
    """Give the one source pixel of each target pixel.

    Examples
    --------
    >>> nearest(5, 3, slice(0, 3)).tolist()
    [0, 2, 3]
    """
    ratio = n_source / n_target
    return (0.5 + np.arange(target.start, target.stop) * ratio).astype(np.intp)


def weighted(n_source: int, n_target: int, target: slice) -> Taps:
    """Give the source pixels under each target pixel, and how much of each is."""
    ratio = n_source / n_target
    i = np.arange(target.start, target.stop)
    low, high = i * ratio, (i + 1) * ratio
    start = (low + EPSILON).astype(np.intp)
    stop = np.ceil(high - EPSILON).astype(np.intp)
    stop = np.minimum(np.where(stop == start, stop + 1, stop), n_source)
    count = stop - start
    left = np.where(count == 1, 1.0, 1 - (low - start))
    right = 1 - (stop - high)
    weights = (np.arange(int(count.max())) < count[:, None]).astype(np.float64)
    rows = np.arange(len(i))
    weights[rows, count - 1] = np.where(count > 1, right, left)
    weights[rows, 0] = left
    total = np.where(count > 1, left + (count - 2) + right, left)
    return Taps(start, count, weights, total, pairs=n_source == 2 * n_target)


def plain(n_source: int, n_target: int, target: slice) -> Taps:
    """Give whole source pixels, each to one target pixel: GDAL's way with complex."""
    ratio = n_source / n_target
    i = np.arange(target.start, target.stop)
    start = (0.5 + i * ratio).astype(np.intp)
    stop = (0.5 + (i + 1) * ratio).astype(np.intp)
    stop = np.where(stop == start, stop + 1, stop)
    last = (stop > n_source) | (i == n_target - 1)
    start = np.where(last & (start == n_source), n_source - 1, start)
    stop = np.where(last, n_source, stop)
    count = stop - start
    weights = (np.arange(int(count.max())) < count[:, None]).astype(np.float64)
    return Taps(start, count, weights, count.astype(np.float64))


def kernel_taps(
    n_source: int,
    n_target: int,
    target: slice,
    radius: int,
    weigh: Filter,
) -> Taps:
    """Give the source pixels within a kernel that is stretched to a target pixel.

    Parameters
    ----------
    n_source, n_target, target
        Sizes of the axis, and the target pixels.
    radius
        Of the kernel, in target pixels.
    weigh
        The kernel.
    """
    ratio = n_source / n_target
    scale = min(1.0 / ratio, 1.0)
    reach = radius / scale
    centre = (np.arange(target.start, target.stop) + 0.5) * ratio
    start = np.maximum(np.floor(centre - reach + 0.5).astype(np.intp), 0)
    stop = np.minimum((centre + reach + 0.5).astype(np.intp), n_source)
    count = stop - start
    taps = np.arange(int(count.max()))
    weights = weigh(scale * (start - centre + 0.5)[:, None] + scale * taps)
    weights[taps >= count[:, None]] = 0.0
    return Taps(start, count, weights, weights.sum(axis=1))


def gauss_taps(n_source: int, n_target: int, target: slice) -> Taps:
    """Give the source pixels of GDAL's Gauss: binomial weights, cut at the edges."""
    ratio = n_source / n_target
    binomial = _binomial(int(0.5 + ratio))
    size = len(binomial)
    i = np.arange(target.start, target.stop)
    low = (0.5 + i * ratio).astype(np.intp)
    high = (0.5 + (i + 1) * ratio).astype(np.intp) + 1
    first = low + (high - low) // 2 - size // 2
    start = np.maximum(first, 0)
    count = np.minimum(first + size, n_source) - start
    at = np.arange(int(count.max())) + (start - first)[:, None]
    weights = np.append(binomial, 0.0)[np.minimum(at, size)]
    weights[np.arange(int(count.max())) >= count[:, None]] = 0.0
    return Taps(start, count, weights, weights.sum(axis=1))


def _binomial(factor: int) -> NDArray[np.float64]:
    """Weights of Pascal's triangle: 3 for halves, 5 up to quarters, then 7."""
    size = 3 if factor <= 2 else 5 if factor <= 4 else 7  # noqa: PLR2004
    row = [1.0]
    for _ in range(size - 1):
        row = [a + b for a, b in zip([0.0, *row], [*row, 0.0], strict=True)]
    return np.array(row)
