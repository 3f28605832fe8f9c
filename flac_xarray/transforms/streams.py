"""Integers as side data: palettes, residuals and runs (docs/format.md, section 4.7).

Strategy: bytes of equal weight lie together, lowest first, for they resemble each
other; signed numbers are folded (0, -1, 1, -2, ... to 0, 1, 2, 3, ...), so that the
upper bytes of small ones are zero whatever their sign.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flac_xarray.errors import CorruptTileError
from flac_xarray.transforms.masks import (
    BLOCK,
    PIXELS,
    PackedCounts,
    Rests,
    find_runs,
    pack_counts,
    pack_rests,
    repeated,
)
from flac_xarray.transforms.side import SideReader, pack_piece

__all__ = [
    "pack_palette",
    "pack_residual",
    "pack_runs",
    "spread_runs",
    "take_pairs",
    "take_palette",
    "take_residual",
]

Ints = NDArray[np.integer[Any]]


def pack_palette(palette: Ints, effort: int) -> bytes:
    """Pack a sorted palette as differences, the first from 0."""
    steps = np.diff(palette, prepend=palette.dtype.type(0))
    return pack_piece(_to_planes(steps), effort=effort)


def take_palette(reader: SideReader, max_count: int, dtype: np.dtype[Any]) -> Ints:
    """Undo `pack_palette`."""
    piece = reader.open(max_count * dtype.itemsize, dtype.itemsize)
    if piece.nbytes % dtype.itemsize:
        raise CorruptTileError("the palette of a tile is cut off")
    palette = np.empty(piece.nbytes // dtype.itemsize, dtype)
    for plane in _planes_of(palette):
        piece.read_into(plane)
    # Forwards, so each sum is there when the next one needs it.
    np.add.accumulate(palette, dtype=dtype, out=palette)
    return palette


def pack_residual(flat: Ints, effort: int) -> bytes:
    """Pack signed integers, folded, each plane of bytes as a piece of its own.

    So the lowest bytes, which are noise more often than not, are stored as they are
    and cost nothing to undo.
    """
    planes = _to_planes(_fold(flat))
    return b"".join(
        pack_piece(planes[start : start + flat.size], effort=effort)
        for start in range(0, len(planes), flat.size or 1)
    )


def take_residual(reader: SideReader, out: Ints) -> None:
    """Undo `pack_residual` into a flat array."""
    if not out.size:
        return
    for plane in _planes_of(out):
        reader.open(out.size).read_into(plane)
    for start in range(0, out.size, PIXELS):
        part = out[start : start + PIXELS]
        part[...] = _unfold(part)


def pack_runs(flat: Ints, form: str, effort: int, side: list[bytes]) -> Ints:
    """Put the lengths of runs into side data; return what is repeated.

    In ``pairs``, which only a residual of one byte can have, that goes there as well:
    a piece of (folded residual, min(length - 1, 255)), then the lengths' rests.
    """
    values, lengths = find_runs(flat)
    if form == "apart":
        side.append(pack_counts(lengths - 1, effort=effort))
        return values
    low = np.minimum(lengths - 1, 255).astype(np.uint8)
    pairs = np.stack([_fold(values).view(np.uint8), low], axis=1)
    side.append(pack_piece(pairs.tobytes(), effort=effort, pixel_nbytes=2))
    side.append(pack_rests(lengths - 1, effort=effort))
    return values[:0]


def spread_runs(lengths: PackedCounts, flat: Ints) -> None:
    """Undo `pack_runs`, form ``apart``: repeat the numbers at the end of an array.

    Parameters
    ----------
    lengths
        Lengths less 1.
    flat : ndarray of integers
        Filled.

    Raises
    ------
    CorruptTileError
        The runs do not fill it.
    """
    source, start = flat.size - len(lengths), 0
    for block in lengths.blocks():
        values = flat[source : source + block.size].copy()
        source += block.size
        # Those that are left need a place each, so none of them is overwritten.
        start = _repeat(values, block, flat[:source], start)
    _check_full(start, flat.size)


def take_pairs(reader: SideReader, flat: Ints) -> None:
    """Undo `pack_runs`, form ``pairs``, into an array.

    Raises
    ------
    CorruptTileError
        The runs do not fill it.
    """
    piece = reader.open(2 * flat.size, 2)
    if piece.nbytes % 2:
        raise CorruptTileError("the runs of a tile are cut off")
    rests, start = Rests(reader, flat.size), 0
    for at in range(0, piece.nbytes, 2 * BLOCK):
        pairs = piece.read(min(2 * BLOCK, piece.nbytes - at)).reshape(-1, 2)
        values = _unfold(np.ascontiguousarray(pairs[:, 0]).view(np.int8))
        start = _repeat(values, rests.widen(pairs[:, 1]), flat, start)
    rests.check_used()
    _check_full(start, flat.size)


def _repeat(values: Ints, rests: NDArray[np.int64], flat: Ints, start: int) -> int:
    """Put runs, of lengths less 1, behind each other; give where the last one ends."""
    lengths = rests + 1
    stop = start + int(lengths.sum())
    if stop > flat.size:
        raise CorruptTileError(
            f"runs hold {stop} pixels and more: expected {flat.size} of these"
        )
    for part in repeated(values, lengths, lambda: PIXELS):
        flat[start : start + part.size] = part
        start += part.size
    return stop


def _check_full(found: int, size: int) -> None:
    if found != size:
        raise CorruptTileError(f"runs hold {found} pixels: expected {size}")


def _planes_of(ints: Ints) -> Iterator[NDArray[np.uint8]]:
    """Give the lowest bytes of all, then the next ones, and so on, as views."""
    yield from ints.view(np.uint8).reshape(-1, ints.itemsize).T


def _to_planes(ints: Ints) -> bytes:
    width = ints.dtype.itemsize
    return np.ascontiguousarray(ints.view(np.uint8).reshape(-1, width).T).tobytes()


def _fold(ints: Ints) -> Ints:
    return (ints << 1) ^ (ints >> (ints.dtype.itemsize * 8 - 1))


def _unfold(ints: Ints) -> Ints:
    unsigned = ints.view(f"u{ints.dtype.itemsize}")
    return (unsigned >> 1).view(ints.dtype) ^ -(ints & 1)
