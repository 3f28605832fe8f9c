"""All transforms of a plan in their order, forwards and backwards.

Strategy: `apply_plan` turns the parts of a tile into samples and side data and says how
wide the samples are; `undo_plan` asks for the samples once side data has told how many
there must be, and where they go. Neither knows FLAC.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.errors import CorruptTileError
from flac_xarray.transforms.bands import band_order, is_void_alike, plane_groups
from flac_xarray.transforms.classes import pack_classes, take_classes
from flac_xarray.transforms.masks import (
    PackedMask,
    blocks_of,
    open_counts,
    pack_gaps,
    pack_mask,
    spread_gaps,
    spread_mask,
    take_mask,
)
from flac_xarray.transforms.plan import Plan
from flac_xarray.transforms.predict import predict_residual, row_order, undo_residual
from flac_xarray.transforms.side import SideReader
from flac_xarray.transforms.streams import (
    pack_palette,
    pack_residual,
    pack_runs,
    spread_runs,
    take_pairs,
    take_palette,
    take_residual,
)
from flac_xarray.transforms.values import (
    add_offset,
    distinct,
    from_ranks,
    ints_to_parts,
    order_floats,
    parts_to_ints,
    to_ranks,
)
from flac_xarray.transforms.words import split_words

__all__ = [
    "MAX_CHANNELS",
    "Coded",
    "Mapped",
    "apply_plan",
    "code_values",
    "map_parts",
    "undo_plan",
]

Ints = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]
GetSamples = Callable[[Ints, int | None], None]
Bytes = bytes | memoryview

MAX_CHANNELS: Final = 8
_WIDE_BITS: Final = 24


@dataclass(frozen=True, slots=True)
class Coded:
    """What a tile has become."""

    plan: Plan
    """The plan that was carried out."""
    samples: Ints
    """Samples, shape (n,) or (n, channels), n at least 1."""
    bits_per_sample: int
    """Bits that hold each of them."""
    side: bytes
    """Side data."""
    is_dense: bool = False
    """Side data takes more than a bit a pixel."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """Parts of a tile after the transforms that look at one pixel at a time."""

    plan: Plan
    """The plan up to them."""
    values: Ints
    """Shape (plane, row, col); not to be changed."""
    valid: Mask | None
    """False where a pixel is void."""
    side: bytes
    """Side data so far."""

    @property
    def is_void_alike(self) -> bool:
        """Whether all planes are void at the same places."""
        return self.valid is None or bool((self.valid == self.valid[:1]).all())

    def rows(self, starts: Sequence[int], count: int) -> Mapped:
        """Give strips of `count` rows, as if each were a plane of its own."""
        values = np.concatenate([self.values[:, s : s + count] for s in starts])
        valid = self.valid
        if valid is not None:
            valid = np.concatenate([valid[:, s : s + count] for s in starts])
        return Mapped(self.plan, values, valid, b"")


def map_parts(parts: Ints, plan: Plan, effort: int) -> Mapped:
    """Apply a plan's void, order, scale, palette and offset.

    Parameters
    ----------
    parts : ndarray of integers, shape (plane, row, col)
    plan
        Whether scale, palette or offset can hold the values is the caller's business.
    effort
        0 to 9: how hard side data is compressed.
    """
    side: list[bytes] = []
    valid: Mask | None = None
    if plan.void is not None:
        valid = parts != np.frombuffer(plan.void, parts.dtype)[0]
        side.append(pack_mask(valid, effort=effort))
        # Any valid value keeps voids out of palettes and ranges.
        if valid.any():
            parts = np.where(valid, parts, parts[valid][0])
    values = _apply_values(parts, plan, effort, side)
    return Mapped(plan, values, valid, b"".join(side))


def code_values(mapped: Mapped, plan: Plan, effort: int) -> Coded:
    """Turn mapped values into samples by the rest of a plan."""
    values, side = mapped.values, [mapped.side]
    if plan.bands:
        # A void pixel's value is what its prediction says, so no plane can rely on it.
        if not is_void_alike(mapped.valid, plan.bands):
            raise ValueError("planes with different voids cannot refer to each other")
        values = values.copy()
        for band in band_order(plan.bands)[::-1]:
            values[band] -= values[plan.bands[band]]
    residual = np.empty(values.shape, f"i{values.dtype.itemsize}")
    for planes, dtype in plane_groups(plan.bands, values):
        valid = None if mapped.valid is None else mapped.valid[planes]
        left = predict_residual(values[planes].view(dtype), plan.predictor, valid)
        residual[planes] = left.view(residual.dtype)
    flat = _keep(residual, plan, mapped.valid, effort, side)
    bits, digits = _words(flat)
    is_whole = mapped.valid is None and not (
        plan.runs or plan.sparse or plan.classes or plan.packed
    )
    is_pixel = plan.pixel and is_whole and digits == 1 and len(values) <= MAX_CHANNELS
    plan = replace(plan, pixel=is_pixel)
    if is_pixel:
        samples = flat.reshape(len(values), -1).T
    else:
        samples = flat if digits == 1 else split_words(flat, bits, digits)
    packed = b"".join(side)
    return Coded(plan, samples, bits, packed, is_dense=8 * len(packed) > values.size)


def apply_plan(parts: Ints, plan: Plan, effort: int = 5) -> Coded:
    """Turn parts into samples: `map_parts`, then `code_values`."""
    return code_values(map_parts(parts, plan, effort), plan, effort)


def undo_plan(
    plan: Plan,
    side: Bytes,
    parts: Ints,
    get_samples: GetSamples,
    scratch: NDArray[np.uint8] | None = None,
) -> None:
    """Undo `apply_plan` into `parts`.

    Takes as much memory as the values, once more, and a bit a pixel for voids; twice as
    much where values and parts have other sizes.

    Parameters
    ----------
    plan, side
        From the tile's metadata.
    parts : ndarray of integers, shape (plane, row, col)
        Filled.
    get_samples
        Called once with a flat array to fill and, where the plan says it, the number of
        channels that there must be, one after another; else the channels of a sample
        are the digits of a value.
    scratch
        Bytes to work in, instead of new ones; used where there are enough.

    Raises
    ------
    CorruptTileError
        Side data and samples are not those of such a tile.
    """
    reader, shape = SideReader(side), parts.shape
    valid = None if plan.void is None else take_mask(reader, shape)
    dtype = _value_dtype(plan, parts.dtype)
    palette = None
    if plan.palette:
        most = min(parts.size, 1 << 8 * dtype.itemsize)
        palette = take_palette(reader, most, parts.dtype)
    residual = _empty(shape, np.dtype(f"i{dtype.itemsize}"), scratch)
    _take_residual(residual, plan, valid, reader, get_samples)
    is_alike = dtype.itemsize == parts.itemsize
    values = parts.view(dtype) if is_alike else np.empty(shape, dtype)
    _undo_prediction(residual, plan, values)
    del residual
    _undo_values(values, plan, palette, parts)
    if valid is not None:
        _fill_void(parts, plan.void or b"", valid)


def _undo_prediction(residual: Ints, plan: Plan, values: Ints) -> None:
    if plan.bands and len(plan.bands) != len(values):
        raise CorruptTileError(f"{len(plan.bands)} bands for {len(values)} planes")
    for planes, dtype in plane_groups(plan.bands, values):
        undo_residual(residual[planes], plan.predictor, values[planes].view(dtype))
    for band in band_order(plan.bands):
        values[band] += values[plan.bands[band]]


def _undo_values(values: Ints, plan: Plan, palette: Ints | None, parts: Ints) -> None:
    """Undo the maps of single pixels, which may share their memory, block by block."""
    for at in blocks_of(parts.shape):
        some, out = values[at], parts[at]
        if palette is not None:
            out[...] = from_ranks(some, palette)
        elif plan.offset:
            out[...] = add_offset(some, plan.offset[1], parts.dtype)
        elif plan.scale:
            out[...] = ints_to_parts(some, plan.scale, parts.dtype)
        elif not plan.order:
            return
        if plan.order:
            out[...] = order_floats(out)


def _fill_void(parts: Ints, void: bytes, valid: PackedMask) -> None:
    if len(void) != parts.dtype.itemsize:
        raise CorruptTileError("the void pattern has another size than a pixel")
    pixel = np.frombuffer(void, parts.dtype)[0]
    for at in blocks_of(parts.shape):
        np.copyto(parts[at], pixel, where=~valid.block(at))


def _apply_values(parts: Ints, plan: Plan, effort: int, side: list[bytes]) -> Ints:
    """Apply the maps of single pixels."""
    values = order_floats(parts) if plan.order else parts
    if plan.scale:
        return parts_to_ints(values, plan.scale)
    if plan.palette:
        palette = distinct(values)
        side.append(pack_palette(palette, effort))
        return to_ranks(values, palette)
    if plan.offset:
        dtype, offset = plan.offset
        return add_offset(values, -offset, np.dtype(dtype))
    return values


def _value_dtype(plan: Plan, parts: np.dtype[Any]) -> np.dtype[Any]:
    if plan.scale:
        return np.dtype(plan.scale.dtype)
    return np.dtype(plan.palette or (plan.offset[0] if plan.offset else parts))


def _keep(
    residual: Ints, plan: Plan, valid: Mask | None, effort: int, side: list[bytes]
) -> Ints:
    """Give the residuals that become samples; the rest is side data."""
    if plan.across:
        residual = np.diff(residual, axis=2, prepend=residual.dtype.type(0))
    if plan.runs:
        flat = pack_runs(residual.reshape(-1), plan.runs, effort, side)
    elif plan.sparse:
        kept = residual != 0
        side.append(pack_gaps(kept, effort=effort))
        flat = residual[kept]
    elif plan.classes:
        side.append(pack_classes(residual, plan.classes))
        flat = residual.reshape(-1)[:0]
    elif valid is not None and not plan.across:
        flat = residual[valid[:, row_order(valid.shape[1], plan.predictor)]]
    else:
        flat = residual.reshape(-1)
    if plan.packed:
        side.append(pack_residual(flat, effort))
        flat = flat[:0]
    return flat if flat.size else np.zeros(1, residual.dtype)


def _empty(
    shape: tuple[int, ...], dtype: np.dtype[Any], scratch: NDArray[np.uint8] | None
) -> Ints:
    nbytes = math.prod(shape) * dtype.itemsize
    if scratch is None or scratch.size < nbytes:
        return np.empty(shape, dtype)
    return scratch[:nbytes].view(dtype).reshape(shape)


def _take_residual(
    residual: Ints,
    plan: Plan,
    valid: PackedMask | None,
    reader: SideReader,
    get_samples: GetSamples,
) -> None:
    """Undo `_keep`: residuals of the values' size, in stored order.

    What is fewer is put at the end of the array, and spread over it from there.
    """
    flat, (planes, height, _) = residual.reshape(-1), residual.shape
    take = partial(_take, plan, planes=planes, reader=reader, get_samples=get_samples)
    if plan.classes and not plan.runs:
        get_samples(_nothing(), 1)
        take_classes(reader, plan.classes, residual)
        return
    if plan.runs == "pairs":
        get_samples(_nothing(), 1)
        take_pairs(reader, flat)
    elif plan.runs:
        lengths = open_counts(reader, flat.size, 1, flat.size)
        take(flat[flat.size - len(lengths) :])
        spread_runs(lengths, flat)
    elif plan.sparse:
        gaps = open_counts(reader, flat.size, 0, flat.size)
        take(flat[flat.size - len(gaps) :])
        spread_gaps(gaps, flat)
    elif valid is not None and not plan.across:
        take(flat[flat.size - valid.count :])
        spread_mask(valid.in_order(row_order(height, plan.predictor)), flat)
    else:
        take(flat)
    if plan.across:
        for at in blocks_of(residual.shape):
            part = residual[at]
            part[...] = np.add.accumulate(part, axis=2, dtype=part.dtype)


def _take(
    plan: Plan,
    out: Ints,
    *,
    planes: int,
    reader: SideReader,
    get_samples: GetSamples,
) -> None:
    """Fill a flat array with what was stored of the residuals."""
    if plan.packed:
        get_samples(_nothing(), 1)
        take_residual(reader, out)
    elif plan.pixel:
        if out.size % planes:
            raise CorruptTileError("planes of a tile cannot be its channels")
        get_samples(out, planes)
    else:
        get_samples(out if out.size else _nothing(), None)


def _nothing() -> Ints:
    """Where a sample without meaning goes."""
    return np.empty(1, np.int32)


def _words(flat: Ints) -> tuple[int, int]:
    """Choose bits and number of digits for these residuals."""
    low, high = int(flat.min()), int(flat.max())
    for bits in (8, 16, _WIDE_BITS):
        if -(1 << bits - 1) <= low and high < 1 << bits - 1:
            return bits, 1
    return _WIDE_BITS, -(-flat.dtype.itemsize * 8 // _WIDE_BITS)
