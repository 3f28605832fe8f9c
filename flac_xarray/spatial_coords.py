"""Where pixels lie, as xarray coordinates: pixel centres and ``spatial_ref``.

Strategy: rioxarray's coordinates bit for bit, from the georeference alone. Only the
CRS needs rasterio and pyproj; what they say is kept, so a folder of files of one CRS
asks once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from flac_xarray.errors import FormatError
from flac_xarray.georef import Georef
from flac_xarray.header import Header
from flac_xarray.selection import Selection

__all__ = ["SPATIAL_REF", "spatial_coords", "spatial_ref_attrs"]

SPATIAL_REF: Final = "spatial_ref"
"""Name of the coordinate that carries CRS and transform."""


def spatial_coords(header: Header, level: int) -> dict[str, xr.Variable]:
    """Give ``x`` and ``y`` of pixel centres, and ``spatial_ref``.

    Rasters located by ground control points have neither x nor y; rotated ones have
    2-d ``xc`` and ``yc``, computed when they are read.
    """
    info = header.arrays[header.find(level=level)]
    height, width = info.shape[-2:]
    georef = header.level_georef(info)
    coords = {SPATIAL_REF: xr.Variable((), 0, spatial_ref_attrs(georef))}
    if georef.gcps:
        return coords
    a, b, c, d, e, f = georef.affine
    to_x = (a, b, a * 0.5 + b * 0.5 + c)
    to_y = (d, e, d * 0.5 + e * 0.5 + f)
    if (b == 0 and d == 0) or (a == 0 and e == 0 and b != d):
        # An axis that runs along the other one's pixels is constant, as in rioxarray.
        coords["x"] = xr.Variable("x", np.arange(width) * a + to_x[2])
        coords["y"] = xr.Variable("y", np.arange(height) * e + to_y[2])
        return coords
    for name, row in (("xc", to_x), ("yc", to_y)):
        lazy = indexing.LazilyIndexedArray(AffineArray(row, (height, width)))
        coords[name] = xr.Variable(("y", "x"), lazy, fastpath=True)
    return coords


class AffineArray(BackendArray):
    """One coordinate of the pixel centres of a rotated raster, computed when read."""

    def __init__(self, row: tuple[float, float, float], shape: tuple[int, int]) -> None:
        self.row = row
        self.shape = shape
        self.dtype = np.dtype("float64")

    def __getitem__(self, key: indexing.ExplicitIndexer) -> NDArray[Any]:
        """Compute what xarray's indexer selects."""
        vectorized = isinstance(key, indexing.VectorizedIndexer)
        make = Selection.vectorized if vectorized else Selection.basic
        selection = make(key.tuple, self.shape)
        by_col, by_row, start = self.row
        rows = selection.along(0, np.arange(self.shape[0], dtype="float64"))
        cols = selection.along(1, np.arange(self.shape[1], dtype="float64"))
        return selection.finish(cols * by_col + rows * by_row + start)


def spatial_ref_attrs(georef: Georef) -> dict[str, Any]:
    """Give ``spatial_ref`` its CF grid mapping, WKT and GDAL's transform."""
    crs = georef.gcps_crs if georef.gcps else georef.crs
    a, b, c, d, e, f = georef.affine
    attrs: dict[str, Any] = dict(_crs_attrs(crs)) if crs else {}
    attrs["GeoTransform"] = " ".join(str(float(v)) for v in (c, a, b, f, d, e))
    if georef.gcps:
        attrs["gcps"] = json.dumps(_gcps_geojson(georef))
    return attrs


@lru_cache(maxsize=64)
def _crs_attrs(crs: str) -> Mapping[str, Any]:
    import pyproj
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        wkt = CRS.from_user_input(crs).to_wkt()
    except (CRSError, ValueError) as error:  # ValueError: EPSG of no number, surrogates
        msg = f"the CRS {crs!r:.80} in the header is not understood: {error}"
        raise FormatError(msg) from error
    try:
        attrs = pyproj.CRS.from_user_input(CRS.from_user_input(crs)).to_cf()
    except KeyError:  # pyproj has no CF name for one of its parameters
        attrs = {}
    return {**attrs, "spatial_ref": wkt, "crs_wkt": wkt}


def _gcps_geojson(georef: Georef) -> dict[str, Any]:
    """Ground control points in rioxarray's form, a GeoJSON FeatureCollection."""
    features = []
    for gcp in georef.gcps:
        xyz = [gcp.x, gcp.y] if gcp.z is None else [gcp.x, gcp.y, gcp.z]
        properties = {"id": gcp.id, "info": gcp.info, "row": gcp.row, "col": gcp.col}
        features.append(
            {
                "type": "Feature",
                "properties": properties,
                "geometry": {"type": "Point", "coordinates": xyz},
            }
        )
    return {"type": "FeatureCollection", "features": features}
