"""What codec and benchmark talk about: a raster, its encoded form, a peer, tiles."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Protocol

from numpy.typing import NDArray

Pixels = NDArray[Any]
Index = tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class Raster:
    """Pixels and what must be kept with them."""

    name: str
    """What the table calls it."""
    array: Pixels
    """Pixels, axis order (band, row, col)."""
    dtype: str
    """NumPy's name, or GDAL's ``complex_int16`` (`array` is complex64 then)."""
    nodata: float | None = None
    """Pixel value that means "no data", NaN included."""
    profile: Mapping[str, Any] = field(default_factory=dict)
    """Keywords ``crs`` and ``transform``, as rasterio takes them."""
    is_photo: bool = False
    """The bands are red, green and blue of 8 bits: ours puts them into one tile."""

    @property
    def nbytes(self) -> int:
        """Bytes of the uncompressed pixels as the dtype stores them."""
        return self.array.nbytes // (2 if self.dtype == "complex_int16" else 1)


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a peer made of a raster, in memory."""

    nbytes: int
    """All bytes a user would have to store: data, index and metadata."""
    payload: Any
    """What the peer's own `decode` takes."""


class Peer(Protocol):
    """A codec under test."""

    @property
    def name(self) -> str:
        """What tables, plots and ``--peers`` call it."""

    @property
    def requires(self) -> tuple[str, ...]:
        """Modules to import."""

    def holds(self, raster: Raster) -> bool:
        """Say whether the raster can be stored without losing a bit."""

    def encode(self, raster: Raster, tile: int, threads: int) -> Encoded:
        """Encode the whole raster with square tiles of `tile` pixels."""

    def decode(self, encoded: Encoded, raster: Raster, threads: int) -> Pixels:
        """Decode all pixels; of `raster` only shape and dtype may be looked at."""


def missing_modules(peer: Peer) -> list[str]:
    """List the modules a peer needs and that are not installed."""
    return [name for name in peer.requires if find_spec(name) is None]


def is_complex(raster: Raster) -> bool:
    """Tell rasters whose pixels have two components."""
    return raster.array.dtype.kind == "c"


def tile_shape(shape: tuple[int, ...], tile: int) -> tuple[int, int, int]:
    """Cut a (band, row, col) array into tiles of about ``tile * tile`` pixels.

    Where a whole plane is smaller than one tile, as in a time series on a small grid,
    a tile takes as many planes as fit: no user would store it otherwise.
    """
    bands, rows, cols = shape
    height, width = min(tile, rows), min(tile, cols)
    depth = 1
    if (height, width) == (rows, cols):
        depth = max(1, min(bands, tile * tile // (rows * cols)))
    return depth, height, width


def tile_cuts(shape: tuple[int, ...], tiles: tuple[int, ...]) -> Iterator[Index]:
    """Cut an array into tiles, C order, edge tiles cut to the array."""
    yield from itertools.product(
        *(
            [slice(start, min(start + step, n)) for start in range(0, n, step)]
            for n, step in zip(shape, tiles, strict=True)
        )
    )


def mapped(function: Callable[[Any], Any], items: list[Any], threads: int) -> list[Any]:
    """Map in a pool of threads, or without one for a single thread."""
    if threads == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))
