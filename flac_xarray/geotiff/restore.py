"""Setting again, on a GeoTIFF being written, what `describe` kept.

Strategy: in rasterio's words and before the pixels, so that GDAL writes one directory.
What TIFF has no tag for goes into GDAL's own XML tag, never into a file beside.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from flac_xarray.colors import unpack_colors
from flac_xarray.geotiff.describe import default_colorinterp
from flac_xarray.geotiff.gdal import known_crs
from flac_xarray.geotiff.plan import GeotiffPlan
from flac_xarray.header import Header
from flac_xarray.masking import band_numbers

__all__ = ["restore_metadata"]

XML = "xml:"
"""Namespaces of this prefix hold one document, which rasterio gives as one tag."""

STATISTICS = "STATISTICS_"
"""Tags that say something about all pixels, so not about a window of them."""


def restore_metadata(out: Any, header: Header, plan: GeotiffPlan) -> None:
    """Set georeference, tags and what each band has.

    Parameters
    ----------
    out
        The rasterio dataset, open for writing, without pixels yet.
    header
        Of the FLAC raster.
    plan
        What is written of it.
    """
    _set_georef(out, plan)
    _set_tags(out, 0, header.tags, plan)
    _set_colors(out, plan)
    bands = plan.band_info
    _set_where_given(out, "scales", band_numbers(bands, "scale", 1.0), 1.0)
    _set_where_given(out, "offsets", band_numbers(bands, "offset", 0.0), 0.0)
    for bidx, band in enumerate(bands, 1):
        if band.get("description"):
            out.set_band_description(bidx, band["description"])
        if band.get("units"):
            out.set_band_unit(bidx, band["units"])
        _set_tags(out, bidx, band.get("tags", {}), plan)


def _set_where_given(
    out: Any, name: str, values: tuple[float, ...], default: float
) -> None:
    if any(value != default for value in values):
        setattr(out, name, values)


def _set_georef(out: Any, plan: GeotiffPlan) -> None:
    georef = plan.georef
    if georef.gcps:
        points = [
            GroundControlPoint(g.row, g.col, g.x, g.y, g.z, g.id or None, g.info)
            for g in georef.gcps
        ]
        out.gcps = (points, known_crs(georef.gcps_crs) or CRS())
    if georef.rpcs:
        out.update_tags(ns="RPC", **{k: str(v) for k, v in georef.rpcs.items()})


def _set_colors(out: Any, plan: GeotiffPlan) -> None:
    """Set color interpretation and colour table; warn of a table TIFF has no place for.

    A colour table says how pixels are shown, not what they are: the file is written.
    """
    names = plan.colorinterp
    for bidx, band in enumerate(plan.band_info, 1):
        table = band.get("colormap")
        if table is None:
            continue
        if bidx > 1 or plan.dtype not in ("uint8", "uint16"):
            msg = (
                f"band {bidx} ({plan.dtype}) loses its colour table: TIFF has one, for "
                "the first band, of uint8 or uint16"
            )
            warnings.warn(msg, stacklevel=2)
            names[bidx - 1] = default_colorinterp(bidx)
            continue
        out.write_colormap(bidx, dict(enumerate(unpack_colors(table))))
    # A newer GDAL knows more names.
    known = ColorInterp.__members__
    wanted = [known.get(name, ColorInterp.undefined) for name in names]
    if list(out.colorinterp) != wanted:
        out.colorinterp = wanted


def _set_tags(
    out: Any,
    bidx: int,
    namespaces: Mapping[str, Mapping[str, str]],
    plan: GeotiffPlan,
) -> None:
    for ns, tags in namespaces.items():
        kept = {
            key: value
            for key, value in tags.items()
            if plan.whole or not key.startswith(STATISTICS)
        }
        if ns.startswith(XML) and ns in kept:
            # GDAL takes a list of key=value here: the document is one without a key.
            key, _, value = kept[ns].partition("=")
            kept = {key: value}
        if kept:
            out.update_tags(bidx, ns=ns or None, **kept)
