"""One tile of a legacy file to pixels (docs/legacy.md).

Strategy: a tile that says which transforms it uses is ours; any other holds samples as
flac-raster writes them, channels being bands. A tile's own comments go before those of
the file.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flac_xarray import flac_frames, flac_stream
from flac_xarray.dtypes import numpy_dtype
from flac_xarray.errors import CorruptTileError, LossyFileWarning
from flac_xarray.legacy import Stretch, lossy_reason, undo_stretch
from flac_xarray.legacy.comments import read_dtype, read_size
from flac_xarray.tile_codec import decode_tile

__all__ = ["LegacyDecoder"]


@dataclass(frozen=True, slots=True)
class LegacyDecoder:
    """Decodes the tiles of one legacy file; called like `decode_tile`."""

    comments: Mapping[str, str]
    """Comments that hold for tiles without their own."""
    lossy: str | None = None
    """What was warned of when the file was opened."""

    def __call__(
        self,
        data: bytes | memoryview,
        *,
        shape: tuple[int, ...],
        dtype: str,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Decode one tile; see `flac_xarray.tile_codec.decode_tile`.

        Raises
        ------
        FormatError
            The bytes are no tile, or another one.

        Warns
        -----
        LossyFileWarning
            Its own writer lost values, or may have.
        """
        info, blocks, offset = flac_stream.unpack_stream(data)
        comments = flac_stream.unpack_comments(blocks)
        if "GEOSPATIAL_TRANSFORMS" in comments:
            return decode_tile(data, shape=shape, dtype=dtype, out=out)
        if "GEOSPATIAL_DTYPE" not in comments:
            comments = dict(self.comments)
            if not comments:
                msg = "the tile has no GEOSPATIAL_* comments, nor has the file"
                raise CorruptTileError(msg)
        elif "GEOSPATIAL_SPATIAL_INDEX" not in comments:
            _check_tile(comments, shape, dtype)
        stretch = Stretch.from_comments(comments)
        reason = lossy_reason(dtype, info.bits_per_sample, stretch)
        if reason not in (None, self.lossy):
            warnings.warn(reason, LossyFileWarning, stacklevel=2)
        *leading, height, width = shape
        count = height * width
        # flac-raster's encoder leaves the number of samples open.
        info = replace(info, total_samples=info.total_samples or count)
        samples = flac_frames.decode_samples(
            info,
            memoryview(data)[offset:],
            count=count,
            channels=math.prod(leading),
        )
        pixels = undo_stretch(samples, info.bits_per_sample, dtype, stretch)
        out = np.empty(shape, numpy_dtype(dtype)) if out is None else out
        out[...] = pixels.reshape(count, -1).T.reshape(shape)
        return out


def _check_tile(
    comments: Mapping[str, str], shape: tuple[int, ...], dtype: str
) -> None:
    *leading, height, width = shape
    found = (read_dtype(comments), read_size(comments))
    if found != (dtype, (math.prod(leading), height, width)):
        msg = f"the tile is {found[0]} {found[1]}: expected {dtype} {shape}"
        raise CorruptTileError(msg)
