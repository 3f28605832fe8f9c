"""Which transforms suit a tile (docs/format.md, section 4.8: advice to writers).

Strategy: a few strips of rows stand for the tile. First its values are mapped to near
integers (a scale, a palette, an offset), then candidate plans are carried out on the
strips and their frames counted, with a fast level; the smallest wins. LZMA is tried
only where neighbours are equal often, or on floats, for it is slow. What `effort` means
is one table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flac_xarray import flac_frames
from flac_xarray.transforms.classes import class_bits
from flac_xarray.transforms.mapping import choose_map, find_common, find_void
from flac_xarray.transforms.pipeline import (
    MAX_CHANNELS,
    Coded,
    Mapped,
    code_values,
    map_parts,
)
from flac_xarray.transforms.plan import MAX_PLANES, Plan
from flac_xarray.transforms.predict import has_headroom

__all__ = ["EFFORTS", "Effort", "choose"]

Ints = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Effort:
    """What an effort from 0 to 9 means."""

    level: int
    """Level of `flac_frames.encode_samples`."""
    blocksize: int
    """Samples of a channel per FLAC frame."""
    rows: int
    """Rows of a tile that candidates are tried on."""
    predictors: int
    """How many predictors are tried."""
    margin: float
    """How much smaller LZMA must make floats and classes to be preferred to FLAC."""
    image_margin: float
    """The same for images and terrain, whose readers want FLAC's speed."""


EFFORTS: Final = (
    Effort(0, 4096, 16, 1, 0.5, 0.5),
    Effort(1, 4096, 16, 2, 0.7, 0.5),
    Effort(1, 2048, 32, 4, 0.8, 0.6),
    Effort(1, 2048, 32, 4, 0.85, 0.7),
    Effort(2, 2048, 32, 4, 0.9, 0.7),
    Effort(2, 2048, 64, 4, 0.94, 0.82),
    Effort(2, 2048, 64, 4, 0.97, 0.85),
    Effort(3, 2048, 96, 4, 0.99, 0.95),
    Effort(3, 2048, 128, 4, 1.0, 1.0),
    Effort(3, 2048, 1 << 16, 4, 1.0, 1.0),
)
STRIP: Final = 32
_TRIAL_LEVEL: Final = 1
_RANK_LEVEL: Final = 0
"""Levels above rank predictors alike, but for a fraction of a percent."""
_TRIAL_EFFORT: Final = 0
_OFTEN: Final = 0.25
"""Share of pixels equal to the one above or to the left that makes LZMA worth a try."""
_SOMETIMES: Final = 0.1
_CLASSES: Final = 0.6
"""The same for tiles that are maps of classes: FLAC has no chance."""
_NEAR: Final = 1.15
_CLOSE: Final = 1.08
_CLEARLY: Final = 0.97


def choose(
    parts: Ints, *, is_float: bool, nodata: bytes | None, effort: int, is_pixel: bool
) -> Coded:
    """Choose the transforms of a tile and carry them out.

    Parameters
    ----------
    parts : ndarray of integers, shape (plane, row, col)
    is_float
        The integers are the bits of floats.
    nodata
        Little-endian bits of one nodata part.
    effort
        0 to 9.
    is_pixel
        Planes are to be channels.
    """
    setting = EFFORTS[effort]
    void = find_void(parts, nodata, is_float=is_float)
    mapped = map_parts(parts, choose_map(parts, void, is_float=is_float), effort)
    strips = _strips(mapped, setting.rows)
    equal = _equal_share(strips.values)
    is_classes = equal > _CLASSES and mapped.values.itemsize == 1
    # Gaps between the values come from a rescaling, which makes repeats too.
    is_gapped = mapped.plan.palette is not None and equal > _SOMETIMES
    is_image = mapped.values.itemsize > 1 and not (is_float or is_gapped)
    margin = setting.image_margin if is_image else setting.margin
    rated: list[_Rated] = []
    if not is_classes or void is not None or is_pixel:
        rated.append(
            _choose_flac(mapped, strips, setting.predictors, is_pixel=is_pixel)
        )
        common = None if void is not None or is_pixel else find_common(parts)
        if common is not None:
            plan = choose_map(parts, common, is_float=is_float)
            rated = [_without_common(map_parts(parts, plan, effort), setting, rated[0])]
    if not is_pixel and (equal > _OFTEN or is_gapped or is_float):
        both = [mapped]
        if void is not None and not is_image:
            plan = choose_map(parts, None, is_float=is_float)
            both.append(map_parts(parts, plan, effort))
        near = _NEAR * (margin if is_image else 1.0)
        rated += _rate_others(both, setting.rows, rated, near, is_classes=is_classes)
    coded = [code_values(r.mapped, r.plan, effort) for r in rated]
    if len(coded) == 1:
        return coded[0]
    return min(coded, key=lambda c: _cost(c, setting.level, margin))


class _Rated(NamedTuple):
    """A candidate and the size of the sample with it."""

    nbytes: int
    plan: Plan
    mapped: Mapped


def _choose_flac(
    mapped: Mapped, strips: Mapped, count: int, *, is_pixel: bool
) -> _Rated:
    """Choose the planes' references and the predictor for FLAC."""
    bands = _choose_bands(mapped, strips.values)
    base = replace(mapped.plan, bands=bands, pixel=is_pixel)
    names = ["lift", "up", "smooth", "none"]
    if not (has_headroom(strips.values) and has_headroom(mapped.values)):
        names.remove("smooth")
    plans = [replace(base, predictor=name) for name in names[:count]]
    best = min(plans, key=lambda plan: _trial(strips, plan, _RANK_LEVEL))
    return _Rated(_trial(strips, best), best, mapped)


def _without_common(mapped: Mapped, setting: Effort, rival: _Rated) -> _Rated:
    """Give the better of a plan that leaves a common value out, and its rival."""
    strips = _strips(mapped, setting.rows)
    rated = _choose_flac(mapped, strips, setting.predictors, is_pixel=False)
    share = strips.values.size / mapped.values.size
    nbytes = rated.nbytes + round(share * len(mapped.side))
    return rated._replace(nbytes=nbytes) if nbytes < _CLEARLY * rival.nbytes else rival


def _rate_others(
    both: Sequence[Mapped],
    rows: int,
    rivals: Sequence[_Rated],
    near: float,
    *,
    is_classes: bool,
) -> list[_Rated]:
    """Give the plans that put everything into side data and may be worth it."""
    others = [r for m in both for r in _rate_packed(m, _strips(m, rows))]
    others.sort(key=lambda other: other.nbytes)
    best = others[0].nbytes
    # Samples are deflated, quickly; LZMA will do better on the whole tile.
    chosen: list[_Rated] = []
    if not rivals or best < rivals[0].nbytes * near:
        chosen += [other for other in others[:2] if other.nbytes < best * _CLOSE]
    if is_classes:
        # What the neighbours tell is learned on the way: strips show too little.
        for mapped in both:
            plan = replace(mapped.plan, classes=class_bits(mapped.values))
            if all(r.plan != plan for r in chosen):
                chosen.append(_Rated(0, plan, mapped))
    return chosen


def _choose_bands(mapped: Mapped, strips: Ints) -> tuple[int, ...]:
    """Choose for each plane the plane to subtract from it: a cheapest tree.

    With many planes only the one before is considered.
    """
    count = len(mapped.values)
    if not 1 < count <= MAX_PLANES or not mapped.is_void_alike:
        return ()
    planes = strips.reshape(-1, count, *strips.shape[1:])
    alone = [_bits(planes[:, k]) for k in range(count)]
    if count > MAX_CHANNELS:
        after = sum(_bits(planes[:, k] - planes[:, k - 1]) for k in range(1, count))
        return tuple(range(-1, count - 1)) if after < _CLEARLY * sum(alone[1:]) else ()
    bands, done = [-1] * count, {int(np.argmin(alone))}
    while len(done) < count:
        costs = [
            (_bits(planes[:, k] - planes[:, j]), k, j)
            for k in range(count)
            for j in done
            if k not in done
        ]
        cost, k, j = min(costs)
        if cost < _CLEARLY * alone[k]:
            bands[k] = j
        done.add(k)
    return tuple(bands) if max(bands) >= 0 else ()


def _bits(values: Ints) -> float:
    """Estimate bits a pixel, were the rows predicted."""
    signed = values.view(f"i{values.dtype.itemsize}")
    steps = np.diff(np.diff(signed, axis=-1), axis=-2)
    if not steps.size:
        steps = signed
    return float(np.log2(1.0 + np.abs(steps.astype(np.float32))).mean())


def _rate_packed(mapped: Mapped, strips: Mapped) -> list[_Rated]:
    bands = _choose_bands(mapped, strips.values)
    base = replace(mapped.plan, bands=bands, packed=True)
    plans = [
        replace(base, predictor="up", across=True),
        replace(base, across=True),
        base,
        replace(base, predictor="up", sparse=True),
        replace(base, sparse=True),
    ]
    if bits := class_bits(mapped.values):
        plans.append(replace(mapped.plan, classes=bits))
    elif _equal_share(strips.values) <= _CLASSES:
        plans.append(replace(mapped.plan, runs="apart", packed=True))
    return [_Rated(_trial(strips, plan), plan, mapped) for plan in plans]


def _strips(mapped: Mapped, rows: int) -> Mapped:
    height = mapped.values.shape[1]
    count = max(1, rows // STRIP)
    if height <= (count + 1) * STRIP:
        return mapped
    starts = np.linspace(0, height - STRIP, count + 2).astype(int)[1:-1]
    return mapped.rows(starts.tolist(), STRIP)


def _equal_share(values: Ints) -> float:
    """Share of pixels that equal the one to the left, or above, whichever is more."""
    left = values[:, :, 1:] == values[:, :, :-1]
    above = values[:, 1:] == values[:, :-1]
    return float(max((a.mean() for a in (left, above) if a.size), default=1.0))


def _trial(strips: Mapped, plan: Plan, level: int = _TRIAL_LEVEL) -> int:
    if plan.bands:
        bands = _tile_bands(plan.bands, len(strips.values))
        plan = replace(plan, bands=bands)
    coded = code_values(strips, replace(plan, pixel=False), _TRIAL_EFFORT)
    return _nbytes(coded, level)


def _tile_bands(bands: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Repeat references for each strip's planes."""
    starts = range(0, count, len(bands))
    return tuple(band + s if band >= 0 else -1 for s in starts for band in bands)


def _cost(coded: Coded, level: int, margin: float) -> float:
    """Size of a coded tile, more where it is slow to decode."""
    size = _nbytes(coded, level)
    is_slow = coded.plan.packed or (coded.plan.classes and coded.is_dense)
    return size / margin if is_slow else size


def _nbytes(coded: Coded, level: int) -> int:
    """Size of a coded tile without its comments."""
    if len(coded.samples) == 1:
        return len(coded.side)
    nbytes = flac_frames.count_frames(coded.samples, coded.bits_per_sample, level=level)
    return nbytes + len(coded.side)
