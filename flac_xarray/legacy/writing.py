"""What flac-raster reads, from pixels: samples, comments and index (docs/legacy.md).

Strategy: flac-raster stretches ``DATA_MIN..DATA_MAX`` over the samples, and a range of
exactly 65536 makes that stretch add a constant, in float32 without rounding. So the
range is a constant of the dtype, samples are the pixels themselves (less 32768 for
uint16), and every value comes back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flac_xarray.container import LENGTH, MAX_HEADER_NBYTES
from flac_xarray.errors import UnsupportedDataError
from flac_xarray.georef import Affine, Georef
from flac_xarray.grid import Window
from flac_xarray.legacy.stretch import IDENTITY_RANGE, Stretch

__all__ = [
    "MAX_CHANNELS",
    "SAMPLE_BITS",
    "identity_stretch",
    "pack_index",
    "pack_legacy_comments",
    "to_samples",
]

SAMPLE_BITS: Final = 16
MAX_CHANNELS: Final = 8
"""Bands that one FLAC stream holds."""
LOWEST: Final = {"int8": -32768, "uint8": -32768, "int16": -32768, "uint16": 0}
"""The dtypes that can be held, and the pixel that the sample -32768 stands for."""
LARGEST: Final = 10**15
"""Offsets are at most this when the room for an index is measured."""


def identity_stretch(dtype: str) -> Stretch:
    """Give the range whose stretch adds a constant to each sample.

    Raises
    ------
    UnsupportedDataError
        The dtype has pixels that no 16-bit sample holds.

    Examples
    --------
    >>> identity_stretch("uint16")
    Stretch(low=0.0, high=65536.0)
    """
    if dtype not in LOWEST:
        msg = f"dtype {dtype} does not fit 16-bit samples: expected {', '.join(LOWEST)}"
        raise UnsupportedDataError(msg, dtype=dtype)
    low = float(LOWEST[dtype])
    return Stretch(low, low + IDENTITY_RANGE)


def to_samples(pixels: NDArray[Any]) -> NDArray[np.int16]:
    """Turn pixels (band, row, col) into samples (pixel, channel).

    Examples
    --------
    >>> to_samples(np.array([[[0, 65535]], [[7, 32768]]], "uint16")).tolist()
    [[-32768, -32761], [32767, 0]]
    """
    low = LOWEST[pixels.dtype.name]
    flat = pixels.reshape(len(pixels), -1).T
    samples = flat.astype(np.int32) - (low + (1 << SAMPLE_BITS - 1))
    return np.ascontiguousarray(samples, np.int16)


def pack_legacy_comments(
    georef: Georef, shape: Sequence[int], dtype: str, nodata: float | None
) -> dict[str, str]:
    """Give the comments of one stream, in flac-raster's words.

    Parameters
    ----------
    georef
        Of the pixels in this stream.
    shape
        (band, row, col).
    dtype
        NumPy's name.
    nodata
        None also where no pixel can be equal to it.
    """
    count, height, width = shape
    stretch = identity_stretch(dtype)
    return {
        # Without the name flac-raster finds no comments; a text "None" it would parse.
        "GEOSPATIAL_CRS": georef.crs or "",
        "GEOSPATIAL_WIDTH": str(width),
        "GEOSPATIAL_HEIGHT": str(height),
        "GEOSPATIAL_COUNT": str(count),
        "GEOSPATIAL_DTYPE": dtype,
        "GEOSPATIAL_NODATA": "None" if nodata is None else str(float(nodata)),
        "GEOSPATIAL_DATA_MIN": str(stretch.low),
        "GEOSPATIAL_DATA_MAX": str(stretch.high),
        "GEOSPATIAL_TRANSFORM": json.dumps(_nine(georef.transform)),
        "GEOSPATIAL_BOUNDS": json.dumps(georef.bounds(height, width)),
        "GEOSPATIAL_SPATIAL_TILING": "False",
    }


def pack_index(
    georef: Georef,
    size: tuple[int, int],
    windows: Sequence[Window],
    spans: Sequence[tuple[int, int]] | None = None,
    *,
    nbytes: int | None = None,
) -> bytes:
    """Give the length and the JSON that a streaming file begins with.

    Parameters
    ----------
    georef
        Of the whole raster.
    size
        Its height and width.
    windows
        Pixels of each tile.
    spans
        First byte and one past the last of each tile, counted from the file's start;
        None to measure the room that any of them need.
    nbytes
        Bytes to fill, with spaces behind the JSON.

    Raises
    ------
    UnsupportedDataError
        There are more tiles than readers take.
    """
    frames = []
    for k, window in enumerate(windows):
        first, stop = (LARGEST, 2 * LARGEST) if spans is None else spans[k]
        frames.append(
            {
                "frame_id": k,
                "bbox": georef.bounds(*size, window),
                "window": {
                    "col_off": window.col_off,
                    "row_off": window.row_off,
                    "width": window.width,
                    "height": window.height,
                },
                "byte_offset": first - (nbytes or 0),
                "byte_size": stop - first,
            }
        )
    index = {
        "crs": str(georef.crs),
        "transform": _nine(georef.affine),
        "width": size[1],
        "height": size[0],
        "tile_size": max(window.width for window in windows),
        "frames": frames,
    }
    text = json.dumps(index, separators=(",", ":")).encode()
    if len(text) + LENGTH.size > MAX_HEADER_NBYTES:
        msg = f"{len(windows)} tiles make an index of {len(text)} bytes: larger tiles"
        raise UnsupportedDataError(msg)
    text = text.ljust((nbytes or 0) - LENGTH.size)
    return LENGTH.pack(len(text)) + text


def _nine(transform: Affine | None) -> list[float] | None:
    return None if transform is None else [*transform, 0.0, 0.0, 1.0]
