"""Tiles of an N-dimensional array: which tile covers what (docs/format.md, section 5).

Strategy: pure integer arithmetic on frozen values. Intervals are half-open, axes are
in array order (..., row, col), tile numbers count in C order. Nothing here knows bytes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from flac_xarray.errors import FormatError, WindowError

__all__ = ["TileCut", "TileGrid", "Window", "suitable_bands"]

BANDS_TOGETHER: Final = 16
"""Most one-band tiles whose pixels one tile of many bands may hold."""


def suitable_bands(
    shape: tuple[int, int, int], tile: tuple[int, int], *, is_photo: bool
) -> int:
    """Choose how many bands share a tile.

    One, so that reading a band moves that band only; but all bands of a colour
    photograph, which nobody reads apart and which predict each other, and many bands
    of small or deep rasters, whose tiles would hold little else than their comments.

    Parameters
    ----------
    shape
        Bands, rows and columns of the raster.
    tile
        Rows and columns of a tile.
    is_photo
        The bands are red, green and blue of 8 bits.

    Examples
    --------
    >>> suitable_bands((4, 5000, 5000), (512, 512), is_photo=False)
    1
    """
    count, height, width = shape
    pixels = min(tile[0], height) * min(tile[1], width)
    most = max(1, BANDS_TOGETHER * tile[0] * tile[1] // pixels)
    is_deep = count > BANDS_TOGETHER
    is_small = count * pixels <= tile[0] * tile[1]
    return min(count, most) if is_photo or is_deep or is_small else 1


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels, half-open, inside one level of a raster.

    Examples
    --------
    >>> Window(10, 20, 5, 6).slices
    (slice(10, 15, None), slice(20, 26, None))
    """

    row_off: int
    """First row."""
    col_off: int
    """First column."""
    height: int
    """Number of rows."""
    width: int
    """Number of columns."""

    def __post_init__(self) -> None:
        if min(self.row_off, self.col_off, self.height, self.width) < 0:
            msg = f"a window cannot be negative: {self}"
            raise WindowError(msg)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices."""
        return (
            slice(self.row_off, self.row_off + self.height),
            slice(self.col_off, self.col_off + self.width),
        )

    def intersection(self, height: int, width: int) -> Window | None:
        """Cut to a raster of that size; None when nothing is left."""
        row_stop = min(self.row_off + self.height, height)
        col_stop = min(self.col_off + self.width, width)
        if row_stop <= self.row_off or col_stop <= self.col_off:
            return None
        return Window(
            self.row_off, self.col_off, row_stop - self.row_off, col_stop - self.col_off
        )


@dataclass(frozen=True, slots=True)
class TileCut:
    """The part of one tile that a selection needs, and where it lands.

    Examples
    --------
    >>> cut = next(TileGrid((4, 5), (2, 3)).cuts((slice(1, 2), slice(4, 5))))
    >>> cut.index, cut.number, cut.within
    ((0, 1), 1, (slice(1, 2, None), slice(1, 2, None)))
    """

    index: tuple[int, ...]
    """Tile index, one integer per dim."""
    number: int
    """The same as a C-order number: the row of the tile table."""
    within: tuple[slice, ...]
    """What to take from the tile."""
    into: tuple[slice, ...]
    """Where it goes in the selection's result."""


@dataclass(frozen=True, slots=True)
class TileGrid:
    """A regular tiling of an array; tiles on the far edges are cut to it.

    Examples
    --------
    >>> grid = TileGrid((1201, 1201), (256, 256))
    >>> grid.counts, grid.n_tiles, grid.tile_shape((4, 0))
    ((5, 5), 25, (177, 256))
    """

    shape: tuple[int, ...]
    """Pixels along each dim; may be zero."""
    tile: tuple[int, ...]
    """Pixels of a whole tile along each dim, at least 1."""

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.tile):
            msg = f"tile {self.tile} has not one entry per dim of shape {self.shape}"
            raise FormatError(msg)
        if any(n < 0 for n in self.shape) or any(n < 1 for n in self.tile):
            msg = f"shape {self.shape} or tile {self.tile} is out of range"
            raise FormatError(msg)

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of tiles along each dim."""
        return _counts(self.shape, self.tile)

    @property
    def n_tiles(self) -> int:
        """Number of tiles in all."""
        return math.prod(self.counts)

    def number(self, index: Sequence[int]) -> int:
        """C-order number of a tile index.

        Raises
        ------
        WindowError
            There is no such tile.
        """
        if len(index) != len(self.shape) or any(
            not 0 <= i < n for i, n in zip(index, self.counts, strict=True)
        ):
            msg = f"no tile {tuple(index)}: the grid has {self.counts} tiles"
            raise WindowError(msg)
        number = 0
        for i, n in zip(index, self.counts, strict=True):
            number = number * n + i
        return number

    def index(self, number: int) -> tuple[int, ...]:
        """Undo `number`.

        Raises
        ------
        WindowError
            There is no such tile.
        """
        if not 0 <= number < self.n_tiles:
            msg = f"no tile {number}: the raster has tiles 0 to {self.n_tiles - 1}"
            raise WindowError(msg)
        index: list[int] = []
        for n in reversed(self.counts):
            number, i = divmod(number, n)
            index.append(i)
        return tuple(reversed(index))

    def slices(self, index: Sequence[int]) -> tuple[slice, ...]:
        """Where a tile lies in the array, cut to its shape."""
        self.number(index)
        return tuple(
            slice(i * t, min(i * t + t, n))
            for i, t, n in zip(index, self.tile, self.shape, strict=True)
        )

    def tile_shape(self, index: Sequence[int]) -> tuple[int, ...]:
        """Shape of a tile, cut to the array."""
        return tuple(s.stop - s.start for s in self.slices(index))

    def cuts(self, selection: Sequence[slice]) -> Iterator[TileCut]:
        """Every tile that a selection touches, in C order.

        Parameters
        ----------
        selection
            One slice per dim with ``0 <= start <= stop <= n`` and step None or 1.

        Yields
        ------
        TileCut
            Nothing when the selection is empty.
        """
        if any(s.stop <= s.start for s in selection):
            return
        spans = [
            range(s.start // t, (s.stop - 1) // t + 1)
            for s, t in zip(selection, self.tile, strict=True)
        ]
        for index in itertools.product(*spans):
            within, into = [], []
            for i, t, s in zip(index, self.tile, selection, strict=True):
                start, stop = max(s.start, i * t), min(s.stop, i * t + t)
                within.append(slice(start - i * t, stop - i * t))
                into.append(slice(start - s.start, stop - s.start))
            yield TileCut(index, self.number(index), tuple(within), tuple(into))

    def blocks(self, n_pixels: int) -> Iterator[tuple[slice, ...]]:
        """Cut the array into blocks of whole tiles, for reading it piece by piece.

        A block is one tile that grows first over the leading dims, then along x, then
        along y, as far as `n_pixels` allows: files that interleave bands or store
        whole rows are read once.

        Yields
        ------
        tuple of slice
            One selection after another, rows of the raster outermost.

        Examples
        --------
        >>> grid = TileGrid((2, 5, 4), (1, 2, 2))
        >>> [(y.start, y.stop, x.stop) for _, y, x in grid.blocks(16)]
        [(0, 2, 4), (2, 4, 4), (4, 5, 4)]
        """
        if 0 in self.shape:
            return
        *leading, y, x = range(len(self.shape))
        size = [min(n, t) for n, t in zip(self.shape, self.tile, strict=True)]
        for axis in (*reversed(leading), x, y):
            others = math.prod(size) // size[axis]
            tiles = max(1, n_pixels // others // self.tile[axis])
            size[axis] = min(tiles * self.tile[axis], self.shape[axis])
        spans = [range(0, self.shape[k], size[k]) for k in (y, x, *leading)]
        for row, col, *start in itertools.product(*spans):
            yield tuple(
                slice(o, min(o + n, stop))
                for o, n, stop in zip((*start, row, col), size, self.shape, strict=True)
            )


@lru_cache(maxsize=256)
def _counts(shape: tuple[int, ...], tile: tuple[int, ...]) -> tuple[int, ...]:
    """Count the tiles along each dim; asked for with every tile that is read."""
    return tuple(-(-n // t) for n, t in zip(shape, tile, strict=True))
