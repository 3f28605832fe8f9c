"""Any raster that rasterio reads, to a FLAC raster.

Strategy: one thread reads blocks of whole tiles (a rasterio dataset is not for several
threads), the writer's pool encodes them; what is in memory is two blocks, the tiles
being encoded, and GDAL's cache, whatever the size of the raster.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
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
from flac_xarray.header import ArrayInfo, Header
from flac_xarray.tile_encoder import DEFAULT_EFFORT
from flac_xarray.writer import FlacRasterWriter

__all__ = ["convert_to_flac", "read_block"]

BLOCK_NBYTES: Final = 24 << 20
"""Pixels read at a time, in bytes."""

Tile = tuple[int, tuple[int, ...], Callable[[], NDArray[Any]]]


def convert_to_flac(
    source: Any,
    target: str | os.PathLike[str],
    *,
    tile_size: int | tuple[int, int] = 512,
    bands_per_tile: int | None = None,
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
    """
    options = {"effort": DEFAULT_EFFORT} | options
    with open_dataset(source) as dataset:
        name = str(dataset.name)
        with translated_errors(name, "read"):
            header = header_from_dataset(
                dataset, tile_size=tile_size, bands_per_tile=bands_per_tile
            )
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
            writer.write_tiles(_tiles(dataset, header, name), progress=progress)
    return header


def _tiles(dataset: Any, header: Header, name: str) -> Iterator[Tile]:
    """Give every tile of every array, in the order the source is read."""
    for position, info in enumerate(header.arrays):
        limit = BLOCK_NBYTES // itemsize(info.dtype)
        for block in info.grid.blocks(limit):
            with translated_errors(name, "read"):
                pixels = read_block(dataset, info, block)
            for cut in info.grid.cuts(block):
                tile = pixels[cut.into]
                yield position, cut.index, partial(_same, tile)


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
