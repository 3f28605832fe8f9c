"""Pixels to integers, as near each other as can be (docs/format.md, section 4.4).

Strategy: first the bit patterns of the pixels as integers of the same size
(`to_parts`), then an order-preserving map of float bits, and at most one of: a scale,
ranks in a palette, a smaller dtype after an offset. Every map is a bijection on bit
patterns: NaN payloads, -0.0 and infinities come back as they were.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.dtypes import COMPLEX_INT16, numpy_dtype
from flac_xarray.errors import CorruptTileError, UnsupportedDataError
from flac_xarray.transforms.scaling import Scale, scale_floats, unscale_ints

__all__ = [
    "add_offset",
    "check_parts",
    "distinct",
    "from_parts",
    "from_ranks",
    "ints_to_parts",
    "order_floats",
    "part_dtype",
    "parts_shape",
    "parts_to_ints",
    "parts_view",
    "to_parts",
    "to_ranks",
]

Ints = NDArray[np.integer[Any]]
Pixels = NDArray[Any]

_MAX_TABLE: Final = 1 << 20
"""Most entries of a table of the values between the lowest and the highest."""
_FLOAT_BITS: Final = {2: np.int16, 4: np.int32, 8: np.int64}


def part_dtype(name: str) -> np.dtype[Any]:
    """Give the integer dtype whose bits hold one part of a pixel.

    Examples
    --------
    >>> part_dtype("float32"), part_dtype("bool"), part_dtype("complex_int16")
    (dtype('int32'), dtype('uint8'), dtype('int16'))
    """
    if name == COMPLEX_INT16:
        return np.dtype(np.int16)
    dtype = numpy_dtype(name)
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind in "iu":
        return dtype
    return np.dtype(_FLOAT_BITS[dtype.itemsize // (2 if dtype.kind == "c" else 1)])


def parts_shape(shape: tuple[int, ...], name: str) -> tuple[int, int, int]:
    """Give (plane, row, col) of a tile's parts: complex pixels have two planes."""
    planes = int(np.prod(shape[:-2], dtype=np.int64))
    return planes * (2 if _is_complex(name) else 1), shape[-2], shape[-1]


def to_parts(tile: Pixels, name: str) -> Ints:
    """Give the bits of a tile's pixels as integers.

    Parameters
    ----------
    tile : ndarray, shape (..., row, col)
    name
        Format dtype.

    Returns
    -------
    ndarray, shape `parts_shape`, dtype `part_dtype`
        Plane 2p holds the real, plane 2p + 1 the imaginary parts of complex plane p.

    Raises
    ------
    UnsupportedDataError
        A part of a complex_int16 pixel is not an int16.
    """
    planes, height, width = parts_shape(tile.shape, name)
    dtype = part_dtype(name)
    flat = np.ascontiguousarray(tile, numpy_dtype(name))
    if not _is_complex(name):
        return flat.view(dtype).reshape(planes, height, width)
    float_dtype = np.float32 if flat.dtype.itemsize == 8 else np.float64  # noqa: PLR2004
    pairs = flat.view(float_dtype).reshape(planes // 2, height, width, 2)
    parts = np.ascontiguousarray(pairs.transpose(0, 3, 1, 2))
    parts = parts.reshape(planes, height, width)
    if name != COMPLEX_INT16:
        return parts.view(dtype)
    with np.errstate(invalid="ignore"):
        ints = parts.astype(np.int16)
    # Compared as bits: -0.0 and NaN are refused along with fractions.
    if (ints.astype(np.float32).view(np.int32) != parts.view(np.int32)).any():
        raise UnsupportedDataError(
            "a complex_int16 pixel has a part that is not an integer of 16 bits",
            dtype=name,
        )
    return ints


def parts_view(tile: Pixels, name: str) -> Ints | None:
    """Give a tile's parts as a view of it; None where there is none.

    The parts of complex pixels lie between one another, and planes of a view of a
    larger array may lie anywhere.
    """
    if _is_complex(name):
        return None
    parts = tile.view(part_dtype(name)).reshape(parts_shape(tile.shape, name))
    return parts if np.may_share_memory(parts, tile) else None


def check_parts(parts: Ints, name: str) -> None:
    """Check that parts are those of pixels.

    Raises
    ------
    CorruptTileError
        A bool pixel is neither 0 nor 1.
    """
    if name == "bool" and parts.size and parts.max() > 1:
        parts &= 1  # no array of bools holds anything else
        raise CorruptTileError("a bool tile holds values beyond 0 and 1")


def from_parts(parts: Ints, name: str, out: Pixels) -> None:
    """Undo `to_parts` into `out`, an array of the tile's shape."""
    if not _is_complex(name):
        out[...] = parts.view(out.dtype).reshape(out.shape)
        return
    pairs = parts.reshape(*out.shape[:-2], 2, *out.shape[-2:])
    if name != COMPLEX_INT16:
        pairs = pairs.view(out.real.dtype)
    # Part by part: arithmetic with 1j would not keep -0.0 and NaN bits.
    out.real = pairs[..., 0, :, :]
    out.imag = pairs[..., 1, :, :]


def order_floats(bits: Ints) -> Ints:
    """Map float bits to integers that sort like the floats; its own inverse.

    Examples
    --------
    >>> bits = np.array([-1.0, -0.0, 0.0, 1.0], np.float32).view(np.int32)
    >>> order_floats(bits).tolist()
    [-1065353217, -1, 0, 1065353216]
    """
    sign = bits >> (bits.dtype.itemsize * 8 - 1)
    sign &= np.iinfo(bits.dtype).max
    sign ^= bits
    return sign


def to_ranks(values: Ints, palette: Ints) -> Ints:
    """Give each value's position in a sorted palette that holds them all."""
    dtype = _rank_dtype(len(palette))
    extent = int(palette[-1]) - int(palette[0])
    if extent > _MAX_TABLE:
        return np.searchsorted(palette, values).astype(dtype)
    # A table is several times as fast as a search.
    ranks = np.zeros(extent + 1, dtype)
    ranks[_above(palette, palette[0])] = np.arange(len(palette), dtype=dtype)
    return ranks[_above(values, palette[0])]


def distinct(values: Ints) -> Ints:
    """Give the sorted values that occur.

    Examples
    --------
    >>> distinct(np.array([3, -2, 3], np.int16))
    array([-2,  3], dtype=int16)
    """
    low, high = values.min(), values.max()
    extent = int(high) - int(low)
    if extent > min(_MAX_TABLE, 8 * values.size):
        return np.unique(values)
    occurs = np.zeros(extent + 1, np.bool_)
    occurs[_above(values, low)] = True
    return (np.flatnonzero(occurs) + int(low)).astype(values.dtype)


def _above(values: Ints, low: Any) -> Ints:
    """Give distances from the lowest value; modulo, so never negative."""
    distances: Ints = (values - low).view(f"u{values.itemsize}")
    return distances


def from_ranks(ranks: Ints, palette: Ints) -> Ints:
    """Undo `to_ranks`.

    Raises
    ------
    CorruptTileError
        A rank lies outside the palette.
    """
    if ranks.size and not 0 <= ranks.min() <= ranks.max() < len(palette):
        raise CorruptTileError("a tile has a rank outside its palette")
    return palette[ranks]


def _rank_dtype(count: int) -> np.dtype[Any]:
    return np.min_scalar_type(max(count - 1, 0))


def add_offset(values: Ints, offset: int, dtype: np.dtype[Any]) -> Ints:
    """Add modulo 2**bits of `dtype` and give that dtype.

    Examples
    --------
    >>> add_offset(np.array([0, 65535], np.uint16), -65530, np.dtype("i1")).tolist()
    [6, 5]
    """
    total = values.astype(dtype)
    wrapped = offset % (1 << dtype.itemsize * 8)
    total += np.array(wrapped, f"u{dtype.itemsize}").astype(dtype)
    return total


def parts_to_ints(parts: Ints, scale: Scale) -> Ints:
    """Give the integers that float bits are multiples of; `scale` must hold."""
    ints = scale_floats(parts.view(f"f{parts.dtype.itemsize}"), scale)
    if ints is None:
        raise ValueError(f"{scale} does not hold for these floats")
    return ints.astype(scale.dtype)


def ints_to_parts(ints: Ints, scale: Scale, dtype: np.dtype[Any]) -> Ints:
    """Undo `parts_to_ints`."""
    if dtype.itemsize not in _FLOAT_BITS:
        raise CorruptTileError("a tile of one byte a pixel has no scale")
    return unscale_ints(ints, scale, np.dtype(f"f{dtype.itemsize}")).view(dtype)


def _is_complex(name: str) -> bool:
    return numpy_dtype(name).kind == "c"
