"""Where something is, and for how long: counts as side data (docs/format.md, 4.7).

Strategy: maps of classes, masks and sparse fields are long runs. Lengths of runs are
small numbers that repeat from row to row, which is what LZMA is good at; FLAC is not,
for it spends a bit on each pixel.

Undoing takes no more memory than the result: counts come out of their piece a block at
a time, a mask stays packed in bits, and what is to be spread over a tile lies at the
end of the very array it is spread over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.errors import CorruptTileError
from flac_xarray.transforms.side import Piece, SideReader, pack_piece

__all__ = [
    "BLOCK",
    "PIXELS",
    "PackedCounts",
    "PackedMask",
    "Rests",
    "blocks_of",
    "find_runs",
    "open_counts",
    "pack_counts",
    "pack_gaps",
    "pack_mask",
    "pack_rests",
    "repeated",
    "spread_gaps",
    "spread_mask",
    "take_mask",
]

Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]
Ints = NDArray[np.integer[Any]]

_ESCAPE: Final = 255
BLOCK: Final = 1 << 13
"""Counts that are unpacked at once; even, for true and false take turns in a mask."""
PIXELS: Final = 1 << 16
"""Pixels that are worked on at once."""
_SMALL: Final = 1 << 18
"""Pixels of a mask that is not packed in bits."""


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


class Rests:
    """What bytes of 255 leave over, added as the bytes come."""

    def __init__(self, side: SideReader, total: int) -> None:
        # Counts of 255 or more that sum to no more than `total`.
        planes = side.take(4 * (total // _ESCAPE), 0)
        if planes.size % 4:
            raise CorruptTileError("the counts of a tile are cut off")
        planes = np.ascontiguousarray(planes.reshape(4, -1).T)
        self._rests = planes.view("<u4").reshape(-1)
        self._used = 0

    def widen(self, low: NDArray[np.uint8]) -> Counts:
        """Give counts from their bytes."""
        counts = low.astype(np.int64)
        at = np.flatnonzero(low == _ESCAPE)
        if at.size:
            rests = self._rests[self._used : self._used + at.size]
            self._used += at.size
            if rests.size != at.size:
                raise CorruptTileError("the tile has more long counts than it says")
            counts[at] += rests
        return counts

    def check_used(self) -> None:
        """All of them must have been."""
        if self._used != self._rests.size:
            raise CorruptTileError("the tile has fewer long counts than it says")


@dataclass(frozen=True, slots=True)
class PackedCounts:
    """Counts that are still packed."""

    low: Piece
    """A byte a count."""
    rests: Rests
    """What bytes of 255 leave over."""

    def __len__(self) -> int:
        return self.low.nbytes

    def blocks(self) -> Iterator[Counts]:
        """Give all counts, a block at a time."""
        for start in range(0, len(self), BLOCK):
            yield self.rests.widen(self.low.read(min(BLOCK, len(self) - start)))
        self.rests.check_used()


def open_counts(
    side: SideReader, max_count: int, min_count: int, total: int
) -> PackedCounts:
    """Undo `pack_counts`, of min_count to max_count numbers of that sum at most."""
    low = side.open(max_count, min_count)
    return PackedCounts(low, Rests(side, total))


def blocks_of(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Give planes and rows of blocks of pixels, as many as are worked on at once."""
    planes, height, width = shape
    rows = max(1, PIXELS // width)
    step = max(1, rows // height)
    for plane in range(0, planes, step):
        for row in range(0, height, rows):
            yield slice(plane, plane + step), slice(row, row + rows)


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


def repeated(
    values: NDArray[Any], lengths: Counts, sizes: Callable[[], int]
) -> Iterator[NDArray[Any]]:
    """Give `np.repeat` in parts of the sizes that are asked for, each at least 1.

    Examples
    --------
    >>> parts = repeated(np.array([7, 8, 9]), np.array([2, 2, 2]), lambda: 5)
    >>> [part.tolist() for part in parts]
    [[7, 7, 8, 8, 9], [9]]
    """
    start, stop = 0, int(lengths.sum())
    if stop <= sizes():
        yield np.repeat(values, lengths)
        return
    ends = np.cumsum(lengths)
    while start < stop:
        until = min(start + sizes(), stop)
        first, last = np.searchsorted(ends, (start, until - 1), "right")
        some = lengths[first : last + 1].copy()
        # What lies before the part and behind it.
        some[0] -= start - (ends[first] - lengths[first])
        some[-1] -= ends[last] - until
        yield np.repeat(values[first : last + 1], some)
        start = until


@dataclass(frozen=True, slots=True)
class PackedMask:
    """A mask of one bit a pixel; of one byte where that is little."""

    bits: NDArray[Any]
    """Shape (plane, row, byte), a row begins with a byte; or bool (plane, row, col)."""
    width: int
    """Columns."""
    count: int
    """How many are true."""

    def in_order(self, rows: slice | NDArray[np.intp]) -> PackedMask:
        """Give its rows in another order."""
        return PackedMask(self.bits[:, rows], self.width, self.count)

    def block(self, at: tuple[slice, slice]) -> Mask:
        """Give the pixels of some planes and rows."""
        bits = self.bits[at]
        if bits.dtype == np.bool_:
            return bits
        pixels = np.unpackbits(bits.reshape(-1)).reshape(*bits.shape[:2], -1)
        return pixels[:, :, : self.width].view(np.bool_)


def _pack_bits(rows: Mask) -> NDArray[np.uint8]:
    """Pack each row; all of them at once is several times as fast."""
    if rows.shape[1] % 8:
        return np.packbits(rows, axis=1)
    return np.packbits(rows.reshape(-1)).reshape(len(rows), -1)


def take_mask(side: SideReader, shape: tuple[int, ...]) -> PackedMask:
    """Undo `pack_mask`.

    Raises
    ------
    CorruptTileError
        The next piece is no mask of that shape.
    """
    planes, height, width = shape
    size = planes * height * width
    lengths = open_counts(side, size + 1, 0, size)
    n_rows, is_small = planes * height, size <= _SMALL
    bits = np.empty((0 if is_small else n_rows, -(-width // 8)), np.uint8)
    at_once = n_rows if is_small else max(1, min(PIXELS // width, n_rows))
    rows = np.empty((at_once, width), np.bool_)
    flat, row, filled, found, n_true = rows.reshape(-1), 0, 0, 0, 0
    values = np.arange(BLOCK) & 1 == 1

    def room() -> int:
        return flat.size - filled

    for block in lengths.blocks():
        n_true += int(block[1::2].sum())
        found += int(block.sum())
        if found > size:
            break
        for part in repeated(values[: block.size], block, room):
            flat[filled : filled + part.size] = part
            filled += part.size
            if is_small:
                continue
            if filled == flat.size or filled == size - row * width:
                whole = filled // width
                bits[row : row + whole] = _pack_bits(rows[:whole])
                row, filled = row + whole, 0
    if found != size:
        raise CorruptTileError(f"a mask has {found} pixels: expected {size}")
    made = rows if is_small else bits
    return PackedMask(made.reshape(planes, height, -1), width, n_true)


def pack_gaps(mask: Mask, *, effort: int = 5) -> bytes:
    """Pack a mask with few True as the numbers of False before each True."""
    at = np.flatnonzero(mask)
    return pack_counts(np.diff(at, prepend=-1) - 1, effort=effort)


def spread_gaps(gaps: PackedCounts, flat: Ints) -> None:
    """Undo `pack_gaps`: put the numbers at the end of an array to their places.

    Raises
    ------
    CorruptTileError
        One lies outside.
    """
    source, stop = flat.size - len(gaps), 0
    for block in gaps.blocks():
        at = np.cumsum(block + 1) + (stop - 1)
        samples = flat[source : source + at.size].copy()
        source += at.size
        # Those that are left need a place each, so none of them is overwritten.
        if at[-1] >= source:
            raise CorruptTileError(f"a pixel at {at[-1]} of {flat.size} or behind it")
        flat[stop : at[-1] + 1] = 0
        flat[at] = samples
        stop = int(at[-1]) + 1
    flat[stop:] = 0


def spread_mask(mask: PackedMask, flat: Ints) -> None:
    """Put the numbers at the end of an array where the mask is true, and 0 elsewhere.

    Examples
    --------
    >>> bits = np.packbits([[[True, False, True]]], axis=2)
    >>> numbers = np.array([0, 5, 6])
    >>> spread_mask(PackedMask(bits, width=3, count=2), numbers)
    >>> numbers.tolist()
    [5, 0, 6]
    """
    source, start = flat.size - mask.count, 0
    if not source:
        return
    held = np.empty(min(max(PIXELS, mask.width), flat.size), flat.dtype)
    for at in blocks_of((*mask.bits.shape[:2], mask.width)):
        kept = mask.block(at).reshape(-1)
        places = flat[start : start + kept.size]
        n = int(np.count_nonzero(kept))
        samples = held[:n]
        samples[...] = flat[source : source + n]
        places[...] = 0
        places[kept] = samples
        source, start = source + n, start + kept.size
