"""Where something is, and for how long: counts as side data (docs/format.md, 4.7).

Strategy: maps of classes, masks and sparse fields are long runs. Lengths of runs are
small numbers that repeat from row to row, which is what LZMA is good at; FLAC is not,
for it spends a bit on each pixel. Undoing is one `np.repeat` or one assignment.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.errors import CorruptTileError
from flac_xarray.transforms.side import SideReader, pack_piece

__all__ = [
    "find_runs",
    "pack_counts",
    "pack_gaps",
    "pack_mask",
    "pack_rests",
    "scatter",
    "take_counts",
    "take_gaps",
    "take_mask",
    "widen_counts",
]

Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]
Ints = NDArray[np.integer[Any]]

_ESCAPE: Final = 255


def pack_counts(counts: Counts, *, effort: int = 5) -> bytes:
    """Pack numbers from 0 to 2**32 - 1: a byte each, and what does not fit in a byte.

    Two pieces: ``min(count, 255)`` as bytes; ``count - 255`` of those that reach 255 as
    little-endian 32-bit integers, bytes of equal weight together.
    """
    low = np.minimum(counts, _ESCAPE).astype(np.uint8)
    return pack_piece(low.tobytes(), effort=effort) + pack_rests(counts, effort=effort)


def pack_rests(counts: Counts, *, effort: int = 5) -> bytes:
    """Pack what bytes of 255 leave over."""
    rest = (counts[counts >= _ESCAPE] - _ESCAPE).astype("<u4")
    planes = np.ascontiguousarray(rest.view(np.uint8).reshape(-1, 4).T)
    return pack_piece(planes.tobytes(), effort=effort)


def take_counts(side: SideReader, max_count: int, min_count: int = 0) -> Counts:
    """Undo `pack_counts`; there must be min_count to max_count numbers."""
    low = np.frombuffer(side.take(max_count, min_count), np.uint8)
    return widen_counts(low, side)


def widen_counts(low: NDArray[np.uint8], side: SideReader) -> Counts:
    """Add the next piece's rests to bytes of 255."""
    at = np.flatnonzero(low == _ESCAPE)
    planes = np.frombuffer(side.take(4 * len(at)), np.uint8).reshape(4, -1)
    rest = np.ascontiguousarray(planes.T).view("<u4").reshape(-1)
    counts = low.astype(np.int64)
    counts[at] += rest
    return counts


def find_runs(flat: Ints) -> tuple[Ints, Counts]:
    """Give value and length of each run of equal values.

    Examples
    --------
    >>> values, lengths = find_runs(np.array([7, 7, 7, 2]))
    >>> values.tolist(), lengths.tolist()
    ([7, 2], [3, 1])
    """
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    return flat[starts], np.diff(starts, append=flat.size)


def pack_mask(mask: Mask, *, effort: int = 5) -> bytes:
    """Pack a mask as the lengths of its runs, C order, a run of False first."""
    flat = mask.reshape(-1)
    lengths = find_runs(flat.view(np.uint8))[1]
    if flat[0]:
        lengths = np.concatenate([[0], lengths])
    return pack_counts(lengths, effort=effort)


def take_mask(side: SideReader, shape: tuple[int, ...]) -> Mask:
    """Undo `pack_mask`.

    Raises
    ------
    CorruptTileError
        The next piece is no mask of that shape.
    """
    size = int(np.prod(shape, dtype=np.int64))
    lengths = take_counts(side, size + 1)
    if lengths.sum() != size:
        raise CorruptTileError(f"a mask has {lengths.sum()} pixels: expected {size}")
    bits = np.arange(len(lengths)) & 1
    return np.repeat(bits.astype(np.bool_), lengths).reshape(shape)


def pack_gaps(mask: Mask, *, effort: int = 5) -> bytes:
    """Pack a mask with few True as the numbers of False before each True."""
    at = np.flatnonzero(mask)
    return pack_counts(np.diff(at, prepend=-1) - 1, effort=effort)


def take_gaps(side: SideReader, size: int) -> Counts:
    """Undo `pack_gaps` to positions in an array of that size.

    Raises
    ------
    CorruptTileError
        A position lies outside.
    """
    at = np.cumsum(take_counts(side, size) + 1) - 1
    if at.size and at[-1] >= size:
        raise CorruptTileError(f"a pixel at {at[-1]} of {size}")
    return at


def scatter(samples: NDArray[Any], mask: Mask) -> NDArray[Any]:
    """Put samples where the mask is true and 0 elsewhere, in C order.

    Examples
    --------
    >>> scatter(np.array([5, 6]), np.array([[[True, False, True]]])).tolist()
    [[[5, 0, 6]]]
    """
    out = np.zeros(mask.shape, samples.dtype)
    out[mask] = samples
    return out
