"""Files written from xarray: variables and coordinates by the CF conventions.

Strategy: such a file holds every variable as xarray's own encoders made it, as a Zarr
store does, so xarray's own decoders open it. The member ``conventions`` of the header
tells them from files made of rasters (docs/format.md, section 3.5).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from xarray.backends.common import AbstractDataStore
from xarray.backends.store import StoreBackendEntrypoint
from xarray.core import indexing

from flac_xarray.coords import MAX_COORD_NBYTES, Coord
from flac_xarray.dtypes import numpy_dtype
from flac_xarray.errors import FormatError
from flac_xarray.lazy_array import RasterArray, RasterRef
from flac_xarray.level_coords import level_coords

if TYPE_CHECKING:
    from flac_xarray.header import ArrayInfo, Header

__all__ = ["CONVENTIONS", "cf_dataset", "from_json_attrs", "is_cf", "to_json_attrs"]

CONVENTIONS: Final = "CF"
"""Value of the header's member ``conventions``."""
SPECIAL: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def is_cf(header: Header) -> bool:
    """Whether the file was written from xarray."""
    return header.extra.get("conventions") == CONVENTIONS


def cf_dataset(
    ref: RasterRef, header: Header, level: int, decoders: Mapping[str, Any]
) -> xr.Dataset:
    """Decode the arrays of one level.

    Parameters
    ----------
    ref, header
        The file.
    level
        Overview level.
    decoders
        ``mask_and_scale``, ``decode_times`` and so on, as xarray hands them on.
    """
    store = _Store(ref, header, level)
    ds = StoreBackendEntrypoint().open_dataset(store, **decoders)
    coords = set(header.extra.get("coordinates", ()))
    return ds.set_coords([name for name in ds.variables if name in coords])


class _Store(AbstractDataStore):
    """The encoded variables of one level of a file."""

    def __init__(self, ref: RasterRef, header: Header, level: int) -> None:
        self.ref = ref
        self.header = header
        self.level = level

    def get_variables(self) -> dict[str, xr.Variable]:
        """Give all variables, arrays lazily."""
        variables = {
            info.name: _variable(self.ref, position, info)
            for position, info in enumerate(self.header.arrays)
            if info.level == self.level and info.role == "data"
        }
        plane = dict(zip(("y", "x"), self.header.extra["plane"], strict=True))
        for name, coord in level_coords(self.header, self.level).items():
            variables[name] = _header_variable(coord)
        return {name: _renamed(v, plane) for name, v in variables.items()}

    def get_attrs(self) -> dict[str, Any]:
        """Give the attributes of the dataset."""
        return from_json_attrs(self.header.attrs)

    def get_encoding(self) -> dict[str, Any]:
        """Give the encoding of the dataset: nothing beyond its source."""
        return {}

    def close(self) -> None:
        """Close nothing: the backend closes the file."""


def _variable(ref: RasterRef, position: int, info: ArrayInfo) -> xr.Variable:
    dtype = numpy_dtype(info.dtype)
    attrs = from_json_attrs(info.attrs)
    if info.nodata[0] is not None:
        attrs["_FillValue"] = dtype.type(info.nodata[0])
    encoding = dict(info.extra.get("encoding", {}))
    encoding["preferred_chunks"] = dict(zip(info.dims, info.tile, strict=True))
    lazy = indexing.LazilyIndexedArray(RasterArray(ref, position, info.shape, dtype))
    return xr.Variable(info.dims, lazy, attrs, encoding, fastpath=True)


def _renamed(variable: xr.Variable, plane: Mapping[str, str]) -> xr.Variable:
    """Give the last two dims the names they had in xarray."""
    variable.dims = tuple(plane.get(str(dim), dim) for dim in variable.dims)
    if "preferred_chunks" in variable.encoding:
        tiles = variable.encoding["preferred_chunks"].items()
        variable.encoding["preferred_chunks"] = {plane.get(d, d): n for d, n in tiles}
    return variable


def _header_variable(coord: Coord) -> xr.Variable:
    attrs = from_json_attrs(coord.attrs)
    values = coord.values
    if "_FillValue" in attrs:
        attrs["_FillValue"] = values.dtype.type(attrs["_FillValue"])
    encoding = dict(coord.encoding)
    if "dtype" in encoding:
        values = values.astype(_text_dtype(encoding.pop("dtype"), values.size))
    return xr.Variable(coord.dims, values, attrs, encoding)


def _text_dtype(name: Any, count: int) -> np.dtype[Any]:
    """Look up the dtype that text had in xarray.

    Raises
    ------
    FormatError
        It is another one, or so many strings of it are too large.
    """
    if name in ("O", "T"):
        return np.dtype(str(name))
    found = re.fullmatch(r"[<>=]?U([0-9]{1,8})", str(name))
    if not found or 4 * int(found[1]) * count > MAX_COORD_NBYTES:
        msg = f"{count} strings of dtype {name!r:.40} in the header"
        raise FormatError(msg)
    return np.dtype(str(name))


def to_json_attrs(attrs: Mapping[Any, Any], owner: str) -> dict[str, Any]:
    """Give attributes the form the header's JSON holds, as Zarr's JSON does.

    Raises
    ------
    UnsupportedDataError
        One of them is neither number, text, boolean, list, mapping nor null.

    Examples
    --------
    >>> to_json_attrs({"valid_range": np.array([0, np.inf])}, "t")
    {'valid_range': [0.0, {'$float': 'Infinity'}]}
    """
    from flac_xarray.errors import UnsupportedDataError

    out = {}
    for key, value in attrs.items():
        try:
            out[str(key)] = _to_json(value)
        except TypeError as error:
            msg = f"attribute {key!r} of {owner} cannot be stored: {error}"
            raise UnsupportedDataError(msg) from error
    return out


def _to_json(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        text = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return {"$float": text}
    if isinstance(value, (list, tuple)):
        return [_to_json(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _to_json(v) for k, v in value.items()}
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    msg = f"{type(value).__name__} {value!r:.60}"
    raise TypeError(msg)


def from_json_attrs(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `to_json_attrs`; arrays stay lists, as in Zarr."""
    return {key: _from_json(value) for key, value in attrs.items()}


def _from_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        if set(value) == {"$float"}:
            return SPECIAL.get(value["$float"], value)
        return {key: _from_json(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_from_json(v) for v in value]
    return value
