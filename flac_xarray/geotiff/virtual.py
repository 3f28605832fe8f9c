"""The GeoTIFF that a FLAC raster would be, uncompressed, as a `VirtualTiff`.

Strategy: GDAL writes a GeoTIFF of 16 by 16 pixels with everything that does not depend
on the size: georeference, tags, colours, nodata. Its directory, with the size and tiles
of the FLAC raster instead, is that of the virtual file; overviews and masks are further
directories of it. Nothing of the pixels is read.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, Final

import rasterio
from rasterio.io import MemoryFile

from flac_xarray.bigtiff import Directory, Entry, read_directory
from flac_xarray.dtypes import COMPLEX_INT16, itemsize
from flac_xarray.errors import UnsupportedDataError
from flac_xarray.geotiff.gdal import known_crs, translated_errors
from flac_xarray.geotiff.plan import GeotiffPlan
from flac_xarray.geotiff.restore import restore_metadata
from flac_xarray.geotiff.structure import creation_options
from flac_xarray.grid import TileGrid
from flac_xarray.header import ArrayInfo
from flac_xarray.reader import FlacRaster
from flac_xarray.virtual_tiff import TiffImage, VirtualTiff, tile_side

__all__ = ["TIFF_DTYPES", "virtual_geotiff"]

TIFF_DTYPES: Final = {"bool": "uint8", "float16": "float32"}
"""What TIFF holds a dtype in, where it lacks it; every value is the same."""

OF_PIXELS: Final = (258, 262, 277, 320, 338, 339, 42113)
"""Tags that an overview has too: how pixels are to be read, and nodata."""
REDUCED, MASK = 1, 4
TRANSPARENCY: Final = 4
"""Photometric interpretation of a mask."""
BITS, PHOTOMETRIC, SAMPLES, FORMAT = 258, 262, 277, 339
NDIM: Final = 3


def virtual_geotiff(raster: FlacRaster) -> VirtualTiff:
    """Lay out the virtual GeoTIFF of a FLAC raster: its first data array.

    Parameters
    ----------
    raster
        An open FLAC raster.

    Raises
    ------
    UnsupportedDataError
        A GeoTIFF cannot hold it: more dims, several nodata values.
    """
    plan = GeotiffPlan.of(raster, None, None, 0)
    tags = read_directory(_head(raster, plan))
    return VirtualTiff.of(list(_images(raster, plan, tags)))


def _images(
    raster: FlacRaster, plan: GeotiffPlan, tags: Directory
) -> Iterator[TiffImage]:
    """Give every level, each followed by its mask, the largest first."""
    arrays = raster.header.arrays
    levels = sorted(
        (-a.shape[-1] * a.shape[-2], k)
        for k, a in enumerate(arrays)
        if a.role == "data" and a.name == plan.info.name
    )
    few = {tag: entry for tag, entry in tags.items() if tag in OF_PIXELS}
    for _, k in levels:
        info = arrays[k]
        small = REDUCED if info.level else 0
        yield _image(k, info, few if small else tags, small)
        for m, mask in enumerate(arrays):
            if plan.mask is not None and (mask.role, mask.level) == (
                "mask",
                info.level,
            ):
                yield _image(m, mask, _mask_tags(mask), MASK | small)


def _image(position: int, info: ArrayInfo, tags: Directory, subfile: int) -> TiffImage:
    count = info.shape[0] if len(info.shape) == NDIM else 1
    height, width = info.shape[-2:]
    rows, cols = info.tile[-2:]
    # Bands that lie apart are handed out apart.
    together = len(info.shape) == NDIM and info.tile[0] >= count
    tile = (
        count if together else 1,
        tile_side(rows, height),
        tile_side(cols, width),
    )
    grid = TileGrid((count, height, width), tile)
    return TiffImage(position, grid, _itemsize(info.dtype), tags, subfile)


def _itemsize(dtype: str) -> int:
    return 4 if dtype == COMPLEX_INT16 else itemsize(TIFF_DTYPES.get(dtype, dtype))


def _mask_tags(mask: ArrayInfo) -> dict[int, Entry]:
    count = mask.shape[0] if len(mask.shape) == NDIM else 1
    return {
        BITS: Entry.of("H", *[8] * count),
        PHOTOMETRIC: Entry.of("H", TRANSPARENCY),
        SAMPLES: Entry.of("H", count),
        FORMAT: Entry.of("H", *[1] * count),
    }


def _head(raster: FlacRaster, plan: GeotiffPlan) -> bytes:
    """Let GDAL write a tiny GeoTIFF with all of the metadata."""
    with (
        translated_errors(raster.name, "describe"),
        warnings.catch_warnings(),
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        MemoryFile() as memory,
    ):
        # A colour table that TIFF has no place for: docs/gdal.md says so.
        warnings.filterwarnings("ignore", message=".*loses its colour table")
        with memory.open(**_profile(raster, plan)) as out:
            restore_metadata(out, raster.header, plan)
        with memory.open() as again:
            beside = [name for name in again.files if name != memory.name]
        if beside:
            msg = f"{raster.name}: a GeoTIFF cannot hold all of the metadata"
            raise UnsupportedDataError(msg)
        return bytes(memory.getbuffer())


def _profile(raster: FlacRaster, plan: GeotiffPlan) -> dict[str, Any]:
    georef, dtype = plan.georef, plan.info.dtype
    dtype = TIFF_DTYPES.get(dtype, dtype)
    options = creation_options(
        raster.header.extra.get("gdal", {}),
        dtype=dtype,
        width=16,
        height=16,
        colorinterp=plan.colorinterp,
    )
    profile = {
        "driver": "GTiff",
        "dtype": dtype,
        "width": 16,
        "height": 16,
        "count": len(plan.bands),
        "nodata": plan.nodata,
        "crs": known_crs(georef.crs),
        "tiled": True,
        "blockxsize": 16,
        "blockysize": 16,
        "bigtiff": "YES",
        "endianness": "LITTLE",
        "sparse_ok": "TRUE",
        "interleave": "band",
    }
    if georef.transform is not None:
        profile["transform"] = rasterio.Affine(*georef.transform)
    kept = ("photometric", "alpha")
    return profile | {key: options[key] for key in kept if key in options}
