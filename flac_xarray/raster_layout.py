"""A raster's header to the xarray variables that rioxarray gives for the same raster.

Strategy: one description of the file, from its header alone: variables around lazy
arrays, pixel-centre coordinates, and the ``spatial_ref`` coordinate, by rioxarray's
names and types, so that code written for ``engine="rasterio"`` works unchanged.
docs/xarray.md lists the intended differences.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from xarray.core import indexing

from flac_xarray.dtypes import numpy_dtype, pixel_bytes
from flac_xarray.header import ArrayInfo, Header
from flac_xarray.lazy_array import RasterArray, RasterRef
from flac_xarray.masking import Masking, band_numbers
from flac_xarray.spatial_coords import SPATIAL_REF, spatial_coords

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["kept_coords", "raster_dataset"]

GDAL_OWN_TAGS: Final = frozenset(
    (
        *("_FillValue", "missing_value", "fill_value", "nodata", "nodatavals"),
        *("is_tiled", "res"),
    )
)
"""Tags that say what the profile says already."""


def raster_dataset(
    ref: RasterRef,
    header: Header,
    level: int,
    *,
    mask_and_scale: bool | Mapping[str, bool],
    band_as_variable: bool,
) -> xr.Dataset:
    """Describe the arrays of one level.

    Parameters
    ----------
    ref, header
        The file.
    level
        Overview level.
    mask_and_scale
        Whether pixels are masked and scaled, for all or by variable.
    band_as_variable
        Whether each band becomes a variable, as in rioxarray.
    """
    variables: dict[Hashable, xr.Variable] = {}
    coords = spatial_coords(header, level)
    coords |= {name: _coord(c) for name, c in kept_coords(header, level).items()}
    for position, info in enumerate(header.arrays):
        if info.level != level or info.role != "data":
            continue
        masked = (
            mask_and_scale.get(info.name, True)
            if isinstance(mask_and_scale, Mapping)
            else mask_and_scale
        )
        variable = _variable(ref, header, position, masked=masked)
        if band_as_variable and "band" in info.dims:
            variables |= _bands(info, header, variable, masked=masked)
            continue
        variable.attrs = _attrs(header, info, None, variable.dtype)
        _move_to_encoding(variable, masked=masked)
        variables[info.name] = variable
        if "band" in info.dims and "band" not in coords:
            coords["band"] = xr.Variable("band", np.arange(1, info.n_bands + 1))
    _move_coord_attrs(variables, coords)
    attrs = dict(header.attrs)
    if band_as_variable:
        attrs |= _parse_tags(header.tags.get("", {}))
    return xr.Dataset(variables, coords, attrs)


def _variable(
    ref: RasterRef, header: Header, position: int, *, masked: bool
) -> xr.Variable:
    info = header.arrays[position]
    rules = Masking.of(header, position)
    stored = numpy_dtype(info.dtype)
    dtype = rules.dtype if masked else stored
    array = RasterArray(ref, position, info.shape, dtype, masked=masked)
    encoding: dict[str, Any] = {"dtype": str(stored)} if masked else {}
    encoding |= {
        "grid_mapping": SPATIAL_REF,
        "preferred_chunks": {
            dim: min(n, tile) or 1
            for dim, n, tile in zip(info.dims, info.shape, info.tile, strict=True)
        },
        "source": ref.raster().name,
        "rasterio_dtype": info.dtype,
    }
    lazy = indexing.LazilyIndexedArray(array)
    return xr.Variable(info.dims, lazy, encoding=encoding, fastpath=True)


def _bands(
    info: ArrayInfo, header: Header, variable: xr.Variable, *, masked: bool
) -> dict[Hashable, xr.Variable]:
    """Split the bands of an array into variables ``band_1``, ``band_2``, ..."""
    split: dict[Hashable, xr.Variable] = {}
    for band in range(info.n_bands):
        one = variable.isel(band=band)
        one.encoding = {
            key: value
            for key, value in variable.encoding.items()
            if key != "preferred_chunks"
        }
        one.encoding["preferred_chunks"] = {
            dim: n
            for dim, n in variable.encoding["preferred_chunks"].items()
            if dim != "band"
        }
        one.attrs = _attrs(header, info, band, variable.dtype)
        _move_to_encoding(one, masked=masked)
        split[f"band_{band + 1}"] = one
    return split


def _attrs(
    header: Header, info: ArrayInfo, band: int | None, dtype: np.dtype[Any]
) -> dict[str, Any]:
    """Give the attributes that rioxarray makes of tags, nodata, scales and names."""
    bands = info.bands or ({},) * info.n_bands
    if band is None:
        tags = {**header.tags.get("", {}), **_default_tags(bands[0])}
    else:
        tags, bands = dict(_default_tags(bands[band])), bands[band : band + 1]
    parsed = _parse_tags(tags)
    attrs = {key: value for key, value in parsed.items() if key not in GDAL_OWN_TAGS}
    nodata = info.nodata[band if band is not None and len(info.nodata) > 1 else 0]
    if nodata is not None and (dtype.kind in "fc" or pixel_bytes(nodata, info.dtype)):
        # GDAL allows a nodata that no pixel can have, such as -9999 for uint8.
        attrs["_FillValue"] = dtype.type(nodata)
    for one, many, key, default in (
        ("scale_factor", "scales", "scale", 1.0),
        ("add_offset", "offsets", "offset", 0.0),
    ):
        values = band_numbers(bands, key, default)
        attrs |= {one: values[0]} if len(set(values)) == 1 else {many: values}
    names = tuple(b.get("description") for b in bands)
    if any(names):
        attrs["long_name"] = names[0] if len(set(names)) == 1 else names
    units = tuple(b.get("units") for b in bands)
    if any(units):
        attrs["units"] = units[0] if len(units) == 1 else units
    return attrs | dict(info.attrs)


def _default_tags(band: Mapping[str, Any]) -> Mapping[str, str]:
    tags: Mapping[str, Any] = band.get("tags", {})
    found: Mapping[str, str] = tags.get("", {})
    return found


def _move_to_encoding(variable: xr.Variable, *, masked: bool) -> None:
    """Move what decoding used up from the attributes to the encoding."""
    if not masked:
        return
    used_up = ("_FillValue", "scale_factor", "add_offset", "scales", "offsets")
    for key in used_up:
        if key in variable.attrs:
            value = variable.attrs.pop(key)
            # An identity scale in the encoding would make the next file a float64 one.
            if (key, value) not in (("scale_factor", 1.0), ("add_offset", 0.0)):
                variable.encoding[key] = value


def _parse_tags(tags: Mapping[str, str]) -> dict[str, Any]:
    """Turn tags into attributes: numbers, and lists of numbers in braces."""
    return {key.split("NC_GLOBAL#")[-1]: _parsed(text) for key, text in tags.items()}


def _parsed(text: str) -> Any:
    if text.startswith("{") and text.endswith("}"):
        try:
            return np.array([float(part) for part in text.strip("{}").split(",")])
        except ValueError:
            return text
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _move_coord_attrs(
    variables: Mapping[Hashable, xr.Variable], coords: Mapping[str, xr.Variable]
) -> None:
    """Give ``time#units`` tags, which GDAL makes of netCDF files, to their variable."""
    for name, variable in variables.items():
        for key in list(variable.attrs):
            owner, _, attr = key.partition("#")
            if attr and (owner in coords or owner == name):
                value = variable.attrs.pop(key)
                if owner in coords:
                    coords[owner].attrs[attr] = value


def _coord(coord: Any) -> xr.Variable:
    return xr.Variable(coord.dims, coord.values, dict(coord.attrs))


def kept_coords(header: Header, level: int) -> dict[str, Any]:
    """Coordinates of the header that have this level's size along their dims."""
    sizes: dict[str, int] = {}
    for info in header.arrays:
        if info.level == level:
            sizes |= dict(zip(info.dims, info.shape, strict=True))
    return {
        name: coord
        for name, coord in header.coords.items()
        if all(
            sizes.get(dim, n) == n
            for dim, n in zip(coord.dims, coord.values.shape, strict=True)
        )
    }
