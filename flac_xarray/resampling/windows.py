"""Average, RMS and mode of the source pixels under each target pixel.

Strategy: sums run over taps, not over pixels: the k-th source pixels of all targets are
added at once, along x, then along y, which is the order in which GDAL adds. Arrays are
(plane, row, col); `Block` says where they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.resampling.axis import Taps
from flac_xarray.resampling.rounding import next_to_nodata, pixels_of, work_dtype
from flac_xarray.resampling.sums import sum_along

__all__ = ["Block", "average", "complex_mean", "mode", "rms"]

PAIR: Final = 2
UNSIGNED: Final = (np.dtype("uint8"), np.dtype("uint16"))
"""Dtypes that GDAL averages as integers."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Source pixels, and which of them each target pixel sees."""

    pixels: NDArray[Any]
    """Shape (plane, row, col)."""
    valid: NDArray[Any] | None
    """Weight of each pixel, 0 where void: the same shape, or one plane for all."""
    rows: Taps
    cols: Taps
    origin: tuple[int, int]
    """Row and column of the source where `pixels` begins."""
    nodata: Any = None
    """What void target pixels are, in the dtype of `pixels`."""

    @property
    def fill(self) -> Any:
        """The pixel that is void."""
        return self.pixels.dtype.type(0) if self.nodata is None else self.nodata

    def along_x(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Add up values with the weights of the columns."""
        return sum_along(values, self.cols, self.cols.weights, self.origin[1], axis=2)

    def along_y(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Add up values with the weights of the rows."""
        return sum_along(values, self.rows, self.rows.weights, self.origin[0], axis=1)


def average(block: Block) -> NDArray[Any]:
    """Give the mean of the valid pixels, each weighed by its part of the window."""
    return _with_pairs(block, _mean, _mean_of_pairs)


def rms(block: Block) -> NDArray[Any]:
    """Give the root of the mean of squares of the valid pixels."""
    return _with_pairs(block, _root_mean, _rms_of_pairs)


def _with_pairs(
    block: Block,
    general: Callable[[Block], NDArray[Any]],
    of_pairs: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]],
) -> NDArray[Any]:
    """Take windows of 2 x 2 at once, all pixels valid: GDAL does not weigh them."""
    two = block.rows.count == PAIR
    if block.valid is not None or not block.cols.pairs or not two.any():
        return general(block)
    left = int(block.cols.start[0]) - block.origin[1]
    cols = slice(left, left + PAIR * len(block.cols.start))
    top = block.rows.start[two] - block.origin[0]
    pairs = of_pairs(block.pixels[:, top, cols], block.pixels[:, top + 1, cols])
    if two.all():
        return pairs
    out = general(block)
    out[:, two] = pairs
    return out


def _mean_of_pairs(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    dtype = first.dtype
    a, b, c, d = _four(first, second)
    if dtype in UNSIGNED:
        total = a.astype(np.uint32) + b + c + d
        rounded: NDArray[Any] = ((total + 2) >> 2).astype(dtype)
        return rounded
    a, b, c, d = (v.astype(work_dtype(dtype), copy=False) for v in (a, b, c, d))
    with np.errstate(over="ignore", invalid="ignore"):
        # GDAL adds float32 in columns first, four results at a time.
        total = (a + c) + (b + d) if a.dtype == np.float32 else a + b + c + d
        return pixels_of(total * a.dtype.type(0.25), dtype)


def _rms_of_pairs(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    dtype = first.dtype
    work = work_dtype(dtype)
    a, b, c, d = (
        np.square(v.astype(work).astype(np.float64)) for v in _four(first, second)
    )
    with np.errstate(over="ignore", invalid="ignore"):
        mean = 0.25 * (a + b + c + d)
        if dtype in UNSIGNED:
            return _nearest_root(mean).astype(dtype)
        return pixels_of(np.sqrt(mean).astype(work), dtype)


def _four(first: NDArray[Any], second: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Give the four pixels of each window, row by row."""
    return first[..., ::2], first[..., 1::2], second[..., ::2], second[..., 1::2]


def _mean(block: Block) -> NDArray[Any]:
    dtype = block.pixels.dtype
    total, weight, some = _sums(block, lambda v: v)
    if dtype not in UNSIGNED:
        return _finished(total, weight, some, block, lambda v: v)
    return _settled((_divided(total, weight, some) + 0.5).astype(dtype), some, block)


def _root_mean(block: Block) -> NDArray[Any]:
    dtype = block.pixels.dtype
    total, weight, some = _sums(block, np.square)
    if dtype not in UNSIGNED:
        return _finished(total, weight, some, block, np.sqrt)
    mean = _divided(total, weight, some)
    return _settled(_nearest_root(mean).astype(dtype), some, block)


def _nearest_root(mean: NDArray[Any]) -> NDArray[Any]:
    """Give the integer whose square is closest."""
    root: NDArray[Any] = np.floor(np.sqrt(mean))
    root += 2 * root * (root + 1) + 1 < 2 * mean
    return root


def _sums(
    block: Block, change: Callable[[NDArray[Any]], NDArray[Any]]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    """Give the weighted sum, the sum of weights, and where anything is valid."""
    with np.errstate(over="ignore", invalid="ignore"):
        values = change(block.pixels.astype(np.float64))
        if block.valid is None:
            total = block.along_y(block.along_x(values))
            weight = (block.rows.total[:, None] * block.cols.total)[None]
            return total, weight, np.ones(total.shape, bool)
        valid = np.broadcast_to(block.valid != 0, values.shape)
        total = block.along_y(block.along_x(np.where(valid, values, 0.0)))
    weight = block.along_y(block.along_x(valid.astype(np.float64)))
    # A weight may be 0 or next to it: pixels are counted, too.
    cols, rows = _ones(block.cols), _ones(block.rows)
    each = sum_along(valid, block.cols, cols, block.origin[1], axis=2)
    count = sum_along(each, block.rows, rows, block.origin[0], axis=1)
    return total, weight, count > 0


def _ones(taps: Taps) -> NDArray[np.float64]:
    inside = np.arange(taps.weights.shape[1]) < taps.count[:, None]
    return inside.astype(np.float64)


def _divided(
    total: NDArray[Any], weight: NDArray[Any], some: NDArray[np.bool_]
) -> NDArray[Any]:
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: NDArray[Any] = total / weight
    mean[~some] = 0.0
    return mean


def _finished(
    total: NDArray[Any],
    weight: NDArray[Any],
    some: NDArray[np.bool_],
    block: Block,
    change: Callable[[NDArray[Any]], NDArray[Any]],
) -> NDArray[Any]:
    """Divide, keep off nodata in the work type, and round."""
    dtype = block.pixels.dtype
    work = work_dtype(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        values = change(_divided(total, weight, some)).astype(work)
    if block.nodata is not None:
        instead = next_to_nodata(block.nodata, dtype)
        values[values == work.type(block.nodata)] = work.type(instead)
    out = pixels_of(values, dtype)
    out[~some] = block.fill
    return out


def _settled(out: NDArray[Any], some: NDArray[np.bool_], block: Block) -> NDArray[Any]:
    if block.nodata is not None:
        out[out == block.nodata] = next_to_nodata(block.nodata, out.dtype)
    out[~some] = block.fill
    return out


def mode(block: Block) -> NDArray[Any]:
    """Give the most frequent of the valid pixels; of several the first to be so."""
    shape = (len(block.pixels), len(block.rows.start), len(block.cols.start))
    out = np.full(shape, block.fill)
    most = np.zeros(shape, np.int32)
    seen: list[tuple[NDArray[Any], NDArray[np.bool_]]] = []
    for value, here in _taps_of(block):
        times = here.astype(np.int32)
        for other, there in seen:
            times += here & there & _same(value, other)
        wins = times > most
        np.copyto(out, value, where=wins)
        np.copyto(most, times, where=wins)
        seen.append((value, here))
    return out


def _taps_of(block: Block) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:
    """Give the k-th pixel of every window, and where it counts, row by row."""
    for j in range(block.rows.weights.shape[1]):
        rows = block.rows.start + np.minimum(j, block.rows.count - 1) - block.origin[0]
        for i in range(block.cols.weights.shape[1]):
            first = block.cols.start + np.minimum(i, block.cols.count - 1)
            at = (slice(None), rows[:, None], first - block.origin[1])
            here = (block.rows.count > j)[:, None] & (block.cols.count > i)
            value = block.pixels[at]
            here = np.broadcast_to(here, value.shape)
            yield value, here if block.valid is None else here & (block.valid[at] != 0)


def _same(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = a == b
    return same | (np.isnan(a) & np.isnan(b)) if a.dtype.kind in "fc" else same


def complex_mean(block: Block, *, squares: bool = False) -> NDArray[Any]:
    """Give the mean of complex pixels part by part; void ones count, as in GDAL.

    Parameters
    ----------
    block
        The pixels; its taps all weigh 1.
    squares
        Whether the root of the mean of squares is wanted.
    """
    count = (block.rows.total[:, None] * block.cols.total)[None]
    out = np.empty((len(block.pixels), *count.shape[1:]), block.pixels.dtype)
    for name in ("real", "imag"):
        values = getattr(block.pixels, name).astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            if squares:
                values = np.square(values)
            mean = block.along_y(block.along_x(values)) / count
            setattr(out, name, np.sqrt(mean) if squares else mean)
    return out
