"""Any raster to a file that flac-raster 0.1.2 opens, or to the seed's single stream.

Strategy: as `to_flac`, block by block; the source may be a FLAC raster, too.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from numpy.typing import NDArray

from flac_xarray.dtypes import itemsize
from flac_xarray.geotiff.describe import header_from_dataset
from flac_xarray.geotiff.gdal import (
    bounded_cache,
    open_dataset,
    row_of_blocks,
    translated_errors,
)
from flac_xarray.geotiff.to_flac import read_block
from flac_xarray.header import Header
from flac_xarray.legacy_writer import PROFILES, LegacyWriter, legacy_header
from flac_xarray.reader import FlacRaster

__all__ = ["convert_to_legacy"]

BLOCK_NBYTES: Final = 24 << 20
"""Pixels read at a time, in bytes."""

Block = tuple[slice, ...]
Tile = tuple[int, tuple[int, ...], Callable[[], NDArray[Any]]]


def convert_to_legacy(
    source: Any,
    target: str | os.PathLike[str],
    *,
    profile: str = PROFILES[0],
    tile_size: int | tuple[int, int] = 512,
    overwrite: bool = False,
    progress: Callable[[int], object] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Header:
    """Convert a raster to an old form, bit for bit (docs/legacy.md).

    Parameters
    ----------
    source
        Path, URL or GDAL name of a raster, an open rasterio dataset, or an open
        `FlacRaster`.
    target
        Path or URL.
    profile
        ``"flac-raster"``: the container that flac-raster 0.1.2 opens; ``"raw"``: the
        seed's single FLAC stream, which is made in memory.
    tile_size
        Rows and columns of a tile; without meaning for ``"raw"``.
    overwrite, progress, storage_options
        See `convert_to_flac`.
    **options
        ``effort``, ``threads``: see `FlacRasterWriter`.

    Returns
    -------
    Header
        What the file holds.

    Raises
    ------
    UnsupportedDataError
        The form cannot hold the raster; the message says what of it.
    SourceError
        The source cannot be read, or the target not be written; nothing is left behind.
    FileExistsError
        The target exists and `overwrite` is false.
    ValueError
        The profile is unknown.
    """
    if profile not in PROFILES:
        msg = f"profile {profile!r}: expected one of {', '.join(PROFILES)}"
        raise ValueError(msg)
    tile = (tile_size,) * 2 if isinstance(tile_size, int) else tile_size
    with _opened(source) as (described, read):
        header = legacy_header(described, profile, tile)
        writer = LegacyWriter.create(
            target,
            header,
            overwrite=overwrite,
            storage_options=storage_options,
            profile=profile,
            **options,
        )
        with writer:
            writer.write_tiles(_tiles(header, read), progress=progress)
    return header


@contextlib.contextmanager
def _opened(source: Any) -> Iterator[tuple[Header, Callable[[Block], NDArray[Any]]]]:
    """Give a source's header, and how to read a block (band, row, col) of it."""
    if isinstance(source, FlacRaster):
        yield source.header, partial(_read_raster, source)
        return
    with open_dataset(source) as dataset:
        name = str(dataset.name)
        with translated_errors(name, "read"):
            header = header_from_dataset(dataset)
        info = header.arrays[0]

        def read(block: Block) -> NDArray[Any]:
            with translated_errors(name, "read"):
                return read_block(dataset, info, block)

        with bounded_cache(2 * row_of_blocks(dataset, itemsize(info.dtype))):
            yield header, read


def _read_raster(raster: FlacRaster, block: Block) -> NDArray[Any]:
    position = raster.header.find()
    ndim = len(raster.header.arrays[position].shape)
    pixels = raster.read_selection(block[-ndim:], position=position)
    return pixels.reshape(tuple(s.stop - s.start for s in block))


def _tiles(header: Header, read: Callable[[Block], NDArray[Any]]) -> Iterator[Tile]:
    grid = header.arrays[0].grid
    for block in grid.blocks(BLOCK_NBYTES // itemsize(header.arrays[0].dtype)):
        pixels = read(block)
        for cut in grid.cuts(block):
            yield 0, cut.index, partial(pixels.__getitem__, cut.into)
