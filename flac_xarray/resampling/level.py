"""A rule that makes one level of the level before.

Strategy: a `LevelRule` is a small picklable value: method, dtype and the two sizes. It
says which source pixels a part of the target needs, and makes that part of them; who
calls it decides where pixels come from, and in what order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.dtypes import COMPLEX_INT16, numpy_dtype, pixel_bytes
from flac_xarray.errors import UnsupportedDataError
from flac_xarray.resampling.axis import (
    Taps,
    gauss_taps,
    kernel_taps,
    nearest,
    plain,
    weighted,
)
from flac_xarray.resampling.kernels import KERNELS, convolve, gauss
from flac_xarray.resampling.rounding import pixels_of
from flac_xarray.resampling.windows import Block, average, complex_mean, mode, rms

__all__ = ["METHODS", "LevelRule", "check_method", "valid_pixels"]

METHODS: Final = ("nearest", "average", "mode", "rms", *KERNELS, "gauss")
"""Names as in ``rasterio.enums.Resampling``."""
FOR_COMPLEX: Final = ("nearest", "average", "mode", "rms")
"""Methods that GDAL has for complex pixels."""


def check_method(method: str, dtype: str) -> None:
    """Refuse a method that there is not, or not for a dtype.

    Raises
    ------
    ValueError
        No method has that name.
    UnsupportedDataError
        It is not defined for complex pixels.
    """
    if method not in METHODS:
        msg = f"resampling {method!r}: expected one of {', '.join(METHODS)}"
        raise ValueError(msg)
    if "complex" in dtype and method not in FOR_COMPLEX:
        msg = (
            f"resampling {method!r} is not defined for {dtype}: expected one of "
            f"{', '.join(FOR_COMPLEX)}"
        )
        raise UnsupportedDataError(msg, dtype=dtype)


@dataclass(frozen=True, slots=True)
class LevelRule:
    """How one level follows from the one before.

    Examples
    --------
    >>> rule = LevelRule("average", "uint8", (4, 5), (2, 3))
    >>> rule.needs((slice(0, 1), slice(1, 3)))
    (slice(0, 2, None), slice(1, 5, None))
    >>> everything = (slice(0, 2), slice(0, 3))
    >>> rule.make(np.eye(4, 5, dtype="uint8")[None] * 100, (0, 0), everything)
    array([[[50, 10,  0],
            [ 0, 40, 20]]], dtype=uint8)
    """

    method: str
    """One of `METHODS`."""
    dtype: str
    """Format dtype."""
    source: tuple[int, int]
    """Rows and columns of the level before."""
    target: tuple[int, int]
    """Rows and columns of this one."""

    def needs(self, part: tuple[slice, slice]) -> tuple[slice, slice]:
        """Give the rows and columns of the source that a part of the target is of."""
        spans = []
        for n_source, n_target, along in zip(
            self.source, self.target, part, strict=True
        ):
            if self.method == "nearest":
                at = nearest(n_source, n_target, along)
                spans.append(slice(int(at[0]), int(at[-1]) + 1))
            else:
                spans.append(self._taps(n_source, n_target, along).span)
        return spans[0], spans[1]

    def _taps(self, n_source: int, n_target: int, along: slice) -> Taps:
        if self.method in KERNELS:
            radius, weigh, _ = KERNELS[self.method]
            return kernel_taps(n_source, n_target, along, radius, weigh)
        if self.method == "gauss":
            return gauss_taps(n_source, n_target, along)
        if "complex" in self.dtype and self.method != "mode":
            return plain(n_source, n_target, along)
        return weighted(n_source, n_target, along)

    def make(
        self,
        pixels: NDArray[Any],
        origin: tuple[int, int],
        part: tuple[slice, slice],
        *,
        valid: NDArray[Any] | None = None,
        nodata: float | None = None,
    ) -> NDArray[Any]:
        """Make a part of the target.

        Parameters
        ----------
        pixels
            Source pixels (plane, row, col), at least those that `needs` names.
        origin
            Row and column of the source where they begin.
        part
            Rows and columns of the target.
        valid
            Weight of each source pixel, 0 where it is void: of the same shape, or one
            plane for all; None where all are valid.
        nodata
            What void target pixels become, and valid ones never; 0 bits without it.
        """
        if self.method == "nearest":
            rows, cols = (
                nearest(n, m, along) - o
                for n, m, along, o in zip(
                    self.source, self.target, part, origin, strict=True
                )
            )
            return pixels[:, rows[:, None], cols]
        if pixels.dtype == bool:
            return self._make_bool(pixels, origin, part, valid, nodata)
        rows_of, cols_of = (
            self._taps(n, m, along)
            for n, m, along in zip(self.source, self.target, part, strict=True)
        )
        void = _pixel(nodata, self.dtype)
        block = Block(pixels, valid, rows_of, cols_of, origin, void)
        return self._apply(block)

    def _apply(self, block: Block, most: float | None = None) -> NDArray[Any]:
        if self.method == "mode":
            return mode(block)
        if "complex" in self.dtype:
            out = complex_mean(block, squares=self.method == "rms")
            if self.dtype == COMPLEX_INT16:
                for name in ("real", "imag"):
                    whole = pixels_of(getattr(out, name), np.dtype("int16"))
                    setattr(out, name, whole)
            return out
        if self.method in KERNELS:
            return convolve(block, negative=KERNELS[self.method][2], most=most)
        return {"average": average, "rms": rms, "gauss": gauss}[self.method](block)

    def _make_bool(
        self,
        pixels: NDArray[Any],
        origin: tuple[int, int],
        part: tuple[slice, slice],
        valid: NDArray[Any] | None,
        nodata: float | None,
    ) -> NDArray[Any]:
        """Compute with bytes of 0 and 1."""
        rule = LevelRule(self.method, "uint8", self.source, self.target)
        out = rule.make(pixels.view(np.uint8), origin, part, valid=valid, nodata=nodata)
        bits: NDArray[Any] = np.minimum(out, 1).astype(bool)
        return bits


def valid_pixels(
    pixels: NDArray[Any], nodata: float | None, dtype: str
) -> NDArray[np.bool_] | None:
    """Give where pixels are not nodata; None where all are valid."""
    value = _pixel(nodata, dtype)
    if value is None:
        return None
    valid: NDArray[np.bool_] = ~np.isnan(pixels) if np.isnan(value) else pixels != value
    return valid


def _pixel(value: float | None, dtype: str) -> Any:
    """Give nodata as a pixel, None where no pixel can be equal to it."""
    data = pixel_bytes(value, dtype)
    kind = numpy_dtype(dtype)
    if data is None or len(data) != kind.itemsize:
        return None
    return np.frombuffer(data, kind.newbyteorder("<"))[0].astype(kind)
