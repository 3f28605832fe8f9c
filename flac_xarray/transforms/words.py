"""Wide integers as several FLAC channels of fewer bits (docs/format.md, 4.6).

Strategy: dr_flac decodes up to 24 bits a sample. A wider integer is a sum of signed
digits, one per channel: ``value = sum(channel[i] << (bits * i))`` modulo 2**width.
Digits are balanced (-2**(bits-1) .. 2**(bits-1)-1), so a small negative residual has
zeros, not ones, in its upper channels, and a channel of zeros costs nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["join_words", "split_words"]

Ints = NDArray[np.integer[Any]]


def split_words(values: Ints, bits: int, channels: int) -> Ints:
    """Split integers into digits, lowest first.

    Parameters
    ----------
    values : ndarray of signed integers, shape (n,)
    bits
        Of a digit, at most 24.
    channels
        How many digits.

    Returns
    -------
    ndarray of int32, shape (n, channels)

    Examples
    --------
    >>> split_words(np.array([-1, 70000], np.int32), 16, 2).tolist()
    [[-1, 0], [4464, 1]]
    """
    rest = values.astype(np.int64)
    digits = np.empty((len(values), channels), np.int32)
    half = 1 << (bits - 1)
    for i in range(channels):
        digits[:, i] = ((rest + half) & ((1 << bits) - 1)) - half
        # The difference is a multiple of 2**bits; it may wrap, and the shift undoes it.
        rest = (rest - digits[:, i]) >> bits
    return digits


def join_words(digits: Ints, bits: int, dtype: np.dtype[Any]) -> Ints:
    """Undo `split_words`: digits of shape (n,) or (n, channels) to `dtype`, shape (n,).

    Examples
    --------
    >>> join_words(np.array([[-1, 0], [4464, 1]], np.int16), 16, np.dtype("i4"))
    array([   -1, 70000], dtype=int32)
    """
    if digits.ndim == 1:
        return digits.astype(dtype, copy=False)
    total = digits[:, -1].astype(dtype)
    for i in reversed(range(digits.shape[1] - 1)):
        total <<= bits
        total += digits[:, i]
    return total
