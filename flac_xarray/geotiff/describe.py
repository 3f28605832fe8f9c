"""What rasterio reports of a raster, as a `Header`.

Strategy: keep everything that rasterio reports and that cannot be worked out of
something else that is kept, in rasterio's words; leave out GDAL's defaults. The CRS is
stored so that rasterio makes an equal one of it, the exact text included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import CRSError

from flac_xarray.colors import pack_colors
from flac_xarray.dtypes import DTYPES
from flac_xarray.errors import UnsupportedDataError
from flac_xarray.georef import IDENTITY, Affine, Gcp, Georef
from flac_xarray.geotiff.structure import structure_of
from flac_xarray.grid import suitable_bands
from flac_xarray.header import ArrayInfo, Header

__all__ = ["crs_text", "default_colorinterp", "header_from_dataset"]

NAME: Final = "band_data"
"""rioxarray's name of the variable."""

MASK_NAME: Final = "mask"

NOT_TAGS: Final = frozenset(
    {
        "IMAGE_STRUCTURE",  # the profile restores it
        "DERIVED_SUBDATASETS",  # GDAL makes them up, with the file's path in them
        "SUBDATASETS",
        "RPC",  # the georeference has them
    }
)
"""Namespaces that are kept elsewhere or follow from something else."""

PHOTO: Final = {ColorInterp.red, ColorInterp.green, ColorInterp.blue}
BLACK: Final = (0, 0, 0, 255)
"""A colour table's entry that nobody set."""


def header_from_dataset(
    dataset: Any,
    *,
    tile_size: int | tuple[int, int] = 512,
    bands_per_tile: int | None = None,
) -> Header:
    """Describe a raster as a file of its own.

    Parameters
    ----------
    dataset
        An open rasterio dataset.
    tile_size
        Rows and columns of a tile.
    bands_per_tile
        Bands of a tile; by default what suits the raster, see `suitable_bands`.

    Returns
    -------
    Header
        Array ``band_data`` with dims (band, y, x), and ``mask`` where the dataset has
        one that is not made of nodata or alpha.

    Raises
    ------
    UnsupportedDataError
        The bands differ in dtype, or have one that FLAC rasters lack.
    """
    dtype = _dtype(dataset)
    rows, cols = (tile_size,) * 2 if isinstance(tile_size, int) else tile_size
    shape = (dataset.count, dataset.height, dataset.width)
    bands_per_tile = bands_per_tile or _bands_per_tile(dataset, rows, cols)
    nodata = tuple(_nodata(v, dtype) for v in dataset.nodatavals)
    pixels = ArrayInfo(
        NAME,
        dtype,
        ("band", "y", "x"),
        shape,
        (min(bands_per_tile, dataset.count), rows, cols),
        nodata=nodata[:1] if len({repr(v) for v in nodata}) == 1 else nodata,
        bands=tuple(_band(dataset, i) for i in dataset.indexes),
    )
    return Header(
        arrays=(pixels, *_mask(dataset, (rows, cols))),
        georef=_georef(dataset),
        tags=_tags(dataset),
        extra={"gdal": structure_of(dataset)},
    )


def _bands_per_tile(dataset: Any, rows: int, cols: int) -> int:
    is_photo = set(dataset.dtypes) == {"uint8"} and set(dataset.colorinterp) >= PHOTO
    shape = (dataset.count, dataset.height, dataset.width)
    return suitable_bands(shape, (rows, cols), is_photo=is_photo)


def _dtype(dataset: Any) -> str:
    kinds = sorted(set(dataset.dtypes))
    if len(kinds) > 1:
        msg = (
            f"{dataset.name}: the bands differ in dtype ({', '.join(kinds)}): expected "
            "one dtype; convert them one at a time"
        )
        raise UnsupportedDataError(msg, dtype=", ".join(kinds))
    if kinds[0] not in DTYPES:
        msg = f"{dataset.name}: dtype {kinds[0]} cannot be stored: expected {DTYPES}"
        raise UnsupportedDataError(msg, dtype=kinds[0])
    return str(kinds[0])


def _nodata(value: float | None, dtype: str) -> float | int | None:
    """Give nodata as JSON shows it best: rasterio gives a float for every dtype."""
    if value is not None and "int" in dtype and math.isfinite(value):
        return int(value) if int(value) == value else value
    return value


def _mask(dataset: Any, tile: tuple[int, int]) -> tuple[ArrayInfo, ...]:
    """Describe the mask that neither nodata nor alpha gives, if there is one."""
    kinds = [set(flags) for flags in dataset.mask_flag_enums]
    # rasterio has no number for some nodata (uint64's largest): the mask stands in.
    if {MaskFlags.nodata} in kinds and None in dataset.nodatavals:
        kinds = [set() if kind == {MaskFlags.nodata} else kind for kind in kinds]
    plane = (dataset.height, dataset.width)
    if kinds[0] == {MaskFlags.per_dataset}:
        mask = ArrayInfo(MASK_NAME, "uint8", ("y", "x"), plane, tile, role="mask")
        return (mask,)
    if any(not kind for kind in kinds):  # each band has a mask of its own
        shape = (dataset.count, *plane)
        dims = ("band", "y", "x")
        return (ArrayInfo(MASK_NAME, "uint8", dims, shape, (1, *tile), role="mask"),)
    return ()


def _band(dataset: Any, bidx: int) -> dict[str, Any]:
    """Give what one band has beside its pixels, GDAL's defaults left out."""
    at = bidx - 1
    found = {
        "description": dataset.descriptions[at],
        "scale": dataset.scales[at],
        "offset": dataset.offsets[at],
        "units": dataset.units[at],
        "colorinterp": dataset.colorinterp[at].name,
        "colormap": _colormap(dataset, bidx),
        "tags": _tags(dataset, bidx),
    }
    default = {"scale": 1.0, "offset": 0.0, "colorinterp": default_colorinterp(bidx)}
    return {k: v for k, v in found.items() if v != default.get(k) and v not in ("", {})}


def default_colorinterp(bidx: int) -> str:
    """Give what a band is when nothing is said: the first one gray.

    Examples
    --------
    >>> default_colorinterp(1), default_colorinterp(2)
    ('gray', 'undefined')
    """
    return "gray" if bidx == 1 else "undefined"


def _colormap(dataset: Any, bidx: int) -> str | None:
    """Give the colour table up to its last entry that was set."""
    if dataset.colorinterp[bidx - 1] != ColorInterp.palette:
        return None
    try:
        table = dataset.colormap(bidx)
    except ValueError:  # rasterio's word for none
        return None
    used = max((k for k, color in table.items() if color != BLACK), default=-1)
    return pack_colors([table.get(k, BLACK) for k in range(used + 1)])


def _tags(dataset: Any, bidx: int = 0) -> dict[str, dict[str, str]]:
    names = sorted({"", *dataset.tag_namespaces(bidx)} - NOT_TAGS)
    found = {ns: dict(dataset.tags(bidx, ns=ns or None)) for ns in names}
    return {ns: tags for ns, tags in found.items() if tags}


def _georef(dataset: Any) -> Georef:
    a, b, c, d, e, f = (float(v) for v in dataset.transform[:6])
    transform: Affine = (a, b, c, d, e, f)
    points, gcps_crs = dataset.gcps
    rpcs = dataset.tags(ns="RPC") or None
    return Georef(
        crs=crs_text(dataset.crs),
        transform=None if transform == IDENTITY else transform,
        gcps=_gcps(points),
        gcps_crs=crs_text(gcps_crs) if points else None,
        rpcs=rpcs,
    )


def _gcps(points: Sequence[Any]) -> tuple[Gcp, ...]:
    return tuple(
        Gcp(p.row, p.col, p.x, p.y, p.z, p.id or "", p.info or "") for p in points
    )


def crs_text(crs: CRS | None) -> str | None:
    """Give the shortest text from which rasterio makes an equal CRS.

    An authority code, else WKT2, else rasterio's own WKT: the first that comes back
    equal, with the same WKT.

    Examples
    --------
    >>> crs_text(CRS.from_epsg(32618))
    'EPSG:32618'
    """
    if not crs:
        return None
    plain = str(crs.to_wkt())
    for text in _candidates(crs):
        try:
            again = CRS.from_user_input(text)
        except CRSError:
            continue
        if again == crs and again.to_wkt() == plain:
            return text
    return plain


def _candidates(crs: CRS) -> list[str]:
    authority = crs.to_authority()
    out = [":".join(authority)] if authority else []
    try:
        out.append(str(crs.to_wkt(version="WKT2_2019")))
    except CRSError:  # a local CRS that WKT2 has no words for
        return out
    return out
