"""Fewer pixels of more: what overviews are made by, as GDAL makes them.

Strategy: `axis` says which source pixels a target pixel sees, and with what weights, in
GDAL's arithmetic and from the pixel's own number alone; so any part of a level, made
anywhere and in any order, has the same bits. `windows` and `kernels` do the sums, and
`rounding` what GDAL does with their results. NumPy only; no I/O.
"""

from flac_xarray.resampling.level import (
    METHODS,
    LevelRule,
    check_method,
    valid_pixels,
)

__all__ = ["METHODS", "LevelRule", "check_method", "valid_pixels"]
