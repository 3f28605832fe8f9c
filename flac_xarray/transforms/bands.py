"""Planes that another plane was subtracted from (docs/format.md, section 4.5).

Strategy: `bands` gives for each plane the plane it refers to, or -1. Differences are
signed whatever the pixels are, so that -1 and 1 are neighbours for the predictor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["band_order", "is_void_alike", "plane_groups"]

Ints = NDArray[np.integer[Any]]


def plane_groups(
    bands: tuple[int, ...], values: Ints
) -> list[tuple[slice, np.dtype[Any]]]:
    """Give runs of planes and their dtype: differences of planes are signed."""
    if not bands:
        return [(slice(None), values.dtype)]
    signed = [band >= 0 for band in bands]
    starts = [0, *(k for k in range(1, len(signed)) if signed[k] != signed[k - 1])]
    dtypes = (values.dtype, np.dtype(f"i{values.dtype.itemsize}"))
    stops = [*starts[1:], len(signed)]
    return [
        (slice(a, b), dtypes[signed[a]]) for a, b in zip(starts, stops, strict=True)
    ]


def band_order(bands: tuple[int, ...]) -> list[int]:
    """Planes with a reference, each behind the plane it refers to."""
    depth: dict[int, int] = {}
    for band in range(len(bands)):
        chain = [band]
        while chain[-1] not in depth and bands[chain[-1]] >= 0:
            chain.append(bands[chain[-1]])
        base = depth.get(chain[-1], 0)
        for steps, other in enumerate(reversed(chain)):
            depth[other] = base + steps
    return sorted((b for b in depth if bands[b] >= 0), key=lambda b: (depth[b], b))


def is_void_alike(valid: NDArray[np.bool_] | None, bands: tuple[int, ...]) -> bool:
    """Whether planes are void where those they refer to are."""
    pairs = ((band, other) for band, other in enumerate(bands) if other >= 0)
    return valid is None or all((valid[a] == valid[b]).all() for a, b in pairs)
