"""What one variable shows of an array's tiles: some bands of it, decoded by xarray.

Strategy: xarray decodes lazily, by wrapping one array in another. Where all wrappers
work pixel by pixel, or hold an axis at one position, the chunks of the variable are
those of the tiles below, so that they can be planned and fetched ahead as tiles. Where
there is a wrapper of any other kind there is no view, and xarray's own chunking stands.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from xarray.core import indexing

from flac_xarray.lazy_array import RasterArray

if TYPE_CHECKING:
    from flac_xarray.grid import TileGrid
    from flac_xarray.reader import FetchTiles

__all__ = ["TileView"]

Block = tuple[slice, ...]


@dataclass(frozen=True)
class TileView:
    """An array with some axes held and its pixels decoded."""

    array: RasterArray
    """What is read."""
    grid: TileGrid
    """Its tiles."""
    held: tuple[int | None, ...]
    """The position at which each axis is held; None where it is not."""
    decoders: tuple[Callable[[NDArray[Any]], NDArray[Any]], ...]
    """Applied in turn, each to all pixels of a block alike."""
    dtype: np.dtype[Any]
    """After decoding."""

    @classmethod
    def of(cls, lazy: Any) -> Self | None:
        """Look through xarray's wrappers; None where one of them is unknown."""
        dtype = np.dtype(lazy.dtype)
        decoders: list[Callable[[NDArray[Any]], NDArray[Any]]] = []
        while not isinstance(lazy, indexing.LazilyIndexedArray):
            decode = _decoder(lazy)
            if decode is None:
                return None
            decoders.insert(0, decode)
            lazy = lazy.array
        key = lazy.key.tuple
        simple = all(
            k == slice(None) if isinstance(k, slice) else np.ndim(k) == 0 for k in key
        ) and isinstance(lazy.array, RasterArray)
        if not simple:
            return None
        array: RasterArray = lazy.array
        info = array.ref.raster().header.arrays[array.position]
        held = tuple(None if isinstance(k, slice) else int(k) for k in key)
        return cls(array, info.grid, held, tuple(decoders), dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what is shown."""
        return tuple(
            n for n, at in zip(self.grid.shape, self.held, strict=True) if at is None
        )

    @property
    def tile(self) -> tuple[int, ...]:
        """Shape of a tile in it."""
        return tuple(
            t for t, at in zip(self.grid.tile, self.held, strict=True) if at is None
        )

    def tile_numbers(self, block: Block) -> Iterator[int]:
        """Give the tiles that a block touches; none if it is empty."""
        counts = self.grid.counts
        spans = [
            range(part.start // t, -(-part.stop // t) if part.stop > part.start else 0)
            for part, t in zip(self._whole(block), self.grid.tile, strict=True)
        ]
        for index in itertools.product(*spans):
            number = 0
            for i, n in zip(index, counts, strict=True):
                number = number * n + i
            yield number

    def read(self, block: Block, fetch: FetchTiles | None = None) -> NDArray[Any]:
        """Read and decode a block; `fetch` gives the bytes of tiles."""
        pixels = self.array.read_block(self._whole(block), fetch)
        pixels = pixels[tuple(slice(None) if at is None else 0 for at in self.held)]
        for decode in self.decoders:
            pixels = decode(pixels)
        return pixels

    def _whole(self, block: Block) -> Block:
        """Give the block of the array."""
        parts = iter(block)
        return tuple(
            next(parts) if at is None else slice(at, at + 1) for at in self.held
        )


def _decoder(lazy: Any) -> Callable[[NDArray[Any]], NDArray[Any]] | None:
    """Give what one wrapper does to pixels, None for a wrapper of unknown kind."""
    kind = type(lazy).__name__  # their module has moved from release to release
    if kind == "_ElementwiseFunctionArray":
        return partial(_decoded, lazy.func, np.dtype(lazy.dtype))
    if kind == "BoolTypeArray":
        return partial(np.asarray, dtype=bool)
    return None


def _decoded(
    func: Callable[[NDArray[Any]], Any], dtype: np.dtype[Any], pixels: NDArray[Any]
) -> NDArray[Any]:
    """Decode as xarray does, in the element type that it promises."""
    return np.asarray(func(pixels), dtype=dtype)
