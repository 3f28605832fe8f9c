"""The spatial index of a raster in the JSON shape that the format grew from.

Strategy: a regular grid needs no box per tile, so the file stores none; this module
works them out for who wants them listed. In this shape ``window`` is [col_off, row_off,
width, height] and ``byte_range`` is [first byte, last byte], **both inclusive** and
counted from the start of the file, as in an HTTP Range header.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from flac_xarray.grid import Window
from flac_xarray.reader import FlacRaster

__all__ = ["spatial_index", "tile_records", "tile_window"]


def spatial_index(raster: FlacRaster, *, level: int = 0) -> dict[str, Any]:
    """Give the spatial index of the first data array.

    Parameters
    ----------
    raster
        An open FLAC raster.
    level
        Overview level.

    Returns
    -------
    dict
        ``tiles``, see `tile_records`, and ``total_bytes``, the sum of their bytes.

    Examples
    --------
    >>> import numpy as np
    >>> from flac_xarray.array_writer import encode_array
    >>> data = encode_array(np.eye(4, dtype="uint8"), tile_size=2)
    >>> index = spatial_index(FlacRaster.open(data))
    >>> index["tiles"][1]["window"], index["tiles"][1]["byte_range"]
    ([2, 0, 2, 2], None)
    >>> first, last = index["tiles"][3]["byte_range"]
    >>> data[first : first + 4], last - first + 1 == len(data) - first
    (b'fLaC', True)
    """
    count = raster.array(level=level).grid.n_tiles
    tiles = list(tile_records(raster, range(count), level=level))
    spans = [tile["byte_range"] for tile in tiles if tile["byte_range"]]
    return {
        "tiles": tiles,
        "total_bytes": sum(last - first + 1 for first, last in spans),
    }


def tile_records(
    raster: FlacRaster, numbers: Sequence[int], *, level: int = 0
) -> Iterator[dict[str, Any]]:
    """Describe tiles of the first data array.

    Parameters
    ----------
    raster
        An open FLAC raster.
    numbers
        Tile numbers.
    level
        Overview level.

    Yields
    ------
    dict
        ``id`` (the number), ``index`` where there are more dims than rows and columns
        (one entry per dim), ``bbox``, ``window`` and ``byte_range``, which is None for
        an empty tile: it takes no bytes.

    Raises
    ------
    WindowError
        There is no such tile.
    """
    position = raster.header.find(level=level)
    info, georef = raster.header.arrays[position], raster.level_georef(level)
    height, width = info.shape[-2:]
    indices = [info.grid.index(number) for number in numbers]
    entries = raster.index.lookup(position, numbers)
    for number, index, entry in zip(numbers, indices, entries, strict=True):
        window = tile_window(raster, number, level=level)
        record: dict[str, Any] = {"id": number}
        if len(index) > 2:  # noqa: PLR2004
            record["index"] = list(index)
        yield record | {
            "bbox": list(georef.bounds(height, width, window)),
            "window": [window.col_off, window.row_off, window.width, window.height],
            "byte_range": [entry.offset, entry.stop - 1] if entry.nbytes else None,
        }


def tile_window(raster: FlacRaster, number: int, *, level: int = 0) -> Window:
    """Give the rows and columns of a tile of the first data array.

    Raises
    ------
    WindowError
        There is no such tile.
    """
    grid = raster.array(level=level).grid
    rows, cols = grid.slices(grid.index(number))[-2:]
    return Window(
        rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start
    )
