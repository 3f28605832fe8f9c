"""Vertical prediction: rows of pixels to residuals and back (docs/format.md, 4.5).

Strategy: FLAC predicts along rows, so what is left to gain lies across them. Rows are
predicted from rows that the decoder already has; all arithmetic is modulo 2**bits of
the pixels' dtype, so nothing overflows and every pair is a bijection.

- ``up``: from the row above.
- ``lift``: rows at odd multiples of s from the mean of their neighbours s rows above
  and below, for s = 1, 2, 4, ..., 32; every 64th row by ``up``. Where ``up`` needs one
  step per row, this needs seven per tile, over large arrays and without the GIL.
- ``smooth``: ``lift`` with the neighbours' own neighbours left and right, weighted
  1-2-1: noise averages out. It needs three bits of headroom.

Residuals of ``lift`` and ``smooth`` are stored level by level, coarse rows first.
Where a pixel is void its residual is 0 and its value is whatever the prediction says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.errors import FormatError

__all__ = [
    "PREDICTORS",
    "has_headroom",
    "predict_residual",
    "row_order",
    "undo_residual",
]

Ints = NDArray[np.integer[Any]]

CACHED: Final = 1 << 17
"""Pixels that are undone together."""
STRIDE: Final = 64
"""Distance of the base rows of ``lift`` and ``smooth``."""
PREDICTORS: Final = ("none", "up", "lift", "smooth")


def predict_residual(
    values: Ints, predictor: str, valid: NDArray[np.bool_] | None = None
) -> Ints:
    """Predict rows and return what is left.

    Parameters
    ----------
    values : ndarray of integers, shape (plane, row, col)
        Not changed.
    predictor
        One of `PREDICTORS`.
    valid : ndarray of bool, same shape, optional
        False where the value does not matter: its residual is 0.

    Returns
    -------
    ndarray, same shape and dtype
        In the order of the format: for ``lift`` and ``smooth``, coarse rows first.

    Examples
    --------
    >>> predict_residual(np.array([[[7, 8], [9, 9]]], np.uint8), "up").tolist()
    [[[7, 8], [2, 1]]]
    """
    if predictor == "none":
        return (
            values if valid is None else np.where(valid, values, values.dtype.type(0))
        )
    # Voids take their predictions, coarse rows before the fine ones that use them.
    known = values if valid is None else values.copy()
    residual = np.empty_like(values)
    if predictor == "up":
        rows: Iterator[tuple[slice, slice]] = iter([(slice(None), slice(None))])
    else:
        rows = _levels(values.shape[1])
    for i, (at, stored) in enumerate(rows):
        left = residual[:, stored]
        if i == 0:
            _residual_up(known[:, at], left, None if valid is None else valid[:, at])
            continue
        prediction = _between(known, at, predictor)
        np.subtract(known[:, at], prediction, out=left)
        if valid is not None:
            left[~valid[:, at]] = 0
            np.add(left, prediction, out=known[:, at])
    return residual


def undo_residual(residual: Ints, predictor: str, out: Ints) -> None:
    """Undo `predict_residual` into `out`.

    Parameters
    ----------
    residual : ndarray of integers, shape (plane, row, col)
    predictor
        One of `PREDICTORS`.
    out : ndarray, same shape, dtype of the same size
        May not share memory with `residual`. Its dtype says whether the mean of two
        pixels is that of signed or of unsigned numbers.

    Raises
    ------
    FormatError
        There is no such predictor.
    """
    if predictor not in PREDICTORS:
        raise FormatError(
            f"a tile's predictor is {predictor!r}: this reads {PREDICTORS}"
        )
    residual = residual.view(out.dtype)
    if predictor == "none":
        out[...] = residual
    elif predictor == "up":
        _undo_up(residual, out)
    else:
        for i, (at, stored) in enumerate(_levels(out.shape[1])):
            if i == 0:
                _undo_up(residual[:, stored], out[:, at])
            else:
                _undo_level(residual[:, stored], out, at, predictor)


def _undo_level(residual: Ints, out: Ints, at: slice, predictor: str) -> None:
    """Undo one level, so many rows at a time that temporaries stay small."""
    step: int = at.start
    coarse, target = out[:, :: 2 * step], out[:, at]
    mean: Callable[[Ints], Ints] = _mean_rows if predictor == "lift" else _smooth_rows
    count = residual.shape[1]
    some = max(1, CACHED // (out.shape[0] * out.shape[2]))
    for start in range(0, count, some):
        stop = min(start + some, count)
        rows = coarse[:, start : stop + 1]
        if rows.shape[1] == stop - start:  # no row below the last
            rows = np.concatenate([rows, rows[:, -1:]], axis=1)
        np.add(mean(rows), residual[:, start:stop], out=target[:, start:stop])


def row_order(height: int, predictor: str) -> slice | NDArray[np.intp]:
    """Give the index that puts rows into the order their residuals are stored in.

    Examples
    --------
    >>> row_order(3, "lift").tolist(), row_order(3, "up")
    ([0, 2, 1], slice(None, None, None))
    """
    if predictor in ("none", "up"):
        return slice(None)
    rows = np.arange(height)
    return np.concatenate([rows[at] for at, _ in _levels(height)])


def _levels(height: int) -> Iterator[tuple[slice, slice]]:
    """Give the rows of each level, and where their residuals are stored."""
    stop = -(-height // STRIDE)
    yield slice(0, None, STRIDE), slice(0, stop)
    step = STRIDE
    while step > 1:
        step //= 2
        rows = slice(step, None, 2 * step)
        start, stop = stop, stop + len(range(step, height, 2 * step))
        if stop > start:
            yield rows, slice(start, stop)


def _residual_up(values: Ints, out: Ints, valid: NDArray[np.bool_] | None) -> None:
    if valid is None:
        out[:, :1] = values[:, :1]
        np.subtract(values[:, 1:], values[:, :-1], out=out[:, 1:])
        return
    above = np.zeros_like(values[:, 0])
    for row in range(values.shape[1]):
        value, here = values[:, row], valid[:, row]
        value[~here] = above[~here]
        np.subtract(value, above, out=out[:, row])
        above = value


def _undo_up(residual: Ints, out: Ints) -> None:
    out[:, :1] = residual[:, :1]
    for row in range(1, out.shape[1]):
        np.add(out[:, row - 1], residual[:, row], out=out[:, row])


def _between(known: Ints, at: slice, predictor: str) -> Ints:
    """Predict the rows `at` from those halfway between them."""
    step: int = at.start
    count = len(range(step, known.shape[1], 2 * step))
    coarse = known[:, :: 2 * step]
    mean: Callable[[Ints], Ints] = _mean_rows if predictor == "lift" else _smooth_rows
    if coarse.shape[1] > count:
        return mean(coarse[:, : count + 1])
    # The last row has no neighbour below: the one above counts twice.
    last = coarse[:, -1:]
    return mean(np.concatenate([coarse, last], axis=1))


def _mean_rows(rows: Ints) -> Ints:
    """Floor of the mean of each row and the next, without overflow."""
    above, below = rows[:, :-1], rows[:, 1:]
    mean = above ^ below
    mean >>= 1
    mean += above & below
    return mean


def _smooth_rows(rows: Ints) -> Ints:
    """(1-2-1 along the row) of each row plus the next, plus 4, shifted right by 3."""
    # Bytes are widened, so they always have the headroom.
    wide = rows.astype(np.int16) if rows.dtype.itemsize == 1 else rows
    pair = wide[:, :-1] + wide[:, 1:]
    # Over the end of each row into the next: long loops are twice as fast, and the ends
    # are mended afterwards.
    flat = pair.reshape(-1)
    twos = flat[1:] + flat[:-1]
    total = np.empty_like(flat)
    np.add(twos[1:], twos[:-1], out=total[1:-1])
    total = total.reshape(pair.shape)
    for end, next_to_it in (
        (0, min(1, pair.shape[2] - 1)),
        (-1, max(-2, -pair.shape[2])),
    ):
        total[..., end] = 3 * pair[..., end] + pair[..., next_to_it]
    total += 4
    total >>= 3
    return total.astype(rows.dtype, copy=False)


def has_headroom(values: Ints) -> bool:
    """Whether sums of eight values, as `smooth` needs them, fit the dtype."""
    if values.dtype.itemsize == 1:
        return True
    limits = np.iinfo(values.dtype)
    low, high = int(values.min()), int(values.max())
    return limits.min // 8 <= low and high < limits.max // 8
