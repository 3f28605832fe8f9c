"""A GeoTIFF, plain or with overviews whose pixels are given and not GDAL's to compute.

Strategy: one pass writes a plain one. rasterio cannot write the pixels of an overview;
but GDAL takes a GeoTIFF beside another, by the name of ``.ovr``, for its overview, and
one beside that for the next. So every level is written as a GeoTIFF of its own,
uncompressed, and GDAL copies them together into one file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import rasterio
import rasterio.shutil

from flac_xarray.geotiff.pixels import write_mask, write_pixels
from flac_xarray.geotiff.plan import GeotiffPlan
from flac_xarray.geotiff.restore import restore_metadata
from flac_xarray.reader import FlacRaster

__all__ = ["has_levels", "write_plain", "write_with_levels"]

DESCRIPTION: Final = (
    "driver",
    "dtype",
    "width",
    "height",
    "count",
    "nodata",
    "crs",
    "transform",
)
"""What of a profile says what the raster is; the rest says how it is laid out."""
KEPT: Final = ("nbits", "photometric", "alpha", "interleave")
"""What of the layout an uncompressed stage must have, too."""


def has_levels(raster: FlacRaster, plan: GeotiffPlan) -> bool:
    """Whether a plan takes in the raster whose overviews are there."""
    base = raster.array()
    n_bands = base.shape[0] if len(base.shape) > 2 else 1  # noqa: PLR2004
    everything = plan.whole and plan.bands == tuple(range(n_bands))
    return everything and len(raster.header.levels) > 1


def write_plain(
    path: Path,
    raster: FlacRaster,
    plan: GeotiffPlan,
    profile: Mapping[str, Any],
    *,
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> None:
    """Write a GeoTIFF without overviews, see `write_with_levels`."""
    with rasterio.open(str(path), "w", **profile) as out:
        restore_metadata(out, raster.header, plan)
        write_pixels(out, raster, plan, threads, progress)
        write_mask(out, raster, plan, threads)


def write_with_levels(
    path: Path,
    raster: FlacRaster,
    plan: GeotiffPlan,
    profile: Mapping[str, Any],
    *,
    threads: int | None,
    progress: Callable[[int], object] | None,
) -> None:
    """Write a GeoTIFF and all overviews of the raster.

    Parameters
    ----------
    path
        Of the GeoTIFF; the stages lie beside it, and are gone afterwards.
    raster
        An open FLAC raster.
    plan
        Of all of level 0.
    profile
        rasterio's, with GDAL's creation options.
    threads
        Threads that decode.
    progress
        Called with the number of pixel bytes of each block done.
    """
    levels = [level for level in raster.header.levels if level]
    plans = [plan, *(GeotiffPlan.of(raster, None, plan.bands, k) for k in levels)]
    stages = [
        path.with_name(f"{path.name}.full" + ".ovr" * k) for k in range(len(plans))
    ]
    try:
        for stage, one in zip(stages, plans, strict=True):
            with rasterio.open(str(stage), "w", **_stage(profile, one)) as out:
                if one is plan:
                    restore_metadata(out, raster.header, plan)
                write_pixels(out, raster, one, threads, progress)
                write_mask(out, raster, one, threads)
        options = {k: v for k, v in profile.items() if k not in DESCRIPTION}
        rasterio.shutil.copy(
            str(stages[0]),
            str(path),
            driver="GTiff",
            copy_src_overviews="YES",
            **options,
        )
    finally:
        _remove(stages)


def _stage(profile: Mapping[str, Any], plan: GeotiffPlan) -> dict[str, Any]:
    """Give the profile of one level, uncompressed."""
    out = {k: v for k, v in profile.items() if k in (*DESCRIPTION, *KEPT)}
    if plan.info.level:
        out.pop("transform", None)  # it follows from the size
    size = {"width": plan.window.width, "height": plan.window.height}
    return out | size | {"bigtiff": "IF_SAFER", "tiled": True}


def _remove(stages: Sequence[Path]) -> None:
    for stage in stages:
        stage.unlink(missing_ok=True)
