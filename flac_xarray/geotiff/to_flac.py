"""Any raster that rasterio reads, to a FLAC raster.

Strategy: one thread reads blocks of whole tiles (a rasterio dataset is not for several
threads), the writer's pool encodes them; what is in memory is two blocks, the tiles
being encoded, and GDAL's cache, whatever the size of the raster.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import rasterio.windows
from numpy.typing import NDArray

from flac_xarray.dtypes import itemsize, numpy_dtype
from flac_xarray.geotiff.describe import header_from_dataset
from flac_xarray.geotiff.gdal import (
    bounded_cache,
    open_dataset,
    row_of_blocks,
    translated_errors,
)
from flac_xarray.geotiff.source_levels import open_levels, with_levels
from flac_xarray.header import ArrayInfo, Header
from flac_xarray.overview_plan import Overviews
from flac_xarray.tile_encoder import DEFAULT_EFFORT
from flac_xarray.writer import FlacRasterWriter

__all__ = ["convert_to_flac", "read_block"]

BLOCK_NBYTES: Final = 24 << 20
"""Pixels read at a time, in bytes."""

SOURCE: Final = "source"
"""Overviews that are those of the source."""

Tile = tuple[int, tuple[int, ...], Callable[[], NDArray[Any]]]


def convert_to_flac(  # noqa: PLR0913
    source: Any,
    target: str | os.PathLike[str],
    *,
    tile_size: int | tuple[int, int] = 512,
    bands_per_tile: int | None = None,
    overviews: Overviews = SOURCE,
    resampling: str = "nearest",
    overwrite: bool = False,
    progress: Callable[[int], object] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Header:
    """Convert a raster to a FLAC raster, bit for bit, with bounded memory.

    Parameters
    ----------
    source
        Path, URL or GDAL name of any raster that rasterio opens, or an open dataset.
    target
        Path or URL.
    tile_size
        Rows and columns of a tile.
    bands_per_tile
        Bands of a tile.
    overviews
        ``"source"``: those of the source, as they are. Or made here: ``"auto"``, halves
        until one tile covers the raster; or factors, ``(2, 4, 8)``. Or ``"none"``.
    resampling
        How they are made: nearest, average, mode, rms, bilinear, cubic, cubic_spline,
        lanczos or gauss.
    overwrite
        Whether an existing target may be replaced.
    progress
        Called with the number of pixel bytes of each tile done.
    storage_options
        Options of the target's fsspec file system.
    **options
        ``effort``, ``interleave``, ``threads``: see `FlacRasterWriter`.

    Returns
    -------
    Header
        What the file says about itself.

    Raises
    ------
    SourceError
        The source cannot be read, or the target not be written; nothing is left behind.
    UnsupportedDataError
        Bands of several dtypes, or of one that FLAC rasters lack; subdatasets only.
    FileExistsError
        The target exists and `overwrite` is false.
    ValueError
        There are no such overviews.
    """
    options = {"effort": DEFAULT_EFFORT, "resampling": resampling} | options
    with open_dataset(source) as dataset, contextlib.ExitStack() as stack:
        name = str(dataset.name)
        levels = ()
        if overviews == SOURCE:
            levels = stack.enter_context(open_levels(dataset))
        else:
            options["overviews"] = overviews
        with translated_errors(name, "read"):
            header = header_from_dataset(
                dataset, tile_size=tile_size, bands_per_tile=bands_per_tile
            )
        header = with_levels(header, levels)
        cache = 2 * row_of_blocks(dataset, itemsize(header.arrays[0].dtype))
        with (
            FlacRasterWriter.create(
                target,
                header,
                overwrite=overwrite,
                storage_options=storage_options,
                **options,
            ) as writer,
            bounded_cache(cache),
        ):
            together = writer.header is not header
            tiles = _tiles((dataset, *levels), header, name, together=together)
            writer.write_tiles(tiles, progress=progress)
    return writer.header


def _tiles(
    datasets: Sequence[Any], header: Header, name: str, *, together: bool
) -> Iterator[Tile]:
    """Give every tile of every array, in the order the source is read.

    Array by array, or all arrays together, row by row: overviews that are made need the
    mask beside the pixels.
    """
    arrays = [
        _blocks(position, info, datasets[info.level])
        for position, info in enumerate(header.arrays)
    ]
    blocks = (
        heapq.merge(*arrays, key=lambda job: job[2][-2].start)
        if together
        else itertools.chain.from_iterable(arrays)
    )
    for position, dataset, block in blocks:
        info = header.arrays[position]
        with translated_errors(name, "read"):
            pixels = read_block(dataset, info, block)
        for cut in info.grid.cuts(block):
            tile = pixels[cut.into]
            yield position, cut.index, partial(_same, tile)


def _blocks(
    position: int, info: ArrayInfo, dataset: Any
) -> Iterator[tuple[int, Any, tuple[slice, ...]]]:
    for block in info.grid.blocks(BLOCK_NBYTES // itemsize(info.dtype)):
        yield position, dataset, block


def _same(tile: NDArray[Any]) -> NDArray[Any]:
    return tile


def read_block(
    dataset: Any, info: ArrayInfo, block: tuple[slice, ...]
) -> NDArray[np.generic]:
    """Read a block of an array: (band, row, col), or (row, col) of the mask."""
    rows, cols = block[-2:]
    window = rasterio.windows.Window(
        cols.start, rows.start, cols.stop - cols.start, rows.stop - rows.start
    )
    if len(block) == 2:  # noqa: PLR2004
        mask: NDArray[np.generic] = dataset.dataset_mask(window=window)
        return mask
    bands = [i + 1 for i in range(block[0].start, block[0].stop)]
    read = dataset.read_masks if info.role == "mask" else dataset.read
    pixels: NDArray[np.generic] = read(bands, window=window)
    # GDAL may hand out another byte order or a wider complex; the bits are the same.
    return pixels.astype(numpy_dtype(info.dtype), copy=False)
