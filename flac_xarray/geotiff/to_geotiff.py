"""A FLAC raster, or a window of it, to a GeoTIFF.

Strategy: plan first (`GeotiffPlan`: which pixels, which profile), then stream blocks
of whole tiles into a temporary file beside the target, which appears under its name
when it is complete. What `describe` kept is set again, so that rasterio reports the
same; what a GeoTIFF cannot hold is an error, never dropped in silence.
"""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.windows
from numpy.typing import NDArray

from flac_xarray.dtypes import itemsize
from flac_xarray.errors import UnsupportedDataError
from flac_xarray.geotiff.gdal import bounded_cache, check_complete, translated_errors
from flac_xarray.geotiff.plan import NARROW, GeotiffPlan
from flac_xarray.geotiff.restore import restore_metadata
from flac_xarray.geotiff.structure import creation_options
from flac_xarray.grid import Window
from flac_xarray.reader import FlacRaster
from flac_xarray.sinks import FileSink

__all__ = ["convert_to_geotiff"]


def convert_to_geotiff(
    raster: FlacRaster | str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    window: Window | None = None,
    bands: Sequence[int] | None = None,
    level: int = 0,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Callable[[int], object] | None = None,
    **options: Any,
) -> None:
    """Convert a FLAC raster to a GeoTIFF that rasterio reports like the original.

    Parameters
    ----------
    raster
        An open FLAC raster, or its path or URL.
    target
        Local path.
    window
        Pixels of that level; all of them by default. Transform, GCPs and RPCs move.
    bands
        Positions along the first dim, from 0; all of them by default.
    level
        Overview level.
    overwrite
        Whether an existing target may be replaced.
    threads
        Threads that decode and compress.
    progress
        Called with the number of pixel bytes of each block done.
    **options
        ``driver`` and GDAL's creation options, before those of the original.

    Raises
    ------
    FileExistsError
        The target exists and `overwrite` is false.
    UnsupportedDataError
        A GeoTIFF cannot hold it.
    SourceError
        Bytes could not be had or written; nothing is left behind.
    WindowError
        The window or a band lies outside the raster.
    """
    with contextlib.ExitStack() as stack:
        if not isinstance(raster, FlacRaster):
            raster = stack.enter_context(FlacRaster.open(raster, threads=threads))
        plan = GeotiffPlan.of(raster, window, bands, level)
        profile = _profile(raster, plan, options)
        if threads is not None and profile["driver"] == "GTiff":
            profile.setdefault("num_threads", threads)
        sink = FileSink(target, overwrite=overwrite)
        _write_file(raster, sink, plan, profile, threads, progress)


def _write_file(
    raster: FlacRaster,
    sink: FileSink,
    plan: GeotiffPlan,
    profile: dict[str, Any],
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> None:
    """Write all of the target, or nothing."""
    row = plan.window.width * itemsize(plan.info.dtype) * len(plan.bands)
    cache = 2 * row * max(plan.info.tile[-2], profile.get("blockysize", 1))
    try:
        with (
            bounded_cache(cache),
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            translated_errors(sink.name, "write"),
            rasterio.open(str(sink.part), "w", **profile) as out,
        ):
            restore_metadata(out, raster.header, plan)
            _write_pixels(out, raster, plan, threads, progress)
            _write_mask(out, raster, plan, threads)
        if profile["driver"] == "GTiff" and "sparse_ok" not in profile:
            check_complete(sink.part, sink.name)
        _refuse_sidecars(sink)
        sink.commit()
    except BaseException:
        sink.abort()
        raise
    finally:
        for sidecar in _sidecars(sink):
            sidecar.unlink(missing_ok=True)


def _profile(
    raster: FlacRaster, plan: GeotiffPlan, options: dict[str, Any]
) -> dict[str, Any]:
    window, georef, info = plan.window, plan.georef, plan.info
    dtype, nbits = NARROW.get(info.dtype, (info.dtype, None))
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "dtype": dtype,
        "width": window.width,
        "height": window.height,
        "count": len(plan.bands),
        "nodata": plan.nodata,
        "crs": georef.crs,
    }
    if georef.transform is not None:
        profile["transform"] = rasterio.Affine(*georef.transform)
    chosen = {key.lower(): value for key, value in options.items()}
    if chosen.get("driver", "GTiff") != "GTiff":
        return profile | chosen
    profile |= creation_options(
        raster.header.extra.get("gdal", {}),
        dtype=dtype,
        width=window.width,
        height=window.height,
        colorinterp=plan.colorinterp,
    )
    if nbits is not None:
        profile["nbits"] = nbits
        profile.pop("predictor", None)  # GDAL has none for these widths
    return profile | chosen


def _write_pixels(
    out: Any,
    raster: FlacRaster,
    plan: GeotiffPlan,
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> None:
    for block in plan.blocks():
        pixels = _read(raster, plan, plan.position, block, threads)
        if plan.info.dtype in NARROW:
            pixels = pixels.astype(plan.dtype)
        out.write(pixels, window=_at(block))
        if progress is not None:
            progress(pixels.nbytes)


def _write_mask(
    out: Any, raster: FlacRaster, plan: GeotiffPlan, threads: int | None
) -> None:
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


def _sidecars(sink: FileSink) -> list[Path]:
    """Files that GDAL put beside the temporary one."""
    return [
        path
        for path in sink.part.parent.glob(f"{glob.escape(sink.part.name)}.*")
        if path != sink.part
    ]


def _refuse_sidecars(sink: FileSink) -> None:
    """Refuse a GeoTIFF that is whole only with a file beside it."""
    for path in _sidecars(sink):
        told = path.read_text(errors="replace")
        msg = f"{sink.name}: a GeoTIFF cannot hold all of the metadata: {told:.2000}"
        raise UnsupportedDataError(msg)
