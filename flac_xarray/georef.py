"""Where pixels lie on the Earth (docs/format.md, section 3.3), with plain numbers.

Strategy: the affine order is rasterio's ``(a, b, c, d, e, f)``: x = a*col + b*row + c,
y = d*col + e*row + f. A CRS is text, an authority code such as ``EPSG:4326`` or WKT2;
only adapters interpret it. Bounding boxes are (xmin, ymin, xmax, ymax).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from flac_xarray.errors import FormatError, UnsupportedDataError, WindowError
from flac_xarray.grid import Window

__all__ = ["Affine", "Bbox", "Gcp", "Georef", "names_a_file", "tile_comments"]

Affine = tuple[float, float, float, float, float, float]
Bbox = tuple[float, float, float, float]
IDENTITY: Affine = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
FILE: Final = re.compile(
    r"""(?:[=,@] | (?<!URI\[)(?<!CITATION\[)(?<!REMARK\[)")\s*
    (?:~ | \.\.? | [a-z]: | https?:/)?[/\\]
    | \.\.[/\\]""",
    re.IGNORECASE | re.VERBOSE,
)
"""A path or URL where PROJ opens what it finds: a grid, or a file of definitions."""


@dataclass(frozen=True, slots=True)
class Gcp:
    """One ground control point: a pixel position and where it is."""

    row: float
    """Row, 0 at the top edge."""
    col: float
    """Column, 0 at the left edge."""
    x: float
    """Easting or longitude."""
    y: float
    """Northing or latitude."""
    z: float | None = None
    """Height."""
    id: str = ""
    """Name."""
    info: str = ""
    """Remark."""


@dataclass(frozen=True, slots=True)
class Georef:
    """CRS, affine transform, GCPs and RPCs of a raster.

    Examples
    --------
    >>> georef = Georef("EPSG:32618", (10.0, 0.0, 500000.0, 0.0, -10.0, 4600000.0))
    >>> georef.bounds(100, 200)
    (500000.0, 4599000.0, 502000.0, 4600000.0)
    >>> georef.window((500015.0, 4599900.0, 500030.0, 4599990.0), 100, 200)
    Window(row_off=1, col_off=1, height=9, width=2)
    """

    crs: str | None = None
    """Authority code or WKT2."""
    transform: Affine | None = None
    """Pixel to CRS, None when there is none (then pixel coordinates stand for it)."""
    gcps: tuple[Gcp, ...] = ()
    """Ground control points."""
    gcps_crs: str | None = None
    """CRS of the GCPs."""
    rpcs: Mapping[str, Any] | None = None
    """Rational polynomial coefficients, GDAL's names."""

    def __post_init__(self) -> None:
        for crs in (self.crs, self.gcps_crs):
            if isinstance(crs, str) and names_a_file(crs):
                msg = f"the CRS {crs!r:.80} names a file, which no raster may"
                raise UnsupportedDataError(msg)

    @property
    def affine(self) -> Affine:
        """The transform, or the identity."""
        return self.transform or IDENTITY

    def bounds(self, height: int, width: int, window: Window | None = None) -> Bbox:
        """Bounding box of a raster of that size, or of a window in it."""
        a, b, c, d, e, f = self.affine
        box = window or Window(0, 0, height, width)
        rows = (box.row_off, box.row_off + box.height)
        cols = (box.col_off, box.col_off + box.width)
        xs = [a * col + b * row + c for col in cols for row in rows]
        ys = [d * col + e * row + f for col in cols for row in rows]
        return (min(xs), min(ys), max(xs), max(ys))

    def window(self, bbox: Sequence[float], height: int, width: int) -> Window:
        """Pixels that a bounding box touches, cut to the raster.

        Raises
        ------
        WindowError
            The box is empty or lies outside; the message gives the raster's bounds.
        """
        xmin, ymin, xmax, ymax = bbox
        if not (xmin <= xmax and ymin <= ymax):
            msg = f"bbox {tuple(bbox)}: expected xmin <= xmax and ymin <= ymax"
            raise WindowError(msg)
        a, b, c, d, e, f = self.affine
        det = a * e - b * d
        if det == 0 or not math.isfinite(det):
            msg = f"transform {self.affine} cannot be inverted"
            raise FormatError(msg)
        cols, rows = [], []
        for x in (xmin, xmax):
            for y in (ymin, ymax):
                cols.append((e * (x - c) - b * (y - f)) / det)
                rows.append((a * (y - f) - d * (x - c)) / det)
        row_start, row_stop = _touched(min(rows), max(rows), height)
        col_start, col_stop = _touched(min(cols), max(cols), width)
        if row_stop <= row_start or col_stop <= col_start:
            msg = (
                f"bbox {tuple(bbox)} lies outside the raster, whose bounds are "
                f"{self.bounds(height, width)}"
            )
            raise WindowError(msg)
        return Window(row_start, col_start, row_stop - row_start, col_stop - col_start)

    def at(self, window: Window) -> Georef:
        """Georeference of a window: transform, GCPs and RPCs moved to its corner."""
        a, b, c, d, e, f = self.affine
        row, col = window.row_off, window.col_off
        if (row, col) == (0, 0):
            return self
        moved = (a, b, a * col + b * row + c, d, e, d * col + e * row + f)
        return replace(
            self,
            transform=moved if self.transform else None,
            gcps=tuple(replace(g, row=g.row - row, col=g.col - col) for g in self.gcps),
            rpcs=_moved_rpcs(self.rpcs, {"LINE_OFF": row, "SAMP_OFF": col}),
        )

    def scaled(self, x_factor: float, y_factor: float) -> Georef:
        """Georeference of an overview whose pixels are that many times larger."""
        if (x_factor, y_factor) == (1.0, 1.0):
            return self
        a, b, c, d, e, f = self.affine
        transform = (a * x_factor, b * y_factor, c, d * x_factor, e * y_factor, f)
        gcps = tuple(
            replace(g, row=g.row / y_factor, col=g.col / x_factor) for g in self.gcps
        )
        return replace(
            self,
            transform=transform if self.transform else None,
            gcps=gcps,
            # RPCs are given for whole images at full resolution only.
            rpcs=None,
        )

    def to_json(self) -> dict[str, Any]:
        """Give the header's keys for it: only those that say something."""
        out: dict[str, Any] = {}
        if self.crs:
            out["crs"] = self.crs
        if self.transform:
            out["transform"] = list(self.transform)
        if self.gcps:
            points = [[g.row, g.col, g.x, g.y, g.z, g.id, g.info] for g in self.gcps]
            out["gcps"] = {"crs": self.gcps_crs, "points": points}
        if self.rpcs:
            out["rpcs"] = dict(self.rpcs)
        return out

    @classmethod
    def pop_json(cls, obj: dict[str, Any]) -> Georef:
        """Take the keys of `to_json` out of a header object.

        Raises
        ------
        FormatError
            One of them is not of its form.
        """
        try:
            transform = obj.pop("transform", None)
            gcps = obj.pop("gcps", None) or {"points": []}
            points = tuple(_gcp(p) for p in gcps["points"])
            crs, gcps_crs = obj.pop("crs", None), gcps.get("crs")
            rpcs = obj.pop("rpcs", None)
            if transform is not None:
                transform = tuple(float(v) for v in transform)
            _check_georef(crs, transform, gcps_crs, rpcs)
            return cls(crs, transform, points, gcps_crs, rpcs)
        except (
            TypeError,
            ValueError,
            KeyError,
            AttributeError,
            OverflowError,
        ) as error:
            msg = f"the georeference in the header does not parse: {error}"
            raise FormatError(msg) from error


def _gcp(point: Sequence[Any]) -> Gcp:
    row, col, x, y, z, name, info = point
    if not isinstance(name, str) or not isinstance(info, str):
        msg = f"GCP {point!r:.80}: expected [row, col, x, y, z, id, info]"
        raise TypeError(msg)
    height = None if z is None else float(z)
    return Gcp(float(row), float(col), float(x), float(y), height, name, info)


def _check_georef(crs: Any, transform: Any, gcps_crs: Any, rpcs: Any) -> None:
    is_text = all(isinstance(c, (str, type(None))) for c in (crs, gcps_crs))
    is_affine = transform is None or (
        len(transform) == len(IDENTITY) and all(map(math.isfinite, transform))
    )
    if not is_text or not is_affine or not isinstance(rpcs, (dict, type(None))):
        msg = f"crs {crs!r:.40}, transform {transform}, rpcs {rpcs!r:.40}"
        raise ValueError(msg)


@functools.lru_cache(maxsize=8)  # every tile has the CRS of its raster
def names_a_file(crs: str) -> bool:
    """Whether PROJ would open a file, wherever it lies, to understand a CRS.

    Names without a folder are looked up among PROJ's own grids.

    Examples
    --------
    >>> names_a_file("+init=/etc/passwd:1"), names_a_file("+nadgrids=@conus")
    (True, False)
    """
    return FILE.search(crs) is not None


def _moved_rpcs(
    rpcs: Mapping[str, Any] | None, start: Mapping[str, float]
) -> Mapping[str, Any] | None:
    """Take the window's corner off the offsets; other members stay as they are."""
    if rpcs is None:
        return None
    # GDAL's values are text that may be followed by a unit: "1234.5 pixels".
    moved = {
        key: repr(float(str(rpcs[key]).split()[0]) - by)
        for key, by in start.items()
        if by and key in rpcs
    }
    return {**rpcs, **moved}


def _touched(low: float, high: float, n: int) -> tuple[int, int]:
    """Pixels of 0..n that the interval [low, high] touches with more than an edge."""
    # An edge that misses a pixel boundary by rounding alone touches no further pixel.
    slack = 1e-9 * max(1.0, abs(low), abs(high))
    start = math.floor(low + slack) if math.isfinite(low) else 0
    stop = math.ceil(high - slack) if math.isfinite(high) else n
    return max(start, 0), min(max(stop, start + 1), n)


def _numbers(texts: Iterable[str]) -> str:
    return f"[{','.join(text.removesuffix('.0') for text in texts)}]"


def tile_comments(
    georef: Georef, *, shape: Sequence[int], dtype: str, nodata: object, window: Window
) -> dict[str, str]:
    """Give the seed's ``GEOSPATIAL_*`` comments of one tile (docs/format.md, 4.2).

    Parameters
    ----------
    georef
        Georeference of the whole level.
    shape
        Shape of the tile, ending in (row, col).
    dtype
        Format dtype name.
    nodata
        Nodata as JSON, or None.
    window
        Where the tile lies in its level.
    """
    at = georef.at(window)
    bounds = georef.bounds(0, 0, window)
    count = math.prod(shape[:-2])
    out = {
        "GEOSPATIAL_CRS": georef.crs or "None",
        "GEOSPATIAL_WIDTH": str(shape[-1]),
        "GEOSPATIAL_HEIGHT": str(shape[-2]),
        "GEOSPATIAL_COUNT": str(count),
        "GEOSPATIAL_DTYPE": dtype,
        "GEOSPATIAL_NODATA": str(nodata),
        # The transform is exact; the bounds follow from it and are there to be read.
        "GEOSPATIAL_TRANSFORM": _numbers(map(repr, at.affine)),
        "GEOSPATIAL_BOUNDS": _numbers(f"{v:.10g}" for v in bounds),
    }
    if georef.crs is None:
        del out["GEOSPATIAL_CRS"]
    if nodata is None:
        del out["GEOSPATIAL_NODATA"]
    return out
