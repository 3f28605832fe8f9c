"""Pixels of one tile to the bytes that the file will hold for it.

Strategy: what a tile's stream says about itself (the seed's ``GEOSPATIAL_*`` comments)
follows from the header and the tile's index, so a `TileEncoder` is a small picklable
value that encodes any tile anywhere: in a thread, a process or a cluster's worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.dtypes import nodata_to_json, numpy_dtype
from flac_xarray.errors import NotLosslessError, UnsupportedDataError
from flac_xarray.georef import tile_comments
from flac_xarray.grid import Window
from flac_xarray.header import Header
from flac_xarray.tile_codec import decode_tile, encode_tile

__all__ = ["DEFAULT_EFFORT", "TileEncoder"]

DEFAULT_EFFORT: Final = 5


@dataclass(frozen=True, slots=True)
class TileEncoder:
    """Pixels of one tile to the bytes of its FLAC stream; picklable, without state."""

    header: Header
    """The header the tiles belong to."""
    effort: int = DEFAULT_EFFORT
    """0 (fastest) to 9 (smallest)."""
    interleave: str = "band"
    """``"band"`` or ``"pixel"``: how several bands of one tile lie in its samples."""

    def encode(self, position: int, index: Sequence[int], tile: NDArray[Any]) -> bytes:
        """Encode one tile.

        Parameters
        ----------
        position
            Which of `header.arrays`.
        index
            Tile index, one integer per dim.
        tile
            Its pixels, in the array's dtype and cut to the array on the far edges.

        Returns
        -------
        bytes
            One complete FLAC stream, or nothing for an empty tile.

        Raises
        ------
        UnsupportedDataError
            The tile has another shape or dtype than the header says.
        NotLosslessError
            The stream does not decode to the same bits; every tile is tried.
        """
        info = self.header.arrays[position]
        shape = info.grid.tile_shape(index)
        if tile.shape != shape or tile.dtype.newbyteorder("=") != numpy_dtype(
            info.dtype
        ):
            msg = (
                f"tile {tuple(index)} of array {info.name!r}: expected {shape} "
                f"{numpy_dtype(info.dtype)}, found {tile.shape} {tile.dtype}"
            )
            raise UnsupportedDataError(msg, dtype=str(tile.dtype))
        nodata = info.nodata_pixel(index)
        if _is_empty(tile, nodata):
            return b""
        data = encode_tile(
            tile,
            dtype=info.dtype,
            nodata=nodata,
            comments=self.comments(position, index),
            effort=self.effort,
            interleave=self.interleave,
        )
        # Decoding costs a tenth of encoding, and a wrong pixel is the worst of bugs.
        found = decode_tile(data, shape=shape, dtype=info.dtype)
        if not np.array_equal(
            _bits(found), _bits(tile.astype(found.dtype, copy=False))
        ):
            msg = (
                f"tile {tuple(index)} of array {info.name!r} does not come back bit "
                "for bit from its own stream: nothing was written; this is a bug of "
                "the encoder, please report it"
            )
            raise NotLosslessError(msg, tile=tuple(index))
        return data

    def comments(self, position: int, index: Sequence[int]) -> dict[str, str]:
        """Give what a tile's stream says about itself, see `tile_comments`."""
        info = self.header.arrays[position]
        shape = info.grid.tile_shape(index)
        rows, cols = info.grid.slices(index)[-2:]
        window = Window(rows.start, cols.start, shape[-2], shape[-1])
        along = slice(None)
        if "band" in info.dims and len(info.nodata) > 1:
            along = info.grid.slices(index)[info.dims.index("band")]
        values = {nodata_to_json(v, info.name) for v in info.nodata[along]}
        return tile_comments(
            self.header.level_georef(info),
            shape=shape,
            dtype=info.dtype,
            nodata=values.pop() if len(values) == 1 else None,
            window=window,
        )


def _bits(tile: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(tile).reshape(-1).view(np.uint8)


def _is_empty(tile: NDArray[Any], nodata: bytes | None) -> bool:
    """Whether every pixel has nodata's bits, or zero bits where there is no nodata."""
    pixel = np.frombuffer(nodata or bytes(tile.dtype.itemsize), np.uint8)
    # Comparing bytes costs as much as encoding: one pixel is looked at first.
    if tile.size == 0 or tile.flat[0].tobytes() != pixel.tobytes():
        return tile.size == 0
    bits = np.ascontiguousarray(tile).view(np.uint8).reshape(-1, len(pixel))
    return bool((bits == pixel).all())
