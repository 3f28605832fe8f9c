"""A small raster that several tests of whole files read."""

from __future__ import annotations

import numpy as np


def pixels() -> np.ndarray:
    y, x = np.mgrid[:200, :150]
    return (x * 3 + y * 7 + (x * y) % 11).astype("int16")[None]
