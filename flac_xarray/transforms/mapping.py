"""Which map of single pixels suits a tile: void, order, scale, palette or offset.

Strategy: exact where it is cheap (extremes), from a sample where it is not (how many
values there are), and proven on all pixels before it is used.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.transforms.plan import Plan
from flac_xarray.transforms.predict import has_headroom
from flac_xarray.transforms.scaling import Scale, find_scale
from flac_xarray.transforms.values import distinct, order_floats, parts_to_ints

__all__ = ["choose_map", "find_common", "find_void"]

Ints = NDArray[np.integer[Any]]

_SAMPLE: Final = 8192
_MAX_PALETTE: Final = 1 << 16
_DENSE: Final = 0.75
"""Share of the values in their range that makes ranks no shorter than offsets."""
_SMOOTH_RANGE: Final = 1 << 13
_COMMON: Final = 0.15
"""Share of a tile that one value must have to be left out of the samples."""


def find_void(parts: Ints, nodata: bytes | None, *, is_float: bool) -> bytes | None:
    """Give the bits that mean nodata, where the tile has any."""
    if nodata is not None and len(nodata) == parts.itemsize:
        pattern = np.frombuffer(nodata, parts.dtype)[0]
        if (parts == pattern).any():
            return nodata
    if is_float:
        nan = np.isnan(parts.view(f"f{parts.itemsize}"))
        if nan.any():
            return bytes(parts[nan][:1].tobytes())
    return None


def find_common(parts: Ints) -> bytes | None:
    """Give the bits that many parts of a tile have, such as those of the sea.

    FLAC spends a bit on each of them; as voids they are runs.
    """
    some = parts.reshape(-1)[:: max(1, parts.size // _SAMPLE)]
    values, counts = np.unique(some, return_counts=True)
    at = int(counts.argmax())
    if len(values) == 1 or counts[at] < _COMMON * some.size:
        return None
    return bytes(values[at : at + 1].tobytes())


def choose_map(parts: Ints, void: bytes | None, *, is_float: bool) -> Plan:
    """Choose how pixels become integers: by a scale, a palette, an offset or not."""
    base = Plan(void=void)
    valid = parts
    if void is not None:
        valid = parts[parts != np.frombuffer(void, parts.dtype)[0]]
        if not valid.size:
            return base
    ordered = order_floats(valid) if is_float else valid
    low, high = int(ordered.min()), int(ordered.max())
    extent, scale = high - low, None
    if is_float:
        scale = find_scale(valid.view(f"f{parts.itemsize}"))
        if scale:
            scaled = _scaled_extent(low, high, scale, parts.dtype)
            scale, extent = (scale, scaled) if scaled < extent // 6 else (None, extent)
        base = replace(base, order=low < 0)
    some = valid.reshape(-1)[:: max(1, valid.size // _SAMPLE)]
    is_gapped = is_float or extent > _MAX_PALETTE or _is_gapped(valid, some)
    if is_gapped and len(np.unique(some)) < min(some.size // 2, int(extent * _DENSE)):
        palette = distinct(valid)
        if len(palette) <= min(_MAX_PALETTE, valid.size // 4, int(extent * _DENSE)):
            return replace(base, palette=_unsigned(len(palette) - 1))
    if scale:
        return replace(base, order=False, scale=scale)
    return base if is_float else _choose_offset(valid, base, low, extent)


def _is_gapped(valid: Ints, some: Ints) -> bool:
    """Whether integers are missing among the usual ones, not in the tails alone."""
    low, high = (int(v) for v in np.percentile(some, (5, 95), method="nearest"))
    usual = np.unique(some[(some >= low) & (some <= high)])
    if len(usual) >= _DENSE * (high - low + 1):
        return False
    usual = distinct(valid)
    count = np.count_nonzero((usual >= low) & (usual <= high))
    return bool(count < _DENSE * (high - low + 1))


def _choose_offset(valid: Ints, base: Plan, low: int, extent: int) -> Plan:
    """Choose a narrower dtype, or one in which `smooth` has headroom."""
    if valid.itemsize == 1:
        return base
    dtype = _unsigned(extent)
    is_narrower = np.dtype(dtype).itemsize < valid.itemsize
    if is_narrower or (extent < _SMOOTH_RANGE and not has_headroom(valid)):
        return replace(base, offset=(dtype, low))
    return base


def _scaled_extent(low: int, high: int, scale: Scale, dtype: np.dtype[Any]) -> int:
    """Give the extent of the integers, from ordered bits of the extreme floats."""
    ends = parts_to_ints(order_floats(np.array([low, high], dtype)), scale)
    return int(ends[1]) - int(ends[0])


def _unsigned(largest: int) -> str:
    """Give the smallest dtype that holds 0 to `largest`."""
    return str(np.min_scalar_type(largest).str[1:])
