"""Which pixels of a FLAC raster a GeoTIFF will hold, and whether it can.

Strategy: everything that can be refused is refused here, before a file is begun.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from rasterio.dtypes import in_dtype_range

from flac_xarray.dtypes import itemsize
from flac_xarray.errors import UnsupportedDataError, WindowError
from flac_xarray.georef import Georef
from flac_xarray.geotiff.describe import default_colorinterp
from flac_xarray.grid import TileGrid, Window
from flac_xarray.header import ArrayInfo
from flac_xarray.reader import FlacRaster

__all__ = ["NARROW", "GeotiffPlan"]

BLOCK_NBYTES: Final = 24 << 20
"""Pixels written at a time, in bytes."""

EXACT: Final = 2**53
"""Integers up to here are doubles, which is what rasterio takes nodata for."""

NARROW: Final = {"bool": ("uint8", 1), "float16": ("float32", 16)}
"""Dtypes that GDAL lacks: the one that holds them, and the bits that TIFF keeps."""

NDIM: Final = (2, 3)


@dataclass(frozen=True, slots=True)
class GeotiffPlan:
    """What will be written: which pixels of which arrays, and their description."""

    position: int
    """The array, among the header's."""
    mask: int | None
    """Its mask, among the header's arrays."""
    info: ArrayInfo
    """The array."""
    bands: tuple[int, ...]
    """Bands to write, from 0."""
    window: Window
    """Pixels to write."""
    georef: Georef
    """Of the window."""
    whole: bool
    """Whether these are all pixels of level 0: statistics hold for them only."""

    @classmethod
    def of(
        cls,
        raster: FlacRaster,
        window: Window | None,
        bands: Sequence[int] | None,
        level: int,
    ) -> GeotiffPlan:
        """Plan the conversion of a window; everything by default.

        Raises
        ------
        UnsupportedDataError
            The array has more dims than a GeoTIFF, or metadata that it cannot hold.
        """
        header = raster.header
        position = header.find(level=level)
        info = header.arrays[position]
        if len(info.shape) not in NDIM or 0 in info.shape:
            msg = (
                f"array {info.name!r} {info.sizes} does not fit a GeoTIFF: expected "
                "rows and columns, and at most one more dim for the bands"
            )
            raise UnsupportedDataError(msg, dtype=info.dtype)
        base = header.arrays[header.find(info.name)]
        count = info.shape[0] if len(info.shape) > 2 else 1  # noqa: PLR2004
        everything = Window(0, 0, *info.shape[-2:])
        chosen = window or everything
        masks = [
            k
            for k, other in enumerate(header.arrays)
            if other.role == "mask" and other.level == level
        ]
        plan = cls(
            position=position,
            mask=masks[0] if masks else None,
            info=info if info.bands else replace(info, bands=base.bands),
            bands=_inside(range(count) if bands is None else bands, count),
            window=chosen,
            georef=raster.level_georef(level).at(chosen),
            whole=level == 0 and chosen == everything,
        )
        plan.check()
        return plan

    def check(self) -> None:
        """Refuse what a GeoTIFF cannot hold.

        Raises
        ------
        UnsupportedDataError
            Bands of several nodata values, or one of 64 bits; a transform and GCPs.
        """
        values = self.info.nodata
        if len({repr(values[k]) for k in self.bands if k < len(values)}) > 1:
            msg = (
                f"the bands have several nodata values {values}: a GeoTIFF holds one; "
                "convert bands of one value at a time"
            )
            raise UnsupportedDataError(msg, dtype=self.info.dtype)
        value = self.nodata
        if "int64" in self.dtype and value is not None and abs(value) > EXACT:
            msg = f"nodata {value} of {self.dtype}: rasterio writes it as a double"
            raise UnsupportedDataError(msg, dtype=self.dtype)
        if self.georef.gcps and self.georef.transform:
            msg = "a transform and GCPs: a GeoTIFF holds one of the two"
            raise UnsupportedDataError(msg)

    @property
    def dtype(self) -> str:
        """Name of the dtype that is written, as rasterio has it."""
        return NARROW.get(self.info.dtype, (self.info.dtype, 0))[0]

    @property
    def band_info(self) -> tuple[Mapping[str, Any], ...]:
        """What the header says of each band that is written."""
        said = self.info.bands
        return tuple(said[k] if k < len(said) else {} for k in self.bands)

    @property
    def colorinterp(self) -> list[str]:
        """Color interpretation of each band that is written, rasterio's names."""
        pairs = zip(self.bands, self.band_info, strict=True)
        return [b.get("colorinterp", default_colorinterp(k + 1)) for k, b in pairs]

    @property
    def nodata(self) -> float | int | None:
        """The nodata value of the bands: a GeoTIFF has one for all of them."""
        values = self.info.nodata
        value = values[self.bands[0]] if len(values) > 1 else values[0]
        # No pixel is equal to such a value: rasterio reports none for it, too.
        return value if value is None or in_dtype_range(value, self.dtype) else None

    def blocks(self) -> Iterator[Window]:
        """Cut the window along tile rows, into pieces of bounded size."""
        tile, w = self.info.tile[-2:], self.window
        # The window begins inside a tile: the grid that is cut begins at that tile.
        top, left = w.row_off % tile[0], w.col_off % tile[1]
        grid = TileGrid(
            (len(self.bands), top + w.height, left + w.width), (len(self.bands), *tile)
        )
        for _, rows, cols in grid.blocks(BLOCK_NBYTES // itemsize(self.info.dtype)):
            row, col = max(rows.start - top, 0), max(cols.start - left, 0)
            yield Window(row, col, rows.stop - top - row, cols.stop - left - col)


def _inside(bands: Sequence[int], count: int) -> tuple[int, ...]:
    outside = [k for k in bands if not 0 <= k < count]
    if outside or not bands:
        msg = f"bands {list(bands)}: expected some of 0 to {count - 1}"
        raise WindowError(msg)
    return tuple(bands)
