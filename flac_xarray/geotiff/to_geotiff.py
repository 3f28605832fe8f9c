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

import rasterio

from flac_xarray.dtypes import itemsize
from flac_xarray.errors import UnsupportedDataError
from flac_xarray.geotiff.gdal import (
    bounded_cache,
    check_complete,
    known_crs,
    translated_errors,
)
from flac_xarray.geotiff.plan import NARROW, GeotiffPlan
from flac_xarray.geotiff.staged import has_levels, write_plain, write_with_levels
from flac_xarray.geotiff.structure import creation_options
from flac_xarray.grid import Window
from flac_xarray.reader import FlacRaster
from flac_xarray.sinks import FileSink

__all__ = ["convert_to_geotiff"]


def convert_to_geotiff(  # noqa: PLR0913
    raster: FlacRaster | str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    window: Window | None = None,
    bands: Sequence[int] | None = None,
    level: int = 0,
    overviews: bool = True,
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
    overviews
        Whether the overviews of the raster go into the GeoTIFF, where all of level 0
        does.
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
        with translated_errors(os.fspath(target), "write"):
            profile = _profile(raster, plan, options)
        if threads is not None and profile["driver"] == "GTiff":
            profile.setdefault("num_threads", threads)
        sink = FileSink(target, overwrite=overwrite)
        write = write_plain
        if overviews and profile["driver"] == "GTiff" and has_levels(raster, plan):
            write = write_with_levels
        job = partial(write, threads=threads, progress=progress)
        _write_file(raster, sink, plan, profile, job)


def _write_file(
    raster: FlacRaster,
    sink: FileSink,
    plan: GeotiffPlan,
    profile: dict[str, Any],
    write: Callable[..., None],
) -> None:
    """Write all of the target, or nothing."""
    row = plan.window.width * itemsize(plan.info.dtype) * len(plan.bands)
    cache = 2 * row * max(plan.info.tile[-2], profile.get("blockysize", 1))
    try:
        with (
            bounded_cache(cache),
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            translated_errors(sink.name, "write"),
        ):
            write(sink.part, raster, plan, profile)
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
        "crs": known_crs(georef.crs),
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
