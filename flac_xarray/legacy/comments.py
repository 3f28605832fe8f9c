"""The seed's ``GEOSPATIAL_*`` comments: texts of several hands to values.

Strategy: pure and forgiving about form (JSON, Python's and affine's ways to print a
list, base64 of any of them, ``None`` or nothing for what is not there), strict about
content: a number is finite, a size is positive. Nothing is evaluated.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from flac_xarray.dtypes import numpy_dtype
from flac_xarray.errors import FormatError
from flac_xarray.georef import IDENTITY, Affine, Georef, names_a_file

__all__ = [
    "read_dtype",
    "read_georef",
    "read_leading",
    "read_nodata",
    "read_size",
    "unpack_affine",
    "unpack_crs",
    "unpack_number",
]

NOTHING: Final = ("", "None", "none", "null")
MAX_TEXT: Final = 2000
MAX_DIGITS: Final = 10
MAX_DIMS: Final = 32
PROJECTIVE: Final = (0.0, 0.0, 1.0)
"""The last row of a 3x3 affine matrix."""


def unpack_number(text: str, name: str) -> float:
    """Read a number that may be NaN or infinite.

    Raises
    ------
    FormatError
        It is none.
    """
    try:
        return float(text)
    except ValueError as error:
        msg = f"{name} is {text!r:.60}: expected a number"
        raise FormatError(msg) from error


def unpack_whole(text: str, name: str) -> int:
    """Read a count of at least 1."""
    if not re.fullmatch(rf"[0-9]{{1,{MAX_DIGITS}}}", text) or not int(text):
        msg = f"{name} is {text!r:.60}: expected a count of at least 1"
        raise FormatError(msg)
    return int(text)


def unpack_crs(value: Any) -> str | None:
    """Read a CRS: text, or None for the ways to say nothing.

    Examples
    --------
    >>> unpack_crs("EPSG:4326"), unpack_crs("None")
    ('EPSG:4326', None)
    """
    if value is not None and not isinstance(value, str):
        msg = f"the CRS is {value!r:.60}: expected text"
        raise FormatError(msg)
    if value is not None and names_a_file(value):
        msg = f"the CRS is {value!r:.60}: it names a file, which no raster may"
        raise FormatError(msg)
    return None if value is None or value.strip() in NOTHING else value.strip()


def unpack_affine(value: Any) -> Affine | None:
    """Read a transform: six or nine numbers as a list or as text; None for nothing.

    Raises
    ------
    FormatError
        It is something else.

    Examples
    --------
    >>> unpack_affine("[10.0, 0.0, 5.0, 0.0, -10.0, 4.0, 0.0, 0.0, 1.0]")
    (10.0, 0.0, 5.0, 0.0, -10.0, 4.0)
    >>> unpack_affine("Affine(2, 0, 0, 0, -2, 0)")
    (2.0, 0.0, 0.0, 0.0, -2.0, 0.0)
    """
    if value is None or value == [] or (isinstance(value, str) and value in NOTHING):
        return None
    try:
        numbers = (
            _numbers_in(value)
            if isinstance(value, str)
            else tuple(float(number) for number in value)
        )
    except (TypeError, ValueError, OverflowError) as error:
        msg = f"the transform {value!r:.60} does not parse: {error}"
        raise FormatError(msg) from error
    n = len(IDENTITY)
    is_affine = len(numbers) == n or numbers[n:] == PROJECTIVE
    if not is_affine or not all(map(math.isfinite, numbers)):
        msg = f"the transform {value!r:.60} is not six finite numbers"
        raise FormatError(msg)
    a, b, c, d, e, f = numbers[:n]
    return None if numbers[:n] == IDENTITY else (a, b, c, d, e, f)


def _numbers_in(text: str) -> tuple[float, ...]:
    if len(text) > MAX_TEXT:
        msg = f"{len(text)} characters"
        raise ValueError(msg)
    if re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", text.strip()):
        try:
            text = base64.b64decode(text.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ValueError(str(error)) from error
    plain = re.sub(r"[\[\](){}|,;\s]+", " ", text.removeprefix("Affine"))
    return tuple(float(word) for word in plain.split())


def read_dtype(comments: Mapping[str, str]) -> str:
    """Read the dtype, in NumPy's names.

    Raises
    ------
    FormatError
        There is none, or an unknown one.
    """
    name = comments.get("GEOSPATIAL_DTYPE", "").strip().lower()
    numpy_dtype(name)
    return name


def read_size(comments: Mapping[str, str]) -> tuple[int, int, int]:
    """Read (count, height, width) of what the stream holds.

    Raises
    ------
    FormatError
        One is missing or no count.
    """
    names = ("GEOSPATIAL_COUNT", "GEOSPATIAL_HEIGHT", "GEOSPATIAL_WIDTH")
    default = {"GEOSPATIAL_COUNT": "1"}
    count, height, width = (
        unpack_whole(comments.get(name, default.get(name, "")).strip(), name)
        for name in names
    )
    return count, height, width


def read_leading(comments: Mapping[str, str], channels: int) -> tuple[int, ...]:
    """Read the extents of the dims before (y, x).

    Our own tiles say their whole shape, the others' channels are bands.
    """
    text = comments.get("GEOSPATIAL_SHAPE")
    if text is None:
        return (channels,)
    words = text.split(",")
    if not 2 <= len(words) <= MAX_DIMS:  # noqa: PLR2004  # row and col
        msg = f"GEOSPATIAL_SHAPE is {text!r:.60}: expected 2 to {MAX_DIMS} numbers"
        raise FormatError(msg)
    return tuple(unpack_whole(word, "GEOSPATIAL_SHAPE") for word in words[:-2])


def read_nodata(comments: Mapping[str, str], dtype: str) -> float | int | None:
    """Read the nodata value: ``None``, ``nan``, ``255.0``, ``-3.4e+38``...

    Examples
    --------
    >>> read_nodata({"GEOSPATIAL_NODATA": "255.0"}, "uint8")
    255
    """
    text = comments.get("GEOSPATIAL_NODATA", "").strip().strip('"')
    if text in NOTHING:
        return None
    if re.fullmatch(r"-?[0-9]{1,20}", text):
        return int(text)
    value = unpack_number(text, "GEOSPATIAL_NODATA")
    if numpy_dtype(dtype).kind in "iu" and value.is_integer():
        return int(value)
    return value


def read_georef(comments: Mapping[str, str]) -> Georef:
    """Read CRS and transform."""
    return Georef(
        unpack_crs(comments.get("GEOSPATIAL_CRS")),
        unpack_affine(comments.get("GEOSPATIAL_TRANSFORM")),
    )
