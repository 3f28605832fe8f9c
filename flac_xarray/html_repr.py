"""What a notebook shows for a raster: its facts, and a map of its tiles.

Strategy: everything comes from the header and from what is at hand of the tile tables,
so nothing is fetched. The map has a bounded number of cells, however many tiles there
are; text from the file is escaped.
"""

from __future__ import annotations

import html
import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.dtypes import itemsize
from flac_xarray.header import ArrayInfo, Header
from flac_xarray.tile_table import TileTable

__all__ = ["html_of", "tile_map_svg"]

MOST_CELLS: Final = 24
"""Of the map, along each side."""
SVG_PIXELS: Final = 176
"""Of its longer side."""
LONGEST_TEXT: Final = 120
COLORS: Final = ("#e4eef2", "#123f5a")
"""Of a tile that takes no bytes, and of one that is as large as its pixels."""


def html_of(
    name: str, header: Header, nbytes: int | None, table: TileTable | None
) -> str:
    """Give the HTML of a raster.

    Parameters
    ----------
    name
        Path or URL, without credentials.
    header
        Of the file.
    nbytes
        Of the file, None where unknown.
    table
        Whole tile table of the first data array, None where it is not at hand.
    """
    info = header.arrays[header.find()]
    rows = "".join(
        f'<tr><td style="text-align:left;opacity:.7">{_text(key)}</td>'
        f'<td style="text-align:left">{_text(value)}</td></tr>'
        for key, value in _facts(header, info, nbytes).items()
        if value
    )
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:24px;align-items:flex-start">'
        f"<div><strong>FlacRaster</strong> <code>{_text(name)}</code>"
        f"<table>{rows}</table></div>{tile_map_svg(info, table)}</div>"
    )


def tile_map_svg(info: ArrayInfo, table: TileTable | None) -> str:
    """Give a map of an array's tiles as SVG, darker where they take more bytes.

    Parameters
    ----------
    info
        The array.
    table
        Its whole table; without one all cells are alike.

    Examples
    --------
    >>> info = ArrayInfo("a", "uint8", ("y", "x"), (300, 200), (100, 100))
    >>> tile_map_svg(info, None).count("<rect")
    6
    """
    ny, nx = info.grid.counts[-2:]
    height, width = info.shape[-2:]
    if not ny * nx:
        return ""
    scale = SVG_PIXELS / max(height, width)
    y = _edges(ny, info.tile[-2], height) * scale
    x = _edges(nx, info.tile[-1], width) * scale
    shares = _shares(info, table, len(y) - 1, len(x) - 1)
    cells = []
    for i in range(len(y) - 1):
        for j in range(len(x) - 1):
            box = (x[j], y[i], max(x[j + 1] - x[j], 0.5), max(y[i + 1] - y[i], 0.5))
            left, top, across, down = (f"{value:.1f}" for value in box)
            cells.append(
                f'<rect x="{left}" y="{top}" width="{across}" height="{down}" '
                f'fill="{_color(shares[i, j])}"/>'
            )
    size = f"{math.ceil(x[-1]) + 2} {math.ceil(y[-1]) + 2}"
    w, h = size.split()
    grouped = "" if (len(y), len(x)) == (ny + 1, nx + 1) else ", several to a cell"
    title = f"{ny} x {nx} tiles{grouped}; darker: more bytes a pixel"
    return (
        f'<svg viewBox="-1 -1 {size}" width="{w}" height="{h}" '
        f'xmlns="http://www.w3.org/2000/svg" role="img" stroke="#8aa4b3" '
        f'stroke-width="0.5"><title>{title}</title>{"".join(cells)}</svg>'
    )


def _edges(n_tiles: int, tile: int, size: int) -> NDArray[np.float64]:
    """Pixels at which the cells of the map begin and end."""
    step = -(-n_tiles // MOST_CELLS)
    starts = np.arange(0, n_tiles, step, dtype=np.float64) * tile
    return np.append(starts, float(size))


def _shares(
    info: ArrayInfo, table: TileTable | None, rows: int, cols: int
) -> NDArray[np.float64]:
    """Bytes of each cell's tiles over those of their pixels; NaN where not known."""
    if table is None or len(table.rows) != info.grid.n_tiles:
        return np.full((rows, cols), np.nan)
    ny, nx = info.grid.counts[-2:]
    nbytes = table.rows["nbytes"].astype(np.float64).reshape(-1, ny, nx).sum(axis=0)
    height, width = info.shape[-2:]
    steps = (-(-ny // MOST_CELLS), -(-nx // MOST_CELLS))
    for axis, step in enumerate(steps):
        nbytes = np.add.reduceat(nbytes, np.arange(0, nbytes.shape[axis], step), axis)
    pixels = np.outer(
        np.diff(_edges(ny, info.tile[-2], height)),
        np.diff(_edges(nx, info.tile[-1], width)),
    )
    planes = math.prod(info.shape[:-2])
    return np.asarray(nbytes / (pixels * planes * itemsize(info.dtype)))


def _color(share: float) -> str:
    if math.isnan(share):
        return "#b9cdd8"
    # A square root, since most tiles take less than half of their pixels' bytes.
    t = min(math.sqrt(share), 1.0)
    ends = [[int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in COLORS]
    return "#" + "".join(
        f"{round(a + (b - a) * t):02x}" for a, b in zip(*ends, strict=True)
    )


def _facts(header: Header, info: ArrayInfo, nbytes: int | None) -> dict[str, str]:
    others = [a for a in header.arrays if a.level == 0 and a is not info]
    pixels = sum(math.prod(a.shape) * itemsize(a.dtype) for a in header.arrays)
    levels = len(header.levels) - 1
    nodata = dict.fromkeys("none" if v is None else f"{v:g}" for v in info.nodata)
    size = "" if nbytes is None else _size(nbytes)
    return {
        "size": ", ".join(f"{dim} {n:,}" for dim, n in info.sizes.items()),
        "tiles": f"{info.grid.n_tiles:,} of {' x '.join(map(str, info.tile))}",
        "dtype": info.dtype,
        "nodata": ", ".join(nodata),
        "CRS": _crs(header.georef.crs),
        "compression": f"{_size(pixels)} in {size}: {pixels / nbytes:.2f}x"
        if nbytes
        else "",
        "overviews": str(levels) if levels else "none",
        "other arrays": ", ".join(f"{a.name} ({a.role})" for a in others),
    }


def _crs(crs: str | None) -> str:
    """Give an authority code as it is, and of WKT the name."""
    if crs is None:
        return "none"
    return crs.split('"')[1] if crs.count('"') > 1 else crs


def _size(nbytes: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if nbytes < 999.95 or unit == "TB":  # noqa: PLR2004 - shown as 1000.0
            break
        nbytes /= 1000
    return f"{nbytes:.0f} bytes" if unit == "bytes" else f"{nbytes:.1f} {unit}"


def _text(value: str) -> str:
    """Escape text, and cut what is too long to be read."""
    short = value if len(value) <= LONGEST_TEXT else f"{value[: LONGEST_TEXT - 1]}…"
    return html.escape(short)
