"""The seed's spatial indexes: a list of tiles with windows and bytes, as values.

Strategy: JSON objects become `TileList`, in which every number is an int that was
checked; a regular grid is then derived from the windows or the list is refused. Where
the offsets count from is decided elsewhere, with the file at hand.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flac_xarray.container import MAX_HEADER_NBYTES
from flac_xarray.errors import FormatError
from flac_xarray.georef import Affine, Georef
from flac_xarray.grid import TileGrid, Window
from flac_xarray.legacy.comments import unpack_affine, unpack_crs

__all__ = ["TileList", "derive_grid", "unpack_embedded_index", "unpack_index"]

MAX_PIXELS: Final = 1 << 31
"""Longest side of a raster."""
MAX_OFFSET: Final = 1 << 62
MAX_COORDINATE: Final = 1e15
GZIP: Final = 31
"""What zlib calls a gzip stream with the largest window."""


@dataclass(frozen=True, slots=True)
class TileList:
    """One spatial index."""

    windows: tuple[Window, ...]
    """Pixels of each tile."""
    spans: tuple[tuple[int, int], ...]
    """First byte, and last or one past the last, counted from the index's own zero."""
    is_frames: bool
    """``frames`` with byte_size, or ``tiles`` with byte_range."""
    georef: Georef
    """What the index itself says."""
    size: tuple[int | None, int | None]
    """Height and width, where it tells."""
    total_nbytes: int | None
    """Bytes of all tiles, where it tells."""


def unpack_index(text: bytes) -> TileList | None:
    """Read the JSON of an index; None for JSON that is none.

    Raises
    ------
    FormatError
        It does not parse, or a tile's entry is not of its form.

    Examples
    --------
    >>> entry = '{"id":0,"bbox":[0,0,2,1],"window":[0,0,2,1],"byte_range":[0,99]}'
    >>> unpack_index(('{"tiles":[' + entry + "]}").encode()).spans
    ((0, 99),)
    """
    try:
        obj = json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = f"the spatial index does not parse: {error}"
        raise FormatError(msg) from error
    if not isinstance(obj, dict) or not {"frames", "tiles"} & obj.keys():
        return None
    is_frames = "frames" in obj
    entries = obj["frames" if is_frames else "tiles"]
    if not isinstance(entries, list) or not entries:
        msg = f"the spatial index lists {entries!r:.40}: expected tiles"
        raise FormatError(msg)
    read = _frame if is_frames else _tile
    pairs = [read(entry) for entry in entries]
    windows = tuple(window for window, _ in pairs)
    georef = Georef(unpack_crs(obj.get("crs")), unpack_affine(obj.get("transform")))
    # An identity that is told means none; only silence leaves it to the boxes.
    if georef.transform is None and not obj.get("transform"):
        georef = Georef(georef.crs, _from_bbox(entries[0], windows[0]))
    return TileList(
        windows,
        tuple(span for _, span in pairs),
        is_frames,
        georef,
        (_optional(obj, "height"), _optional(obj, "width")),
        _optional(obj, "total_bytes"),
    )


def unpack_embedded_index(text: str) -> TileList:
    """Read the index in a comment: base64 of the gzip of the JSON.

    Raises
    ------
    FormatError
        It is none, or longer than a header may be.
    """
    try:
        inflater = zlib.decompressobj(GZIP)
        packed = base64.b64decode(text, validate=True)
        data = inflater.decompress(packed, MAX_HEADER_NBYTES)
        if not inflater.eof:
            data += inflater.decompress(inflater.unconsumed_tail, 1)
    except (binascii.Error, zlib.error, ValueError) as error:
        msg = f"GEOSPATIAL_SPATIAL_INDEX does not inflate: {error}"
        raise FormatError(msg) from error
    if not inflater.eof or len(data) > MAX_HEADER_NBYTES:
        msg = (
            "GEOSPATIAL_SPATIAL_INDEX is cut off, or inflates to more than "
            f"{MAX_HEADER_NBYTES} bytes"
        )
        raise FormatError(msg)
    found = unpack_index(data)
    if found is None:
        msg = "GEOSPATIAL_SPATIAL_INDEX lists neither frames nor tiles"
        raise FormatError(msg)
    return found


def derive_grid(tiles: TileList) -> tuple[TileGrid, tuple[int, ...]]:
    """Find the regular grid that the windows form.

    Returns
    -------
    TileGrid, tuple of int
        The grid of (y, x), and each listed tile's number in it.

    Raises
    ------
    FormatError
        The windows leave a hole, overlap, or are of unequal size.

    Examples
    --------
    >>> pair = (Window(0, 4, 3, 2), Window(0, 0, 3, 4))
    >>> derive_grid(TileList(pair, ((0, 1),) * 2, True, Georef(), (3, 6), None))
    (TileGrid(shape=(3, 6), tile=(3, 4)), (1, 0))
    """
    windows = tiles.windows
    corner = next((w for w in windows if (w.row_off, w.col_off) == (0, 0)), None)
    if corner is None:
        msg = "the index lists no tile at row 0, column 0"
        raise FormatError(msg)
    height = max(w.row_off + w.height for w in windows)
    width = max(w.col_off + w.width for w in windows)
    grid = TileGrid((height, width), (corner.height, corner.width))
    for name, found, told in zip(
        ("height", "width"), grid.shape, tiles.size, strict=True
    ):
        if told not in (None, found):
            msg = f"the index says {name} {told}, its tiles end at {found}"
            raise FormatError(msg)
    if grid.n_tiles != len(windows):
        msg = f"{len(windows)} tiles do not fill a grid of {grid.counts}"
        raise FormatError(msg)
    numbers = tuple(_number(grid, window) for window in windows)
    if len(set(numbers)) != len(numbers):
        msg = "the index lists a tile twice"
        raise FormatError(msg)
    return grid, numbers


def _number(grid: TileGrid, window: Window) -> int:
    index = (window.row_off // grid.tile[0], window.col_off // grid.tile[1])
    if grid.slices(index) != window.slices:
        msg = f"{window} is no tile of a regular grid of {grid.tile} pixels"
        raise FormatError(msg)
    return grid.number(index)


def _frame(entry: Any) -> tuple[Window, tuple[int, int]]:
    window = _get(entry, "window")
    offset = _whole(_get(entry, "byte_offset"), MAX_OFFSET)
    nbytes = _whole(_get(entry, "byte_size"), MAX_OFFSET)
    names = ("row_off", "col_off", "height", "width")
    return _window([_get(window, name) for name in names]), (offset, offset + nbytes)


def _tile(entry: Any) -> tuple[Window, tuple[int, int]]:
    window, span = _get(entry, "window"), _get(entry, "byte_range")
    if not isinstance(window, list) or len(window) != 4:  # noqa: PLR2004  # as it says
        msg = f"window {window!r:.60}: expected [col_off, row_off, width, height]"
        raise FormatError(msg)
    if not isinstance(span, list) or len(span) != 2:  # noqa: PLR2004  # as it says
        msg = f"byte_range {span!r:.60}: expected [start, end]"
        raise FormatError(msg)
    col_off, row_off, width, height = window
    start, end = (_whole(value, MAX_OFFSET) for value in span)
    return _window([row_off, col_off, height, width]), (start, end)


def _window(values: Sequence[Any]) -> Window:
    row_off, col_off, height, width = (_whole(v, MAX_PIXELS) for v in values)
    if not height or not width:
        msg = f"an empty window: {values}"
        raise FormatError(msg)
    return Window(row_off, col_off, height, width)


def _get(obj: Any, name: str) -> Any:
    if not isinstance(obj, dict) or name not in obj:
        msg = f"the spatial index has {obj!r:.80}: expected an object with {name!r}"
        raise FormatError(msg)
    return obj[name]


def _optional(obj: Mapping[str, Any], name: str) -> int | None:
    return None if obj.get(name) is None else _whole(obj[name], MAX_OFFSET)


def _whole(value: Any, limit: int) -> int:
    """Take a number without a fraction; GIS tools print 256.0 for 256."""
    is_whole = type(value) is int or (type(value) is float and value.is_integer())
    if not is_whole or not 0 <= value <= limit:
        msg = f"the spatial index has {value!r:.40}: expected a whole number from 0 on"
        raise FormatError(msg)
    return int(value)


def _from_bbox(entry: Mapping[str, Any], window: Window) -> Affine | None:
    """Give the north-up transform that a tile's (xmin, ymin, xmax, ymax) implies."""
    bbox = entry.get("bbox")
    numbers = bbox if isinstance(bbox, list) else []
    if len(numbers) != 4 or not all(type(v) in (int, float) for v in numbers):  # noqa: PLR2004
        return None
    if any(abs(v) > MAX_COORDINATE for v in numbers):
        return None
    xmin, ymin, xmax, ymax = (float(v) for v in numbers)
    a, e = (xmax - xmin) / window.width, (ymin - ymax) / window.height
    transform = (
        *(a, 0.0, xmin - a * window.col_off),
        *(0.0, e, ymax - e * window.row_off),
    )
    return transform if a and e and all(map(math.isfinite, transform)) else None
