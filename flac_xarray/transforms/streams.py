"""Integers as side data: palettes, residuals and runs (docs/format.md, section 4.7).

Strategy: bytes of equal weight lie together, lowest first, for they resemble each
other; signed numbers are folded (0, -1, 1, -2, ... to 0, 1, 2, 3, ...), so that the
upper bytes of small ones are zero whatever their sign.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flac_xarray.errors import CorruptTileError
from flac_xarray.transforms.masks import (
    find_runs,
    pack_counts,
    pack_rests,
    take_counts,
    widen_counts,
)
from flac_xarray.transforms.side import SideReader, pack_piece

__all__ = [
    "Runs",
    "pack_palette",
    "pack_residual",
    "pack_runs",
    "take_palette",
    "take_residual",
    "take_runs",
]

Ints = NDArray[np.integer[Any]]


class Runs(NamedTuple):
    """Runs of equal residuals."""

    lengths: NDArray[np.int64]
    """At least 1 each."""
    values: Ints | None
    """What is repeated, None where that is not with the lengths."""


def pack_palette(palette: Ints, effort: int) -> bytes:
    """Pack a sorted palette as differences, the first from 0."""
    steps = np.diff(palette, prepend=palette.dtype.type(0))
    return pack_piece(_to_planes(steps), effort=effort)


def take_palette(reader: SideReader, max_count: int, dtype: np.dtype[Any]) -> Ints:
    """Undo `pack_palette`."""
    data = reader.take(max_count * dtype.itemsize, dtype.itemsize)
    if len(data) % dtype.itemsize:
        raise CorruptTileError("the palette of a tile is cut off")
    return np.add.accumulate(_from_planes(data, dtype), dtype=dtype)


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


def take_residual(reader: SideReader, count: int, dtype: np.dtype[Any]) -> Ints:
    """Undo `pack_residual`."""
    planes = [reader.take(count) for _ in range(dtype.itemsize)] if count else []
    return _unfold(_from_planes(b"".join(planes), dtype))


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


def take_runs(reader: SideReader, size: int, form: str) -> Runs:
    """Undo `pack_runs`: runs that fill `size` residuals.

    Raises
    ------
    CorruptTileError
        They do not.
    """
    values = None
    if form == "apart":
        lengths = take_counts(reader, size, 1) + 1
    else:
        data = np.frombuffer(reader.take(2 * size, 2), np.uint8)
        if len(data) % 2:
            raise CorruptTileError("the runs of a tile are cut off")
        pairs = data.reshape(-1, 2)
        values = _unfold(np.ascontiguousarray(pairs[:, 0]).view(np.int8))
        lengths = widen_counts(np.ascontiguousarray(pairs[:, 1]), reader) + 1
    if lengths.sum() != size:
        raise CorruptTileError(f"runs hold {lengths.sum()} pixels: expected {size}")
    return Runs(lengths, values)


def _to_planes(ints: Ints) -> bytes:
    width = ints.dtype.itemsize
    return np.ascontiguousarray(ints.view(np.uint8).reshape(-1, width).T).tobytes()


def _from_planes(data: bytes, dtype: np.dtype[Any]) -> Ints:
    planes = np.frombuffer(data, np.uint8).reshape(dtype.itemsize, -1)
    return np.ascontiguousarray(planes.T).view(dtype).reshape(-1)


def _fold(ints: Ints) -> Ints:
    return (ints << 1) ^ (ints >> (ints.dtype.itemsize * 8 - 1))


def _unfold(ints: Ints) -> Ints:
    unsigned = ints.view(f"u{ints.dtype.itemsize}")
    return (unsigned >> 1).view(ints.dtype) ^ -(ints & 1)
