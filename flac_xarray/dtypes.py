"""The element types of the format and their NumPy forms (docs/format.md, section 4).

Strategy: one table. A format dtype is a NumPy name, or ``complex_int16`` for GDAL's
CInt16, which NumPy lacks: in memory that is complex64 whose parts are integral and fit
int16. Everything else in the package asks this module and never parses dtype names.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from flac_xarray.errors import FormatError, UnsupportedDataError

__all__ = [
    "COMPLEX_INT16",
    "DTYPES",
    "dtype_name",
    "empty_pixel",
    "itemsize",
    "nodata_from_json",
    "nodata_to_json",
    "numpy_dtype",
    "pixel_bytes",
]

COMPLEX_INT16 = "complex_int16"

DTYPES: tuple[str, ...] = (
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
    COMPLEX_INT16,
)
"""Every dtype name a file may hold."""


def numpy_dtype(name: str) -> np.dtype[np.generic]:
    """Give the in-memory NumPy dtype of a format dtype, in native byte order.

    Raises
    ------
    FormatError
        The name is not one of `DTYPES`.

    Examples
    --------
    >>> numpy_dtype("uint16"), numpy_dtype("complex_int16")
    (dtype('uint16'), dtype('complex64'))
    """
    if name not in DTYPES:
        msg = f"unknown dtype {name!r} in the file: expected one of {', '.join(DTYPES)}"
        raise FormatError(msg)
    return np.dtype("complex64" if name == COMPLEX_INT16 else name)


def dtype_name(dtype: DTypeLike) -> str:
    """Give the format name of a NumPy dtype (any byte order).

    Raises
    ------
    UnsupportedDataError
        The dtype is not numeric, or NumPy holds it in a size the format lacks.

    Examples
    --------
    >>> dtype_name(">i2")
    'int16'
    """
    if isinstance(dtype, str) and dtype == COMPLEX_INT16:
        return COMPLEX_INT16
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in DTYPES:
        msg = f"dtype {name} cannot be stored: expected one of {', '.join(DTYPES)}"
        raise UnsupportedDataError(msg, dtype=name)
    return name


def itemsize(name: str) -> int:
    """Bytes of one pixel on disk before compression.

    Examples
    --------
    >>> itemsize("complex_int16"), itemsize("complex64")
    (4, 8)
    """
    return 4 if name == COMPLEX_INT16 else numpy_dtype(name).itemsize


def pixel_bytes(value: complex | None, name: str) -> bytes | None:
    r"""Give the little-endian bit pattern of one pixel of value `value`.

    Returns None where there is no value, or where the dtype cannot hold it exactly
    (GDAL allows a nodata of -9999 on a uint8 band: no pixel can be equal to it).

    Examples
    --------
    >>> pixel_bytes(1, "int16"), pixel_bytes(-9999, "uint8")
    (b'\x01\x00', None)
    """
    if value is None:
        return None
    dtype = numpy_dtype(name).newbyteorder("<")
    if dtype.kind in "iub":
        return _integer_bytes(value, dtype)
    with np.errstate(over="ignore"):
        pixel = np.array(value, dtype)
    # A float32 raster whose nodata GDAL gives as a double is rounded to the nearest
    # float32, as GDAL does; a double beyond float32 matches no pixel.
    if np.isinf(pixel) and not np.isinf(value):
        return None
    return pixel.tobytes()


def _integer_bytes(value: complex, dtype: np.dtype[np.generic]) -> bytes | None:
    if isinstance(value, complex) or not math.isfinite(value) or int(value) != value:
        return None
    is_bool = dtype.kind == "b"
    low, high = (0, 1) if is_bool else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return np.array(int(value), dtype).tobytes() if low <= value <= high else None


def nodata_to_json(value: complex | None, name: str) -> float | int | str | None:
    """Turn a nodata value into a JSON value (NaN and infinities become strings).

    Raises
    ------
    UnsupportedDataError
        The value of the array of that name is no real number.
    """
    if value is None:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, (int, float)):
        msg = f"nodata {value!r} of {name!r} cannot be stored: expected a real number"
        raise UnsupportedDataError(msg)
    if isinstance(value, (bool, int)):
        return int(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return float(value)


def nodata_from_json(value: Any) -> float | int | None:
    """Undo `nodata_to_json`.

    Raises
    ------
    FormatError
        The JSON value is not a number, one of the three strings, or null.
    """
    if value is None or type(value) is int or type(value) is float:
        return value
    if value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    msg = f"nodata {value!r} in the header: expected a number, NaN or Infinity"
    raise FormatError(msg)


def empty_pixel(nodata: bytes | None, name: str) -> NDArray[np.generic]:
    """Give the pixel an empty tile is made of, shape (): nodata, or zero bits."""
    dtype = numpy_dtype(name)
    pixel = bytes(dtype.itemsize) if nodata is None else nodata
    return np.frombuffer(pixel, dtype.newbyteorder("<")).astype(dtype).reshape(())
