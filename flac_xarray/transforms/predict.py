"""Vertical prediction: rows of pixels to residuals and back (docs/format.md, 4.5).

Strategy: FLAC predicts along rows, so what is left to gain lies across them. Rows are
predicted from rows that the decoder already has; all arithmetic is modulo 2**bits of
the pixels' dtype, so nothing overflows and every pair is a bijection.

- ``up``: from the row above.
- ``lift``: rows at odd multiples of s from the mean of their neighbours s rows above
  and below, for s = 1, 2, 4, ..., 32; every 64th row by ``up``. Where ``up`` needs one
  row after another, this needs seven levels, whose rows do not wait for each other.
- ``smooth``: ``lift`` with the neighbours' own neighbours left and right, weighted
  1-2-1: noise averages out. It needs three bits of headroom.

Residuals of ``lift`` and ``smooth`` are stored level by level, coarse rows first. The
loops are in `_flac`, a C extension. Where a pixel is void its residual is 0 and its
value is whatever the prediction says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray import _flac
from flac_xarray.errors import FormatError

__all__ = [
    "PREDICTORS",
    "has_headroom",
    "predict_residual",
    "row_order",
    "undo_residual",
]

Ints = NDArray[np.integer[Any]]

STRIDE: Final = 64
"""Distance of the base rows of ``lift`` and ``smooth``."""
PREDICTORS: Final = ("none", "up", "lift", "smooth")
"""In the order of their numbers in `_flac`."""


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
    # Voids take their predictions, coarse rows before the fine ones that use them.
    known = np.ascontiguousarray(values) if valid is None else values.copy()
    mask = None if valid is None else np.ascontiguousarray(valid)
    residual = np.empty(values.shape, values.dtype)
    is_signed = values.dtype.kind == "i"
    _flac.predict_rows(known, residual, mask, is_signed, PREDICTORS.index(predictor))
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
    rows = out
    if out.strides[-1] != out.itemsize or not out.flags.aligned:
        rows = np.empty(out.shape, out.dtype)
    _flac.undo_rows(
        np.ascontiguousarray(residual),
        rows,
        out.dtype.kind == "i",
        PREDICTORS.index(predictor),
    )
    if rows is not out:
        out[...] = rows


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


def has_headroom(values: Ints) -> bool:
    """Whether sums of eight values, as `smooth` needs them, fit the dtype."""
    if values.dtype.itemsize == 1:
        return True
    limits = np.iinfo(values.dtype)
    low, high = int(values.min()), int(values.max())
    return limits.min // 8 <= low and high < limits.max // 8
