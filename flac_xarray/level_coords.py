"""Coordinates of an overview of a file that was written from xarray.

Strategy: rows and columns lie where the file's transform puts the larger pixels; uneven
ones are averaged like pixels. What follows from neither (names of rows, say) has no
overview and is left out, as are coordinates that the file never had.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.coords import Coord
from flac_xarray.georef import Georef
from flac_xarray.header import Header
from flac_xarray.resampling import LevelRule

__all__ = ["level_coords"]

GEO_TRANSFORM: Final = "GeoTransform"
"""Attribute of a grid mapping."""
PACKING: Final = ("scale_factor", "add_offset", "_FillValue", "missing_value")
"""Attributes that say how stored values become values."""


def level_coords(header: Header, level: int) -> dict[str, Coord]:
    """Give the variables of the header as a level has them.

    Parameters
    ----------
    header
        Of a file written from xarray.
    level
        Overview level; 0 has them all.
    """
    if not level:
        return dict(header.coords)
    info = header.arrays[header.find(level=level)]
    full = header.arrays[header.find()]
    georef = header.level_georef(info)
    names = dict(zip(header.extra["plane"], ("y", "x"), strict=True))
    found: dict[str, Coord] = {}
    for name, coord in header.coords.items():
        if not {"y", "x"} & set(coord.dims):
            found[name] = _moved(coord, georef)
            continue
        if len(coord.dims) > 1 or coord.values.dtype.kind not in "iuf":
            continue
        axis = ("y", "x").index(coord.dims[0]) - 2
        n, m = full.shape[axis], info.shape[axis]
        if names.get(name) == coord.dims[0] and _is_aligned(georef):
            attrs = {k: v for k, v in coord.attrs.items() if k not in PACKING}
            values = _centres(georef, axis, m)
            found[name] = replace(coord, values=values, attrs=attrs)
        elif coord.values.dtype.kind == "f" or "units" not in coord.attrs:
            found[name] = replace(coord, values=_averaged(coord.values, n, m))
    return found


def _moved(coord: Coord, georef: Georef) -> Coord:
    """Give a grid mapping the transform of the level."""
    if GEO_TRANSFORM not in coord.attrs or georef.transform is None:
        return coord
    a, b, c, d, e, f = georef.affine
    text = " ".join(str(float(v)) for v in (c, a, b, f, d, e))
    return replace(coord, attrs={**coord.attrs, GEO_TRANSFORM: text})


def _is_aligned(georef: Georef) -> bool:
    """Whether rows and columns are lines of the CRS."""
    _, b, _, d, _, _ = georef.affine
    return georef.transform is not None and b == 0 and d == 0


def _centres(georef: Georef, axis: int, n: int) -> NDArray[Any]:
    a, _, c, _, e, f = georef.affine
    step, start = (e, f) if axis == -2 else (a, c)  # noqa: PLR2004
    return np.arange(n) * step + (step * 0.5 + start)


def _averaged(values: NDArray[Any], n: int, m: int) -> NDArray[Any]:
    rule = LevelRule("average", "float64", (n, 1), (m, 1))
    column = values.astype(np.float64).reshape(1, n, 1)
    made = rule.make(column, (0, 0), (slice(0, m), slice(0, 1)))
    return made.reshape(m).astype(values.dtype if values.dtype.kind == "f" else float)
