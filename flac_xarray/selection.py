"""What an index takes from an array, tile by tile: NumPy's and xarray's indexing.

Strategy: every kind of index becomes one value, a `Selection`: index arrays that span
their own axis of the result (basic and outer indexing), and index arrays that run
together over points (vectorised indexing). Its `pieces` name each tile once, with what
to take from it and where that goes, so no tile without a selected pixel is read.
Pure integer arithmetic: reading is the caller's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flac_xarray.grid import TileGrid

__all__ = ["Piece", "Selection"]

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of one tile that a selection takes."""

    index: tuple[int, ...]
    """Tile index, one integer per dim."""
    take: tuple[Any, ...]
    """Index into the tile, its axes in `Selection.order`."""
    put: tuple[Any, ...]
    """Index into the flat result."""


@dataclass(frozen=True, slots=True)
class Selection:
    """One index into an N-dimensional array.

    The *flat* result has one axis of points, if there is any vectorised axis, then one
    axis for every other dim of the array; `finish` gives it the shape NumPy gives.

    Examples
    --------
    >>> rows = Selection.basic((slice(4, None, -2), 3), (5, 9))
    >>> rows.indices, rows.finish(np.zeros(rows.flat_shape)).shape
    ((array([4, 2, 0]), array([3])), (3,))
    >>> points = Selection.vectorized((np.array([0, 4]), np.array([8, 1])), (5, 9))
    >>> [piece.index for piece in points.pieces(TileGrid((5, 9), (2, 2)))]
    [(0, 4), (2, 0)]
    """

    indices: tuple[Indices, ...]
    """Pixels along each axis, 0 to n; those of vectorised axes run together."""
    points: tuple[int, ...] = ()
    """The vectorised axes."""
    points_shape: tuple[int, ...] = ()
    """Shape that the points have in the result."""
    scalars: tuple[int, ...] = ()
    """Axes that an integer indexes: the result lacks them."""

    @classmethod
    def basic(cls, key: Sequence[Any], shape: Sequence[int]) -> Selection:
        """Make one of integers, slices and 1-d arrays, each spanning its own axis.

        Raises
        ------
        IndexError
            An integer is out of range.
        """
        scalars = tuple(
            k
            for k, entry in enumerate(key)
            if np.ndim(entry) == 0 and not isinstance(entry, slice)
        )
        pairs = zip(key, shape, strict=True)
        return cls(tuple(_along(entry, n) for entry, n in pairs), scalars=scalars)

    @classmethod
    def vectorized(cls, key: Sequence[Any], shape: Sequence[int]) -> Selection:
        """Make one of slices, and arrays that are broadcast against each other.

        Raises
        ------
        IndexError
            An integer is out of range.
        """
        points = tuple(k for k, e in enumerate(key) if not isinstance(e, slice))
        arrays = np.broadcast_arrays(*(key[k] for k in points))
        flat = dict(zip(points, (a.reshape(-1) for a in arrays), strict=True))
        pairs = zip((flat.get(k, e) for k, e in enumerate(key)), shape, strict=True)
        indices = tuple(_along(entry, n) for entry, n in pairs)
        return cls(indices, points, arrays[0].shape if points else ())

    @property
    def order(self) -> tuple[int, ...]:
        """Axes of the array in the order of the flat result: vectorised ones first."""
        return (*self.points, *self._spans)

    @property
    def _spans(self) -> tuple[int, ...]:
        return tuple(k for k in range(len(self.indices)) if k not in self.points)

    @property
    def flat_shape(self) -> tuple[int, ...]:
        """Shape of the flat result."""
        head = (self.indices[self.points[0]].size,) if self.points else ()
        return (*head, *(self.indices[k].size for k in self._spans))

    def block(self) -> tuple[slice, ...] | None:
        """Give the slices of step 1 that it equals, None where it is no such block."""
        if self.points:
            return None
        runs = tuple(_run(i) for i in self.indices)
        return None if None in runs else runs  # type: ignore[return-value]

    def along(self, axis: int, values: NDArray[Any]) -> NDArray[Any]:
        """Give values, one per position of an axis, in a form that broadcasts."""
        taken = values[self.indices[axis]]
        at = 0 if axis in self.points else self._flat_axis(axis)
        ndim = len(self.flat_shape)
        return taken.reshape([-1 if k == at else 1 for k in range(ndim)])

    def _flat_axis(self, axis: int) -> int:
        return int(bool(self.points)) + self._spans.index(axis)

    def at(self, axis: int, position: int) -> Selection:
        """Give the same selection with one axis held at a position."""
        held = np.full_like(self.indices[axis], position)
        if axis not in self.points:
            held = held[:1]
        return replace(self, indices=_swapped(self.indices, axis, held))

    def without(self, axis: int) -> Selection:
        """Give the same selection of an array that lacks an axis.

        Its flat result lacks the axis too, unless points run along it.
        """
        shift = {k: k - (k > axis) for k in range(len(self.indices)) if k != axis}
        return Selection(
            tuple(self.indices[k] for k in shift),
            tuple(shift[k] for k in self.points if k in shift),
            self.points_shape if set(self.points) - {axis} else (),
            tuple(shift[k] for k in self.scalars if k in shift),
        )

    def widened(self, flat: NDArray[Any], axis: int) -> NDArray[Any]:
        """Make a result `without` an axis broadcast against the flat result."""
        if axis in self.points:
            if len(self.points) > 1:
                return flat
            return flat[np.newaxis]
        return np.expand_dims(flat, self._flat_axis(axis))

    def finish(self, flat: NDArray[Any]) -> NDArray[Any]:
        """Give the flat result its final shape: the points where the first axis was."""
        if not self.points:
            return flat[
                tuple(0 if k in self.scalars else slice(None) for k in self._spans)
            ]
        shaped = flat.reshape(*self.points_shape, *flat.shape[1:])
        n_points = len(self.points_shape)
        to = sum(k < self.points[0] for k in self._spans)
        return np.moveaxis(shaped, range(n_points), range(to, to + n_points))

    def pieces(self, grid: TileGrid) -> Iterator[Piece]:
        """Yield every tile that holds a selected pixel, once."""
        if not math.prod(self.flat_shape):
            return
        spans = [_by_tile(self.indices[k], grid.tile[k]) for k in self._spans]
        for at, local, where in self._point_groups(grid):
            for groups in itertools.product(*spans):
                tile = dict(zip(self.points, at, strict=True))
                tile |= {k: g[0] for k, g in zip(self._spans, groups, strict=True)}
                within = [g[1] for g in groups]
                into = [g[2] for g in groups]
                index = tuple(tile[k] for k in range(len(self.indices)))
                if self.points:
                    yield Piece(index, _mixed(local, within), np.ix_(where, *into))
                else:
                    yield Piece(index, np.ix_(*within), np.ix_(*into))

    def _point_groups(
        self, grid: TileGrid
    ) -> Iterator[tuple[tuple[int, ...], list[Indices], Indices]]:
        """Yield (tile along each vectorised axis, pixels in it, which points)."""
        if not self.points:
            yield (), [], np.empty(0, np.intp)
            return
        tiles = [self.indices[k] // grid.tile[k] for k in self.points]
        keys = np.ravel_multi_index(tiles, [grid.counts[k] for k in self.points])
        order = np.argsort(keys, kind="stable")
        for where in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
            local = [self.indices[k][where] % grid.tile[k] for k in self.points]
            yield tuple(int(t[where[0]]) for t in tiles), local, where


def _along(entry: Any, n: int) -> Indices:
    """Positions, 0 to n, that one entry of a key selects along an axis of length n."""
    if isinstance(entry, slice):
        return np.arange(*entry.indices(n), dtype=np.intp)
    positions = np.asarray(entry)
    if positions.dtype == bool:
        if positions.shape != (n,):
            msg = f"boolean index of shape {positions.shape} on an axis of length {n}"
            raise IndexError(msg)
        return np.flatnonzero(positions)
    positions = positions.reshape(-1).astype(np.intp)
    if positions.size and not -n <= positions.min() <= positions.max() < n:
        msg = f"index {positions.min()} or {positions.max()} on an axis of length {n}"
        raise IndexError(msg)
    return np.where(positions < 0, positions + n, positions)


def _run(indices: Indices) -> slice | None:
    if not indices.size:
        return slice(0, 0)
    start, stop = int(indices[0]), int(indices[-1]) + 1
    if stop - start != indices.size or np.any(np.diff(indices) != 1):
        return None
    return slice(start, stop)


def _by_tile(indices: Indices, tile: int) -> list[tuple[int, Indices, Indices]]:
    """Group the pixels of one axis: (tile, pixels in it, places in the result)."""
    tiles = indices // tile
    order = np.argsort(tiles, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(tiles[order])) + 1)
    return [(int(tiles[g[0]]), indices[g] % tile, g) for g in groups]


def _mixed(local: list[Indices], within: list[Indices]) -> tuple[Indices, ...]:
    """Index arrays for vectorised axes followed by axes that are spanned."""
    ndim = 1 + len(within)
    spans = np.ix_(*within) if within else ()
    head = [i.reshape(-1, *(1,) * (ndim - 1)) for i in local]
    return (*head, *(s.reshape(1, *s.shape) for s in spans))


def _swapped(
    indices: tuple[Indices, ...], axis: int, value: Indices
) -> tuple[Indices, ...]:
    return (*indices[:axis], value, *indices[axis + 1 :])
