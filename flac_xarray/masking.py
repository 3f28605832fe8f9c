"""Stored pixels to masked and scaled ones, as rasterio masks and rioxarray scales them.

Strategy: the rules of GDAL's mask bands, in their order: a mask array of the file, then
nodata, then an alpha band. A `Masking` follows from the header alone, so tasks need not
carry one. Identity scales are left out: ``x * 1.0 + 0.0`` only loses the sign of -0.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from flac_xarray.dtypes import numpy_dtype, pixel_bytes
from flac_xarray.errors import FormatError
from flac_xarray.header import ArrayInfo, Header
from flac_xarray.selection import Selection

__all__ = ["Masking", "Read", "band_numbers"]

Read = Callable[[int, Selection], NDArray[Any]]
"""Reads a selection of the array at a position of `Header.arrays`, in flat shape."""

ALPHA_COUNTS: Final = (2, 4)
"""Band counts in which GDAL lets a last alpha band mask the others."""
SMALL_ITEMSIZE: Final = 2
"""Integers up to this many bytes fit float32 exactly."""


@dataclass(frozen=True, slots=True)
class Masking:
    """How one array's stored pixels become values.

    Examples
    --------
    >>> info = ArrayInfo("t", "int16", ("y", "x"), (1, 3), (1, 3), nodata=(-1,),
    ...                  bands=({"scale": 0.5},))
    >>> masking = Masking.of(Header((info,)), 0)
    >>> block = Selection.basic((slice(None), slice(None)), (1, 3))
    >>> masking.apply(np.array([[-1, 0, 3]], "int16"), block, lambda *_: None)
    array([[nan, 0. , 1.5]], dtype=float32)
    """

    position: int
    """Which of `Header.arrays` holds the pixels."""
    dtype: np.dtype[Any]
    """Element type of the values."""
    stored: str
    """Format dtype of the pixels."""
    nodata: tuple[float | None, ...]
    """Nodata: one for all bands, or one per band."""
    scales: tuple[float, ...]
    """One for all bands, or one per band."""
    offsets: tuple[float, ...]
    """One for all bands, or one per band."""
    band_axis: int | None
    """Axis of the bands."""
    mask: int | None = None
    """Position of the array that holds the mask."""
    unmasked_axes: tuple[int, ...] = ()
    """Axes that the mask lacks: it holds for every position along them."""
    alpha: int | None = None
    """Band that masks the others where it is 0."""

    @classmethod
    def of(cls, header: Header, position: int) -> Self:
        """Find the rules of one array."""
        info = header.arrays[position]
        mask = _mask_of(header, info)
        nodata = info.nodata if any(v is not None for v in info.nodata) else (None,)
        scales = band_numbers(info.bands, "scale", 1.0) or (1.0,)
        offsets = band_numbers(info.bands, "offset", 0.0) or (0.0,)
        alpha = _alpha_of(info) if mask is None and nodata == (None,) else None
        scaled = set(scales) != {1.0} or set(offsets) != {0.0}
        masked = mask is not None or nodata != (None,) or alpha is not None
        return cls(
            position=position,
            dtype=_promoted(info.dtype, needed=scaled or masked),
            stored=info.dtype,
            nodata=nodata,
            scales=_one_if_equal(scales),
            offsets=_one_if_equal(offsets),
            band_axis=info.dims.index("band") if "band" in info.dims else None,
            mask=mask,
            unmasked_axes=() if mask is None else _lacking(info, header.arrays[mask]),
            alpha=alpha,
        )

    @property
    def scaled(self) -> bool:
        """Whether any scale or offset changes a value."""
        return set(self.scales) != {1.0} or set(self.offsets) != {0.0}

    def apply(
        self, pixels: NDArray[Any], selection: Selection, read: Read
    ) -> NDArray[Any]:
        """Mask and scale pixels.

        Parameters
        ----------
        pixels
            What `read` gave for the selection, in flat shape.
        selection
            Where they lie.
        read
            Reads the mask or the alpha band.
        """
        # NumPy warns about signalling NaNs that are cast; their bits are data here.
        with np.errstate(invalid="ignore"):
            out = pixels.astype(self.dtype)
        void = self._void(pixels, selection, read)
        if void is not None:
            np.copyto(out, self.dtype.type(np.nan), where=void)
        if self.scaled:
            out *= self._per_band(self.scales, selection)
            out += self._per_band(self.offsets, selection)
        return out

    def _void(
        self, pixels: NDArray[Any], selection: Selection, read: Read
    ) -> NDArray[np.bool_] | None:
        axis = self.band_axis
        if self.mask is not None:
            return self._masked(self.mask, selection, self.unmasked_axes, read)
        if self.alpha is not None and axis is not None:
            band = np.arange(self.alpha + 1) != self.alpha
            void = _is_zero(read(self.position, selection.at(axis, self.alpha)))
            others: NDArray[np.bool_] = selection.along(axis, band)
            return void & others
        if self.nodata == (None,):
            return None
        values = [_comparable(v, self.stored) for v in self.nodata]
        if len(values) == 1:
            return _equal(pixels, values[0])
        assert axis is not None  # noqa: S101  (ArrayInfo checks it)
        void = np.zeros(pixels.shape, bool)
        for value in {repr(v): v for v in values}.values():
            here = np.array([repr(v) == repr(value) for v in values])
            void |= _equal(pixels, value) & selection.along(axis, here)
        return void

    def _masked(
        self, mask: int, selection: Selection, axes: tuple[int, ...], read: Read
    ) -> NDArray[np.bool_]:
        """Read the mask and let it broadcast along the axes that it lacks."""
        if not axes:
            return _is_zero(read(mask, selection))
        *rest, last = axes
        void = self._masked(mask, selection.without(last), tuple(rest), read)
        widened: NDArray[np.bool_] = selection.widened(void, last)
        return widened

    def _per_band(
        self, values: tuple[float, ...], selection: Selection
    ) -> NDArray[Any] | float:
        if len(values) == 1 or self.band_axis is None:
            return values[0]
        real = self.dtype if self.dtype.kind == "f" else np.dtype("float64")
        return selection.along(self.band_axis, np.array(values, real))


def band_numbers(
    bands: Sequence[Mapping[str, Any]], key: str, default: float
) -> tuple[float, ...]:
    """Give one number of every band."""
    return tuple(float(band.get(key, default)) for band in bands)


def _is_zero(pixels: NDArray[Any]) -> NDArray[np.bool_]:
    zero: NDArray[np.bool_] = pixels == 0
    return zero


def _mask_of(header: Header, info: ArrayInfo) -> int | None:
    """Position of the mask of an array: of its own name first, else of the file."""
    masks = [
        k
        for k, other in enumerate(header.arrays)
        if other.role == "mask"
        and other.level == info.level
        and other.shape[-2:] == info.shape[-2:]
        and set(other.dims) <= set(info.dims)
    ]
    own = [k for k in masks if header.arrays[k].name == info.name]
    return next(iter(own or masks), None)


def _lacking(info: ArrayInfo, mask: ArrayInfo) -> tuple[int, ...]:
    """Give the axes of an array that its mask lacks."""
    shared = tuple(dim for dim in info.dims if dim in mask.dims)
    if shared != mask.dims:
        msg = f"mask {mask.name!r} has dims {mask.dims}: those of the data are {shared}"
        raise FormatError(msg)
    return tuple(k for k, dim in enumerate(info.dims) if dim not in mask.dims)


def _alpha_of(info: ArrayInfo) -> int | None:
    """Find the band that GDAL would take for an alpha mask."""
    if info.n_bands not in ALPHA_COUNTS or not info.bands:
        return None
    if info.bands[-1].get("colorinterp") != "alpha":
        return None
    return info.n_bands - 1 if info.dtype in ("uint8", "uint16") else None


def _promoted(name: str, *, needed: bool) -> np.dtype[Any]:
    """Element type that holds the pixels and NaN.

    As xarray's ``maybe_promote`` has it, but where nothing is masked or scaled, 64-bit
    integers and booleans stay what they are: float64 cannot hold them all.
    """
    dtype = numpy_dtype(name)
    if dtype.kind in "fc":
        return dtype
    if not needed and (dtype.kind == "b" or dtype.itemsize > 4):  # noqa: PLR2004
        return dtype
    small = dtype.itemsize <= SMALL_ITEMSIZE
    return np.dtype("float32" if small else "float64")


def _one_if_equal(values: tuple[float, ...]) -> tuple[float, ...]:
    return values[:1] if len(set(values)) == 1 else values


def _comparable(value: float | None, name: str) -> Any:
    """Nodata as an element of the stored dtype; None where no pixel can equal it."""
    pixel = pixel_bytes(value, name)
    if pixel is None:
        return None
    if len(pixel) != numpy_dtype(name).itemsize:
        msg = f"nodata {value!r} cannot be compared with {name} pixels"
        raise FormatError(msg)
    return np.frombuffer(pixel, numpy_dtype(name).newbyteorder("<"))[0]


def _equal(pixels: NDArray[Any], value: Any) -> NDArray[np.bool_]:
    if value is None:
        return np.zeros(pixels.shape, bool)
    equal: NDArray[np.bool_] = np.isnan(pixels) if value != value else pixels == value  # noqa: PLR0124
    return equal
