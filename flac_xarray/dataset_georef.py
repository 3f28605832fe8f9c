"""Where a Dataset lies: its plane of pixels, CRS and transform, as rioxarray sees them.

Strategy: the plane is two dims by their usual names, or what ``rio.set_spatial_dims``
said. A transform is stored only where the coordinates are evenly spaced, so a query by
bounding box is never answered from a grid that is not one.
"""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import xarray as xr

from flac_xarray.errors import UnsupportedDataError
from flac_xarray.georef import Affine, Gcp, Georef

__all__ = ["find_plane", "georef_of"]

PLANES: Final = (
    ("y", "x"),
    ("lat", "lon"),
    ("latitude", "longitude"),
    ("projection_y_coordinate", "projection_x_coordinate"),
    ("northing", "easting"),
    ("nlat", "nlon"),
    ("j", "i"),
)
"""Names of rows and columns, the first pair that a variable has."""
EVEN: Final = 1e-3
"""Pixels by which evenly spaced coordinates may stray (float32 degrees do)."""


def find_plane(ds: xr.Dataset) -> tuple[str, str]:
    """Give the dims of rows and columns.

    Raises
    ------
    UnsupportedDataError
        There are none, or a data variable has them in another place than last.

    Examples
    --------
    >>> find_plane(xr.Dataset({"t": (("time", "lat", "lon"), np.zeros((1, 2, 3)))}))
    ('lat', 'lon')
    """
    plane = next(
        (p for p in (*_chosen(ds), *PLANES) if set(p) <= {str(d) for d in ds.dims}),
        None,
    )
    if plane is None:
        msg = (
            f"no rows and columns among the dims {tuple(ds.dims)}: expected y and x, "
            "lat and lon, or what rio.set_spatial_dims names"
        )
        raise UnsupportedDataError(msg)
    taken = {"y", "x"} & {str(d) for d in ds.dims} - set(plane)
    if taken:
        msg = f"dims {tuple(ds.dims)}: {taken} name rows or columns, {plane} are them"
        raise UnsupportedDataError(msg)
    for name, variable in ds.variables.items():
        if set(plane) <= set(variable.dims) and variable.dims[-2:] != plane:
            order = (*(d for d in variable.dims if d not in plane), *plane)
            msg = (
                f"variable {name!r} has dims {variable.dims}: expected {plane} last, "
                f"as .transpose{order} gives them"
            )
            raise UnsupportedDataError(msg)
    return plane


def _chosen(ds: xr.Dataset) -> list[tuple[str, str]]:
    """Dims that somebody gave to ``rio.set_spatial_dims``."""
    found = []
    for obj in (ds, *ds.data_vars.values()):
        # A cached accessor: who set dims has imported rioxarray, others need not.
        rio = (getattr(obj, "_cache", None) or {}).get("rio")
        dims = getattr(rio, "_y_dim", None), getattr(rio, "_x_dim", None)
        if None not in dims:
            found.append((str(dims[0]), str(dims[1])))
    return found


def georef_of(ds: xr.Dataset, plane: tuple[str, str]) -> Georef:
    """Give CRS, transform and ground control points of a dataset.

    Raises
    ------
    UnsupportedDataError
        Its CRS is not understood.
    """
    mapping = _grid_mapping(ds)
    attrs = ds.variables[mapping].attrs if mapping in ds.variables else {}
    crs = _crs_text(attrs)
    gcps = _gcps(attrs)
    if gcps:
        return Georef(None, None, gcps, crs)
    return Georef(crs, _transform(ds, plane, attrs))


def _grid_mapping(ds: xr.Dataset) -> str:
    for variable in ds.variables.values():
        name = variable.encoding.get("grid_mapping", variable.attrs.get("grid_mapping"))
        if isinstance(name, str) and name in ds.variables:
            return name
    return "spatial_ref"


def _crs_text(attrs: dict[Any, Any]) -> str | None:
    """Give the CRS as an authority code, or as WKT where that would say less."""
    text = attrs.get("crs_wkt") or attrs.get("spatial_ref")
    if not text:
        return None
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        crs = CRS.from_user_input(text)
        code = crs.to_epsg()
        if code and CRS.from_epsg(code).to_wkt() == crs.to_wkt():
            return f"EPSG:{code}"
        wkt2 = str(crs.to_wkt(version="WKT2_2019"))
        return wkt2 if CRS.from_wkt(wkt2).to_wkt() == crs.to_wkt() else str(text)
    except CRSError as error:
        msg = f"the CRS {text!r:.60} is not understood: {error}"
        raise UnsupportedDataError(msg) from error


def _gcps(attrs: dict[Any, Any]) -> tuple[Gcp, ...]:
    """Ground control points as rioxarray writes them: GeoJSON."""
    if "gcps" not in attrs:
        return ()
    points = []
    for feature in json.loads(attrs["gcps"])["features"]:
        about = feature["properties"]
        x, y, *z = feature["geometry"]["coordinates"]
        point = Gcp(
            float(about["row"]),
            float(about["col"]),
            float(x),
            float(y),
            float(z[0]) if z else None,
            str(about["id"]),
            str(about["info"] or ""),
        )
        points.append(point)
    return tuple(points)


def _transform(
    ds: xr.Dataset, plane: tuple[str, str], attrs: dict[Any, Any]
) -> Affine | None:
    """Give the transform that the coordinates say, else that of ``GeoTransform``."""
    c = f = a = e = 0.0
    given = _geotransform(attrs)
    if all(dim in ds.variables for dim in plane):
        y, x = (_line(ds.variables[dim]) for dim in plane)
        if y is None or x is None:
            return None
        if given is not None:
            # One pixel has no spacing of its own; GeoTransform's numbers are exact.
            y = (y[0], given[4]) if y[1] is None or np.isclose(y[1], given[4]) else y
            x = (x[0], given[0]) if x[1] is None or np.isclose(x[1], given[0]) else x
        if y[1] is None or x[1] is None:
            return None
        a, e = float(x[1]), float(y[1])
        c, f = float(x[0] - a / 2), float(y[0] - e / 2)
        if given is not None and np.allclose((c, f), (given[2], given[5]), rtol=1e-12):
            c, f = given[2], given[5]
        return (a, 0.0, c, 0.0, e, f)
    return given


def _geotransform(attrs: dict[Any, Any]) -> Affine | None:
    text = attrs.get("GeoTransform")
    if not isinstance(text, str):
        return None
    c, a, b, f, d, e = (float(v) for v in text.split())
    return (a, b, c, d, e, f)


def _line(coordinate: xr.Variable) -> tuple[float, float | None] | None:
    """First value and spacing of a coordinate; no spacing for one pixel."""
    if (
        coordinate.ndim != 1
        or coordinate.dtype.kind not in "iuf"
        or not coordinate.size
    ):
        return None
    values = np.asarray(coordinate.values, "float64")
    if values.size == 1:
        return float(values[0]), None
    step = (values[-1] - values[0]) / (values.size - 1)
    even = values[0] + step * np.arange(values.size)
    if not step or not np.abs(values - even).max() <= EVEN * abs(step):
        return None
    return float(values[0]), float(step)
