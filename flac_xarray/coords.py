"""Coordinate values in the header (docs/format.md, section 3.4).

Strategy: numbers, times and booleans are the little-endian bytes of the array,
deflated and in base64, so they come back bit for bit; text is a JSON list. Values
are checked against their shape before they are inflated.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.errors import FormatError, UnsupportedDataError

__all__ = ["MAX_COORD_NBYTES", "Coord"]

MAX_COORD_NBYTES: Final = 256 << 20
"""Most bytes of the values of all coordinates of a file."""
KINDS: Final = "biufcmM"
_DTYPE: Final = re.compile(r"[<>|=]?[biufcmM][0-9]{1,2}(\[[0-9]{0,9}[A-Za-z]{1,2}\])?")
"""What is looked up: NumPy evaluates text that is a list of dtypes."""


@dataclass(frozen=True, slots=True, eq=False)
class Coord:
    """One coordinate variable.

    Examples
    --------
    >>> time = Coord(("time",), np.array(["2026-01-01"], "M8[s]"))
    >>> Coord.from_json(time.to_json()).values
    array(['2026-01-01T00:00:00'], dtype='datetime64[s]')
    """

    dims: tuple[str, ...]
    """Its dimensions; none for a scalar."""
    values: NDArray[Any]
    """The values."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """JSON attributes."""
    encoding: Mapping[str, Any] = field(default_factory=dict)
    """xarray's encoding of it, as far as JSON holds it."""

    def __eq__(self, other: object) -> bool:
        """Compare dims, bits of the values, and attributes."""
        return isinstance(other, Coord) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]

    def to_json(self) -> dict[str, Any]:
        """Give the JSON object.

        Raises
        ------
        UnsupportedDataError
            The values are neither numbers, times, booleans nor text.
        """
        out: dict[str, Any] = {
            "dims": list(self.dims),
            "shape": list(self.values.shape),
        }
        kind = self.values.dtype.kind
        text = self.values.ravel().tolist()
        if kind in "UT" or (kind == "O" and all(isinstance(v, str) for v in text)):
            out |= {"dtype": "str", "values": text}
        elif kind in KINDS:
            data = self.values.astype(self.values.dtype.newbyteorder("<"))
            packed = zlib.compress(data.tobytes(), 9)
            out |= {"dtype": data.dtype.str, "data": base64.b64encode(packed).decode()}
        else:
            msg = f"a coordinate of dtype {self.values.dtype} cannot be stored"
            raise UnsupportedDataError(msg, dtype=str(self.values.dtype))
        if self.attrs:
            out["attrs"] = dict(self.attrs)
        if self.encoding:
            out["encoding"] = dict(self.encoding)
        return out

    @classmethod
    def from_json(
        cls, obj: Mapping[str, Any], max_nbytes: int = MAX_COORD_NBYTES
    ) -> Coord:
        """Undo `to_json`.

        Parameters
        ----------
        obj
            The JSON object.
        max_nbytes
            Most bytes of values; checked before they are inflated.

        Raises
        ------
        FormatError
            The object is not what `to_json` makes.
        """
        try:
            dims = tuple(str(d) for d in obj["dims"])
            values = _values(obj, len(dims), max_nbytes)
            attrs, encoding = dict(obj.get("attrs", {})), dict(obj.get("encoding", {}))
        except (
            KeyError,
            TypeError,
            ValueError,
            OverflowError,
            zlib.error,
            binascii.Error,
        ) as error:
            msg = f"a coordinate in the header does not parse: {error}"
            raise FormatError(msg) from error
        return cls(dims, values, attrs, encoding)


def _values(obj: Mapping[str, Any], ndim: int, max_nbytes: int) -> NDArray[Any]:
    shape = tuple(int(n) for n in obj["shape"])
    if min(shape, default=0) < 0 or len(shape) != ndim:
        msg = f"{ndim} dims for shape {shape}"
        raise ValueError(msg)
    if obj["dtype"] == "str":
        values = np.array([str(v) for v in obj["values"]], object)
        return values.reshape(shape)
    if not isinstance(obj["dtype"], str) or not _DTYPE.fullmatch(obj["dtype"]):
        msg = f"dtype {obj['dtype']!r:.40}"
        raise ValueError(msg)
    dtype = np.dtype(obj["dtype"])
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes > max_nbytes:
        msg = (
            f"{nbytes} bytes of values, above the limit of {MAX_COORD_NBYTES} for all "
            "coordinates"
        )
        raise ValueError(msg)
    inflate = zlib.decompressobj()
    data = inflate.decompress(base64.b64decode(obj["data"], validate=True), nbytes + 1)
    if len(data) != nbytes:
        msg = f"{len(data)} bytes of values, expected {nbytes}"
        raise ValueError(msg)
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))
