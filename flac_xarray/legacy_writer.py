"""Files that flac-raster 0.1.2 and readers of the seed's form open (docs/legacy.md).

Strategy: a plan refuses by name what these forms cannot hold; the writer is the one of
our own format with another tile encoder and another head. Each tile is decoded as
flac-raster decodes it and compared before it is written.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.dtypes import numpy_dtype
from flac_xarray.errors import NotLosslessError, UnsupportedDataError
from flac_xarray.flac_frames import encode_samples
from flac_xarray.flac_stream import pack_comments, pack_stream
from flac_xarray.grid import Window
from flac_xarray.header import MAX_TILE_NBYTES, ArrayInfo, Header
from flac_xarray.legacy.writing import (
    MAX_CHANNELS,
    SAMPLE_BITS,
    identity_stretch,
    pack_index,
    pack_legacy_comments,
    to_samples,
)
from flac_xarray.legacy_tiles import LegacyDecoder
from flac_xarray.sinks import Sink
from flac_xarray.tile_encoder import DEFAULT_EFFORT, TileEncoder
from flac_xarray.tile_table import TileTable
from flac_xarray.writer import FlacRasterWriter

__all__ = ["PROFILES", "LegacyWriter", "legacy_header"]

PROFILES: Final = ("flac-raster", "raw")
"""flac-raster's streaming container, and the seed's single FLAC stream."""
BLOCKSIZE: Final = 4096
NAME: Final = "band_data"
NDIM: Final = (2, 3)


def legacy_header(header: Header, profile: str, tile: tuple[int, int]) -> Header:
    """Describe what a file of an old form will hold of a raster.

    Parameters
    ----------
    header
        Of the source.
    profile
        One of `PROFILES`.
    tile
        Rows and columns of a tile; a raw file is one tile.

    Returns
    -------
    Header
        One array with dims (band, y, x), all bands in each tile.

    Raises
    ------
    UnsupportedDataError
        The form cannot hold the raster; the message says what of it.

    Warns
    -----
    UserWarning
        Descriptions, tags and the like, which say nothing about pixels, are left out.
    """
    info = header.arrays[header.find()]
    reasons = _refusals(header, info)
    if reasons:
        msg = f"a {profile} file cannot hold {'; nor '.join(reasons)}"
        raise UnsupportedDataError(msg, dtype=info.dtype)
    left_out = _left_out(header, info)
    if left_out:
        msg = (
            f"a {profile} file holds pixels and georeference: no {', '.join(left_out)}"
        )
        warnings.warn(msg, UserWarning, stacklevel=3)
    shape = (*(1,) * (3 - len(info.shape)), *info.shape)
    rows, cols = shape[1:] if profile == "raw" else tile
    if profile == "raw" and np.prod(shape) * numpy_dtype(info.dtype).itemsize > (
        MAX_TILE_NBYTES
    ):
        msg = (
            f"a raw file is one tile: {shape} pixels are above {MAX_TILE_NBYTES} bytes"
        )
        raise UnsupportedDataError(msg, dtype=info.dtype)
    value = info.nodata[0]
    limits = np.iinfo(info.dtype)
    is_pixel = value is not None and value in range(limits.min, limits.max + 1)
    array = ArrayInfo(
        NAME,
        info.dtype,
        ("band", "y", "x"),
        shape,
        (shape[0], rows, cols),
        nodata=(int(value) if is_pixel and value is not None else None,),
    )
    return Header((array,), header.georef)


def _refusals(header: Header, info: ArrayInfo) -> list[str]:
    """Name what would change the pixels or where they are."""
    found = []
    try:
        identity_stretch(info.dtype)
    except UnsupportedDataError as error:
        found.append(str(error))
    names = {array.name for array in header.arrays if array.role == "data"}
    if len(names) > 1:
        found.append(f"several variables ({', '.join(sorted(names))})")
    if len(info.shape) not in NDIM or 0 in info.shape:
        found.append(f"dims {info.sizes}: expected bands, rows and columns")
    elif len(info.shape) > 2 and info.shape[0] > MAX_CHANNELS:  # noqa: PLR2004
        found.append(f"{info.shape[0]} bands: expected at most {MAX_CHANNELS}")
    if any(array.role == "mask" for array in header.arrays):
        found.append("a mask")
    if len({repr(value) for value in info.nodata}) > 1:
        found.append(f"several nodata values {info.nodata}")
    found += [
        f"a {name}"
        for name in ("scale", "offset", "colormap")
        if any(name in band for band in info.bands)
    ]
    georef = header.georef
    pairs = (("GCPs", georef.gcps), ("RPCs", georef.rpcs), ("coords", header.coords))
    return found + [name for name, value in pairs if value]


def _left_out(header: Header, info: ArrayInfo) -> list[str]:
    """Name what is dropped, GDAL's defaults not counted."""
    tags = {ns: dict(tags) for ns, tags in header.tags.items()}
    if tags.get("", {}).get("AREA_OR_POINT") == "Area":
        del tags[""]["AREA_OR_POINT"]
    found = [
        name
        for name in ("description", "units", "tags")
        if any(name in band for band in info.bands)
    ]
    # GDAL takes the bands of a new photograph for red, green and blue by itself.
    colours = {band.get("colorinterp", "gray") for band in info.bands}
    if not colours <= {"gray", "red", "green", "blue", "undefined"}:
        found.append("colorinterp")
    if any(tags.values()) and "tags" not in found:
        found.append("tags")
    if header.attrs or info.attrs:
        found.append("attributes")
    if any(array.level for array in header.arrays):
        found.append("overviews")
    return found


class LegacyTileEncoder(TileEncoder):
    """Pixels of one tile to a stream of flac-raster's kind."""

    __slots__ = ()

    def encode(self, position: int, index: Sequence[int], tile: NDArray[Any]) -> bytes:
        """Encode one tile, see `TileEncoder.encode`; none is empty.

        Raises
        ------
        NotLosslessError
            flac-raster's arithmetic does not give back the same pixels.
        """
        info = self.header.arrays[position]
        shape = info.grid.tile_shape(index)
        level = (self.effort * 3 + 4) // 9
        stream, frames = encode_samples(
            to_samples(tile), SAMPLE_BITS, level=level, blocksize=BLOCKSIZE
        )
        comments = pack_legacy_comments(
            self.header.georef.at(_window(info, index)),
            shape,
            info.dtype,
            info.nodata[0],
        )
        data = pack_stream(stream, (pack_comments(comments),), frames)
        found = LegacyDecoder({})(data, shape=shape, dtype=info.dtype)
        if not np.array_equal(found, tile):
            msg = (
                f"tile {tuple(index)} does not come back from its own stream: nothing "
                "was written; this is a bug of the encoder, please report it"
            )
            raise NotLosslessError(msg, tile=tuple(index))
        return data


class LegacyWriter(FlacRasterWriter):
    """A file of an old form being written; as `FlacRasterWriter`.

    Parameters
    ----------
    sink
        Where the bytes go.
    header
        As `legacy_header` gives it.
    profile
        One of `PROFILES`.
    effort, threads
        See `FlacRasterWriter`.
    """

    def __init__(
        self,
        sink: Sink,
        header: Header,
        *,
        profile: str = PROFILES[0],
        effort: int = DEFAULT_EFFORT,
        threads: int | None = None,
    ) -> None:
        super().__init__(sink, header, effort=effort, threads=threads)
        self.encoder = LegacyTileEncoder(header, effort)
        info = header.arrays[0]
        grid = info.grid
        self._windows = [_window(info, grid.index(k)) for k in range(grid.n_tiles)]
        self._size = (info.shape[-2], info.shape[-1])
        self._head_nbytes = 0
        if profile != "raw":
            room = pack_index(header.georef, self._size, self._windows)
            self._head_nbytes = len(room)
        self._next = self._head_nbytes

    def _pack_head(self, tables: Sequence[TileTable]) -> bytes:
        if not self._head_nbytes:
            return b""
        spans = [
            (int(row["offset"]), int(row["offset"]) + int(row["nbytes"]))
            for row in tables[0].rows
        ]
        return pack_index(
            self.header.georef,
            self._size,
            self._windows,
            spans,
            nbytes=self._head_nbytes,
        )


def _window(info: ArrayInfo, index: Sequence[int]) -> Window:
    rows, cols = info.grid.slices(index)[-2:]
    return Window(
        rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start
    )
