"""From the numbers of a sum to pixels of a dtype, as GDAL copies them.

Strategy: the work type is GDAL's (float32 for small dtypes, else float64); values are
clamped to the dtype, halves go away from zero, NaN becomes 0 in integers. A result that
equals nodata by chance becomes the next number, so that a valid pixel stays valid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["next_to_nodata", "pixels_of", "work_dtype"]


def work_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Give the float type that GDAL computes in.

    Examples
    --------
    >>> work_dtype(np.dtype("int16")), work_dtype(np.dtype("int32"))
    (dtype('float32'), dtype('float64'))
    """
    small = dtype.itemsize <= 2 or dtype == np.float32  # noqa: PLR2004
    return np.dtype("float32" if small else "float64")


def next_to_nodata(nodata: Any, dtype: np.dtype[Any]) -> Any:
    """Give what stands for a result that equals nodata: the next larger number.

    Examples
    --------
    >>> next_to_nodata(np.uint8(0), np.dtype("uint8"))
    np.uint8(1)
    """
    if dtype.kind == "f":
        most = np.finfo(dtype).max
        return np.nextafter(nodata, dtype.type(0) if nodata == most else most)
    if dtype.kind == "b":
        return dtype.type(not nodata)
    is_last = nodata == np.iinfo(dtype).max
    return dtype.type(int(nodata) + (-1 if is_last else 1))


def pixels_of(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Turn floats into pixels.

    Examples
    --------
    >>> pixels_of(np.array([-2.5, 0.5, 1e9, np.nan]), np.dtype("int16")).tolist()
    [-3, 1, 32767, 0]
    """
    if dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            return values.astype(dtype, copy=False)
    if dtype.kind == "b":
        return pixels_of(values, np.dtype("uint8")).astype(dtype)
    limits = np.iinfo(dtype)
    half = values.dtype.type(0.5)
    with np.errstate(invalid="ignore"):
        whole = np.trunc(values + np.copysign(half, values))
        whole = np.where(np.isnan(values), values.dtype.type(0), whole)
        low, high = whole <= limits.min, whole >= limits.max
        out: NDArray[Any] = np.where(low | high, 0, whole).astype(dtype)
    out[low], out[high] = limits.min, limits.max
    return out
