"""What a file made from a Dataset will hold: planned whole before a byte is written.

Strategy: xarray's own CF encoders turn each variable into what a Zarr store would hold.
Variables over the plane (y, x) become arrays of tiles, all others lie in the header.
Whatever cannot be stored is refused here, by name.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr

from flac_xarray.cf_encoding import (
    CF_ENCODING,
    cf_encoded,
    encoded_tiles,
    pop_kept,
)
from flac_xarray.cf_layout import CONVENTIONS, to_json_attrs
from flac_xarray.coords import Coord
from flac_xarray.dataset_georef import find_plane, georef_of
from flac_xarray.dtypes import dtype_name
from flac_xarray.errors import FlacRasterError, UnsupportedDataError
from flac_xarray.header import ArrayInfo, Header

__all__ = ["DatasetPlan", "as_dataset", "plan_dataset"]

DEFAULT_NAME: Final = "band_data"
"""Name of a DataArray that has none, as in files made of rasters."""
MAX_HEADER_VARIABLE: Final = 8 << 20
"""Bytes of one variable that the header takes."""


@dataclass(frozen=True, slots=True, eq=False)
class DatasetPlan:
    """The header of the file, and the encoded pixels of each of its arrays."""

    header: Header
    """What the file says about itself."""
    arrays: tuple[xr.Variable, ...]
    """For each array of the header its pixels, as NumPy or dask."""


def plan_dataset(
    data: xr.Dataset | xr.DataArray,
    *,
    encoding: Mapping[Hashable, Mapping[str, Any]] | None = None,
    tile_size: int | Mapping[str, int] = 512,
    bands_per_tile: int = 1,
) -> DatasetPlan:
    """Plan a file.

    Parameters
    ----------
    data
        What to write; a DataArray without a name is called ``band_data``.
    encoding
        By variable: dtype, scale_factor, add_offset, _FillValue, units, calendar;
        replaces the variable's own encoding.
    tile_size
        Pixels of a tile along y and x (other dims: 1), or by dim.
    bands_per_tile
        Of a tile along ``band``, where `tile_size` does not say.

    Raises
    ------
    UnsupportedDataError
        Something cannot be stored; the message says which variable, and why.
    ValueError
        `encoding` names a variable or a key that there is not.

    Examples
    --------
    >>> ds = xr.Dataset({"t": (("time", "y", "x"), np.zeros((2, 3, 4), "float32"))})
    >>> plan_dataset(ds, tile_size=2).header.arrays[0].grid.counts
    (2, 2, 2)
    """
    ds = as_dataset(data)
    encoding = encoding or {}
    _check_encoding(ds, encoding)
    plane = find_plane(ds)
    infos: list[ArrayInfo] = []
    arrays: list[xr.Variable] = []
    coords: dict[str, Coord] = {}
    for name, variable in ds.variables.items():
        _check_name(name, variable)
        tiles = _tiles(variable, plane, tile_size, bands_per_tile)
        own = variable.copy(deep=False)
        own.encoding = dict(encoding.get(name, variable.encoding))
        try:
            if tiles is None:
                coords[str(name)] = _header_variable(name, own, plane)
                continue
            encoded, kept = encoded_tiles(name, own, tiles)
            infos.append(_array_info(name, encoded, kept, plane, tiles))
        except FlacRasterError as error:
            msg = f"variable {name!r} cannot be stored: {error}"
            raise UnsupportedDataError(msg, **error.__dict__) from error
        arrays.append(encoded)
    if not infos:
        msg = f"nothing to store: no variable of {list(ds.variables)} has dims y and x"
        raise UnsupportedDataError(msg)
    header = Header(
        tuple(infos),
        georef_of(ds, plane),
        coords,
        to_json_attrs(ds.attrs, "the dataset"),
        extra={
            "conventions": CONVENTIONS,
            "plane": list(plane),
            "coordinates": [str(name) for name in ds.coords],
        },
    )
    return DatasetPlan(header, tuple(arrays))


def as_dataset(data: xr.Dataset | xr.DataArray) -> xr.Dataset:
    """Give a Dataset; a DataArray becomes its only variable."""
    if isinstance(data, xr.DataArray):
        return data.to_dataset(name=data.name or DEFAULT_NAME)
    if not isinstance(data, xr.Dataset):
        msg = f"expected a Dataset or DataArray, found {type(data).__name__}"
        raise UnsupportedDataError(msg)
    return data


def _check_encoding(
    ds: xr.Dataset, encoding: Mapping[Hashable, Mapping[str, Any]]
) -> None:
    for name, options in encoding.items():
        if name not in ds.variables:
            msg = f"encoding for {name!r}: the variables are {list(ds.variables)}"
            raise ValueError(msg)
        wrong = sorted(set(options) - set(CF_ENCODING))
        if wrong:
            msg = (
                f"encoding of {name!r}: unknown {wrong}, expected some of {CF_ENCODING}"
            )
            raise ValueError(msg)


def _check_name(name: Hashable, variable: xr.Variable) -> None:
    for text in (name, *variable.dims):
        if not isinstance(text, str):
            msg = f"variable {name!r} {variable.dims}: names must be text, not {text!r}"
            raise UnsupportedDataError(msg)
    if isinstance(variable.dtype, np.dtype):
        return
    msg = f"variable {name!r}: dtype {variable.dtype} of pandas cannot be stored"
    raise UnsupportedDataError(msg, dtype=str(variable.dtype))


def _tiles(
    variable: xr.Variable,
    plane: tuple[str, str],
    tile_size: int | Mapping[str, int],
    bands_per_tile: int,
) -> tuple[int, ...] | None:
    """Give the tile of a variable over the plane; None for one of the header."""
    if variable.dims[-2:] != plane:
        return None
    if isinstance(tile_size, int):
        tile_size = dict.fromkeys(plane, tile_size)
    default = {**dict.fromkeys(plane, 512), "band": bands_per_tile}
    tile = tuple(
        int(tile_size.get(str(dim), default.get(str(dim), 1))) for dim in variable.dims
    )
    if min(tile) < 1:
        msg = f"tile_size {tile_size}: expected at least 1 pixel along each dim"
        raise ValueError(msg)
    return tile


def _header_variable(
    name: Hashable, variable: xr.Variable, plane: tuple[str, str]
) -> Coord:
    """Encode a variable that lies in the header."""
    kind = variable.dtype.kind
    if variable.nbytes > MAX_HEADER_VARIABLE:
        msg = (
            f"its dims {variable.dims} do not end in y and x, so it would lie in the "
            f"header, and its {variable.nbytes} bytes are above {MAX_HEADER_VARIABLE}"
        )
        raise UnsupportedDataError(msg, dtype=str(variable.dtype))
    kept = pop_kept(variable)
    values = np.asarray(variable.values)
    if kind in "UT":
        kept["dtype"] = variable.dtype.str if kind == "U" else kind
    if kind in "UT" or (kind == "O" and all(isinstance(v, str) for v in values.flat)):
        attrs = to_json_attrs(variable.attrs, f"variable {name!r}")
        return Coord(_dims(variable, plane), values, attrs, kept)
    encoded = cf_encoded(name, variable)
    attrs = to_json_attrs(encoded.attrs, f"variable {name!r}")
    coord = Coord(_dims(encoded, plane), np.asarray(encoded.values), attrs, kept)
    coord.to_json()  # refuses what it cannot hold now, not while writing
    return coord


def _dims(variable: xr.Variable, plane: tuple[str, str]) -> tuple[str, ...]:
    """Give the dims their names in the file, where rows and columns are y and x."""
    names = dict(zip(plane, ("y", "x"), strict=True))
    return tuple(names.get(str(dim), str(dim)) for dim in variable.dims)


def _array_info(
    name: Hashable,
    variable: xr.Variable,
    kept: Mapping[str, Any],
    plane: tuple[str, str],
    tiles: tuple[int, ...],
) -> ArrayInfo:
    attrs = dict(variable.attrs)
    fill = attrs.pop("_FillValue", None)
    if isinstance(fill, np.generic):
        fill = fill.item()
    stored = dtype_name(variable.dtype)
    return ArrayInfo(
        str(name),
        stored,
        _dims(variable, plane),
        tuple(variable.shape),
        tiles,
        nodata=(fill,),
        attrs=to_json_attrs(attrs, f"variable {name!r}"),
        extra={"encoding": dict(kept)} if kept else {},
    )
