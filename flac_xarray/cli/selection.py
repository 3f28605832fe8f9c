"""Which pixels a command is about: options to a window and bands.

Strategy: exactly one of the ways to say it; the raster answers what lies where.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flac_xarray.cli.params import BANDS, BBOX, WINDOW
from flac_xarray.georef import Bbox
from flac_xarray.grid import Window

if TYPE_CHECKING:
    from flac_xarray.reader import FlacRaster

__all__ = ["Selection", "bands_option", "bbox_option", "window_option"]

F = TypeVar("F", bound=Callable[..., Any])

bbox_option: Callable[[F], F] = click.option(
    "--bbox",
    "-b",
    type=BBOX,
    help='Box in the CRS of the raster, "xmin,ymin,xmax,ymax".',
)
window_option: Callable[[F], F] = click.option(
    "--window",
    type=WINDOW,
    help='Pixels, "col_off,row_off,width,height".',
)
bands_option: Callable[[F], F] = click.option(
    "--bands", type=BANDS, help="Numbers of bands, from 1 on, e.g. 1,3."
)


@dataclass(frozen=True, slots=True)
class Selection:
    """What was said; exactly one of the first five.

    Raises
    ------
    click.UsageError
        None of them, or several.
    """

    bbox: Bbox | None = None
    window: Window | None = None
    tile_id: int | None = None
    last: bool = False
    center: bool = False
    bands: Sequence[int] | None = None
    """Positions from 0."""
    snap: str = "pixels"
    """``"tiles"``: whole tiles."""
    level: int = 0
    """Overview level, 0 being full resolution."""

    def __post_init__(self) -> None:
        said = (self.bbox, self.window, self.tile_id, self.last or None)
        if sum(v is not None for v in (*said, self.center or None)) != 1:
            msg = "say which pixels, in one way (--bbox, --window, ...): see --help"
            raise click.UsageError(msg)

    def resolve(self, raster: FlacRaster) -> tuple[Window, Sequence[int] | None]:
        """Give the window and the bands.

        Raises
        ------
        WindowError
            They lie outside the raster, or there is no such overview.
        """
        _check_level(self.level, raster)
        window, bands = self._window(raster), self.bands
        info = raster.array(level=self.level)
        if bands is None and self.tile_id is not None and len(info.shape) > 2:  # noqa: PLR2004
            # The tile of that number and no other: its bands only.
            along = info.grid.slices(info.grid.index(self.tile_id))[-3]
            bands = range(along.start, along.stop)
        if bands is not None:
            _check_bands(bands, info.shape[-3] if len(info.shape) > 2 else 1)  # noqa: PLR2004
        return window, bands

    def _window(self, raster: FlacRaster) -> Window:
        from flac_xarray.spatial_index import tile_window

        grid = raster.array(level=self.level).grid
        height, width = grid.shape[-2:]
        if self.bbox is not None:
            window = raster.window(self.bbox, self.level)
        elif self.window is not None:
            window = _inside(self.window, height, width)
        elif self.tile_id is not None:
            return tile_window(raster, self.tile_id, level=self.level)
        elif self.last:
            return tile_window(raster, grid.n_tiles - 1, level=self.level)
        else:
            middle = Window(height // 2, width // 2, 1, 1)
            return _whole_tiles(middle, grid.tile[-2:], (height, width))
        if self.snap == "tiles":
            return _whole_tiles(window, grid.tile[-2:], (height, width))
        return window


def _check_level(level: int, raster: FlacRaster) -> None:
    from flac_xarray.errors import WindowError

    if level not in raster.header.levels:
        n = len(raster.header.levels) - 1
        msg = f"no overview {level - 1}: the raster has {n}"
        raise WindowError(msg)


def _inside(window: Window, height: int, width: int) -> Window:
    from flac_xarray.errors import WindowError

    cut = window.intersection(height, width)
    if cut != window:
        msg = (
            f"window {window.col_off},{window.row_off},{window.width},{window.height} "
            f"reaches outside the raster, which has {width} columns and {height} rows"
        )
        raise WindowError(msg)
    return window


def _whole_tiles(
    window: Window, tile: tuple[int, ...], shape: tuple[int, ...]
) -> Window:
    """Grow a window to the edges of the tiles it touches."""
    starts, stops = [], []
    for s, t, n in zip(window.slices, tile, shape, strict=True):
        starts.append(s.start // t * t)
        stops.append(min(-(-s.stop // t) * t, n))
    (row, col), (row_stop, col_stop) = starts, stops
    return Window(row, col, row_stop - row, col_stop - col)


def _check_bands(bands: Sequence[int], count: int) -> None:
    from flac_xarray.errors import WindowError

    outside = [band + 1 for band in bands if band >= count]
    if outside:
        msg = f"no band {outside[0]}: the raster has bands 1 to {count}"
        raise WindowError(msg)
