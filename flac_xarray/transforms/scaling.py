"""Floats that are integers times a step (docs/format.md, section 4.4).

Strategy: much of what is stored as floats was measured in centimetres, tenths of a
degree or counts. Where ``float(k * step)`` or ``float(k / divisor)`` gives every
pixel's very bits, the integers k are stored. Steps are guessed from a few values and
then proven on all of them.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Scale", "find_scale", "scale_floats", "unscale_ints"]

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

_DIVISORS: Final = (1, 2, 4, 5, 10, 20, 100, 1000, 10_000, 100_000, 1_000_000)
_SAMPLE: Final = 4096
_MAX_INT: Final = 1 << 31


class Scale(NamedTuple):
    """How integers give floats."""

    dtype: str
    """``i1``, ``i2`` or ``i4``: dtype of the integers."""
    is_divisor: bool
    """The integers are divided by `step`, not multiplied."""
    step: float
    """A positive number."""


def find_scale(floats: Floats) -> Scale | None:
    """Find the scale of floats, None where there is none.

    Parameters
    ----------
    floats : ndarray of float16, float32 or float64, any shape
        NaN, infinities and -0.0 have no scale.

    Examples
    --------
    >>> find_scale(np.array([0.1, 0.25, 12.34], np.float32))
    Scale(dtype='i2', is_divisor=True, step=100.0)
    """
    flat = floats.reshape(-1)
    # Neighbours as well: values in steps would show every other multiple only.
    some = np.concatenate([flat[:_SAMPLE], flat[:: max(1, flat.size // _SAMPLE)]])
    if not np.isfinite(some).all():
        return None
    guesses = [Scale("i4", is_divisor=True, step=float(d)) for d in _DIVISORS]
    guesses += [Scale("i4", is_divisor=False, step=s) for s in _guess_steps(some)]
    for guess in guesses:
        if scale_floats(some, guess) is None:
            continue
        ints = scale_floats(flat, guess)
        if ints is None:
            continue
        low, high = int(ints.min()), int(ints.max())
        bits = max(low.bit_length(), high.bit_length()) + 1
        return guess._replace(dtype="i1" if bits <= 8 else "i2" if bits <= 16 else "i4")  # noqa: PLR2004
    return None


def scale_floats(floats: Floats, scale: Scale) -> Ints | None:
    """Give the integers, or None where they would not give the same bits back."""
    with np.errstate(all="ignore"):
        wide = floats.astype(np.float64)
        wide = wide * scale.step if scale.is_divisor else wide / scale.step
        np.rint(wide, out=wide)
        if not (np.abs(wide) < _MAX_INT).all():
            return None
        ints = wide.astype(np.int32)
    word = f"i{floats.dtype.itemsize}"
    again = unscale_ints(ints, scale, floats.dtype)
    return ints if (again.view(word) == floats.view(word)).all() else None


def unscale_ints(ints: Ints, scale: Scale, dtype: np.dtype[Any]) -> Floats:
    """Undo `scale_floats`: one operation in float64, rounded to `dtype`.

    Examples
    --------
    >>> unscale_ints(np.array([10, -25]), Scale("i2", True, 10.0), np.dtype("f4"))
    array([ 1. , -2.5], dtype=float32)
    """
    with np.errstate(all="ignore"):
        wide = ints.astype(np.float64)
        if scale.step != 1:
            operation = np.divide if scale.is_divisor else np.multiply
            operation(wide, scale.step, out=wide)
        return wide.astype(dtype, copy=False)


def _guess_steps(some: Floats) -> list[float]:
    """Guess steps from the smallest difference, refined over all differences."""
    values = np.unique(some.astype(np.float64))
    if len(values) < 3:  # noqa: PLR2004  # nothing to refine
        return []
    differences = np.diff(values)
    step = float(differences.min())
    largest = float(np.abs(values).max())
    if step <= largest * 1e-7:
        # Differences of one ulp: no step can be told from rounding.
        return []
    for part in np.sort(differences)[: len(differences) // 2 + 1]:
        step = float(part) / max(1, round(float(part) / step))
    for value in np.sort(np.abs(values)):
        if value:
            step = float(value) / max(1, round(float(value) / step))
    guesses = [float(f"{step:.{digits}g}") for digits in range(1, 10)]
    inverse = [1 / float(f"{1 / step:.{digits}g}") for digits in range(1, 10)]
    narrow = [float(np.float32(g)) for g in guesses]
    return [g for g in dict.fromkeys([*guesses, *inverse, *narrow, step]) if g > 0]
