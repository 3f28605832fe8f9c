"""Pixels and mask of a FLAC raster into an open GeoTIFF, block by block."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import rasterio.windows
from numpy.typing import NDArray

from flac_xarray.errors import UnsupportedDataError
from flac_xarray.geotiff.plan import NARROW, GeotiffPlan
from flac_xarray.grid import Window
from flac_xarray.reader import FlacRaster

__all__ = ["write_mask", "write_pixels"]


def write_pixels(
    out: Any,
    raster: FlacRaster,
    plan: GeotiffPlan,
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> None:
    """Write the pixels of a plan; `progress` gets the bytes of each block."""
    for block in plan.blocks():
        pixels = _read(raster, plan, plan.position, block, threads)
        if plan.info.dtype in NARROW:
            pixels = pixels.astype(plan.dtype)
        out.write(pixels, window=_at(block))
        if progress is not None:
            progress(pixels.nbytes)


def write_mask(
    out: Any, raster: FlacRaster, plan: GeotiffPlan, threads: int | None
) -> None:
    """Write the mask of a plan, if it has one.

    Raises
    ------
    UnsupportedDataError
        The bands have masks that differ.
    """
    if plan.mask is None:
        return
    for block in plan.blocks():
        mask = _read(raster, plan, plan.mask, block, threads)
        if (mask != mask[:1]).any():
            msg = "the bands have masks that differ: a GeoTIFF holds one for all bands"
            raise UnsupportedDataError(msg)
        out.write_mask(mask[0], window=_at(block))


def _read(
    raster: FlacRaster,
    plan: GeotiffPlan,
    position: int,
    block: Window,
    threads: int | None,
) -> NDArray[Any]:
    """Read a block of the plan's window, shape (band, row, col)."""
    info = raster.header.arrays[position]
    row, col = plan.window.row_off + block.row_off, plan.window.col_off + block.col_off
    plane = Window(row, col, block.height, block.width).slices
    # Each tile is read once, so none is kept for later.
    fetch = FlacRaster.fetch_tiles
    read = partial(
        raster.read_selection, position=position, threads=threads, fetch=fetch
    )
    if len(info.shape) == 2:  # noqa: PLR2004
        return read(plane)[np.newaxis]
    first, last = plan.bands[0], plan.bands[-1]
    if plan.bands == tuple(range(first, last + 1)):
        runs = [(first, last + 1)]
    else:
        runs = [(k, k + 1) for k in plan.bands]
    parts = [read((slice(*run), *plane)) for run in runs]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _at(block: Window) -> rasterio.windows.Window:
    return rasterio.windows.Window(
        block.col_off, block.row_off, block.width, block.height
    )
