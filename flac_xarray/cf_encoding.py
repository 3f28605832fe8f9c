"""One variable to what a file holds of it: xarray's own CF encoders, with guards.

Strategy: the encoders decide the stored form, so that the file reads back as a Zarr
store would. Where they would lose data without a word, the variable is refused: NaN in
integers without a _FillValue, scales of complex numbers, scales by band. Large arrays
are encoded lazily, tile by tile.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from flac_xarray.errors import UnsupportedDataError

__all__ = ["CF_ENCODING", "cf_encoded", "encoded_tiles", "pop_kept"]

MAX_EAGER: Final = 64 << 20
"""Bytes of a variable in memory that is encoded whole; others by tiles."""
KEPT_ENCODING: Final = ("grid_mapping", "coordinates", "bounds", "climatology")
"""Encoding that names other variables; comes back as encoding, not as attributes."""
CF_ENCODING: Final = (
    *("dtype", "scale_factor", "add_offset", "_FillValue", "missing_value"),
    *("units", "calendar", "_Unsigned", *KEPT_ENCODING),
)
"""Encoding that writing honours, xarray's names."""


def encoded_tiles(
    name: Hashable, variable: xr.Variable, tiles: Sequence[int]
) -> tuple[xr.Variable, dict[str, Any]]:
    """Encode a variable over the plane, by whole tiles where it is large.

    Returns
    -------
    Variable, dict
        As the file holds it, and the encoding that names other variables.

    Raises
    ------
    UnsupportedDataError
        It cannot be stored without loss.
    """
    for key in ("scales", "offsets"):
        if key in variable.encoding and "dtype" in variable.encoding:
            msg = (
                f"its encoding has {key} by band, which CF cannot express: give "
                "encoding={name: {'dtype': ...}}, or drop the encoding"
            )
            raise UnsupportedDataError(msg)
    for key, identity in (("scale_factor", 1), ("add_offset", 0)):
        # Scaling by one makes floats of integers, and reals of complex numbers.
        if variable.encoding.get(key) == identity:
            del variable.encoding[key]
        elif variable.dtype.kind == "c" and key in variable.encoding:
            msg = (
                f"its encoding has a {key}, which CF does not apply to complex numbers"
            )
            raise UnsupportedDataError(msg, dtype=str(variable.dtype))
    if variable.dtype.kind in "OSTUV":
        msg = f"dtype {variable.dtype}: expected numbers, booleans or times"
        raise UnsupportedDataError(msg, dtype=str(variable.dtype))
    kept = pop_kept(variable)
    in_memory = isinstance(variable._data, np.ndarray)  # noqa: SLF001
    lazy_chunks = variable.chunks is not None
    if not lazy_chunks and not (in_memory and variable.nbytes <= MAX_EAGER):
        plain = in_memory and not set(variable.encoding) & set(CF_ENCODING)
        if not plain and variable.dtype.kind not in "mM":
            variable = variable.chunk(dict(zip(variable.dims, tiles, strict=True)))
    if _needs_no_nan(variable):
        variable = variable.copy(data=_checked(variable))
    return cf_encoded(name, variable), kept


def _needs_no_nan(variable: xr.Variable) -> bool:
    """Whether floats become integers with no value to stand for NaN.

    Rasters without nodata open so: their pixels are floats, their encoding is not.
    """
    dtype = np.dtype(variable.encoding.get("dtype", variable.dtype))
    fills = ("_FillValue", "missing_value")
    has_fill = any(
        where.get(key) is not None
        for key in fills
        for where in (variable.encoding, variable.attrs)
    )
    return variable.dtype.kind == "f" and dtype.kind in "iu" and not has_fill


def _checked(variable: xr.Variable) -> Any:
    """Give the pixels, lazily checked for NaN where they are lazy."""
    dtype = np.dtype(variable.encoding["dtype"])

    def check(block: NDArray[Any]) -> NDArray[Any]:
        if np.isnan(block).any():
            msg = (
                f"its encoding says dtype {dtype}, which cannot hold its NaN: add a "
                "_FillValue to the encoding, or give encoding={name: {}} to keep floats"
            )
            raise UnsupportedDataError(msg, dtype=str(dtype))
        return block

    if variable.chunks is None:
        return check(np.asarray(variable.values))
    meta = np.empty((0,) * variable.ndim, variable.dtype)
    return variable.data.map_blocks(check, dtype=variable.dtype, meta=meta)


def pop_kept(variable: xr.Variable) -> dict[str, Any]:
    """Take the encoding that names other variables; drop what no writer honours."""
    kept = {key: variable.encoding.get(key) for key in KEPT_ENCODING}
    variable.encoding = {
        key: value
        for key, value in variable.encoding.items()
        if key in CF_ENCODING and key not in kept
    }
    return {key: value for key, value in kept.items() if value is not None}


def cf_encoded(name: Hashable, variable: xr.Variable) -> xr.Variable:
    """Encode by xarray's CF conventions.

    Raises
    ------
    UnsupportedDataError
        xarray cannot.
    """
    try:
        with warnings.catch_warnings():
            # Floats as integers without a _FillValue: `_checked` makes sure of them.
            warnings.simplefilter("ignore", xr.SerializationWarning)
            return xr.conventions.encode_cf_variable(variable, name=name)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise UnsupportedDataError(str(error), dtype=str(variable.dtype)) from error
