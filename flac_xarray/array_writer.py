"""NumPy arrays straight to a file or to bytes.

Strategy: describe the array as the only one of a file, then hand it to the writer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flac_xarray.dtypes import dtype_name
from flac_xarray.errors import UnsupportedDataError
from flac_xarray.georef import Affine, Georef
from flac_xarray.header import ArrayInfo, Header
from flac_xarray.overview_plan import Overviews
from flac_xarray.sinks import MemorySink
from flac_xarray.tile_encoder import DEFAULT_EFFORT
from flac_xarray.writer import FlacRasterWriter

__all__ = ["array_header", "encode_array", "write_array"]

DEFAULT_TILE: Final = 512


def array_header(
    array: NDArray[Any],
    *,
    name: str = "band_data",
    dims: Sequence[str] | None = None,
    tile_size: int | Sequence[int] = DEFAULT_TILE,
    nodata: float | None = None,
    crs: str | None = None,
    transform: Affine | None = None,
) -> Header:
    """Describe a NumPy array as the only one of a file; see `write_array`."""
    if dims is None:
        dims = ("y", "x") if array.ndim == 2 else ("band", "y", "x")  # noqa: PLR2004
    if len(dims) != array.ndim or array.ndim < 2:  # noqa: PLR2004
        msg = f"an array of shape {array.shape} needs one name per dim, found {dims}"
        raise UnsupportedDataError(msg, dtype=str(array.dtype))
    if isinstance(tile_size, int):
        tile_size = (1,) * (array.ndim - 2) + (tile_size, tile_size)
    info = ArrayInfo(
        name,
        dtype_name(array.dtype),
        tuple(dims),
        array.shape,
        tuple(tile_size),
        nodata=(nodata,),
    )
    return Header((info,), Georef(crs, transform))


def write_array(
    target: str | os.PathLike[str],
    array: ArrayLike,
    *,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    effort: int = DEFAULT_EFFORT,
    threads: int | None = None,
    overviews: Overviews = None,
    resampling: str = "nearest",
    **description: Any,
) -> None:
    """Write one NumPy array as a FLAC raster.

    Parameters
    ----------
    target
        Path or URL.
    array
        Shape (row, col), (band, row, col), or any with `dims` given.
    overwrite, storage_options
        See `FlacRasterWriter.create`.
    effort
        0 (fastest) to 9 (smallest).
    threads
        Encoding threads, one a core by default.
    overviews
        ``"auto"``: halves until one tile covers the raster; or factors: ``(2, 4, 8)``.
    resampling
        How they are made: nearest, average, mode, rms, bilinear, cubic, cubic_spline,
        lanczos, gauss.
    **description
        ``name``, ``dims``, ``tile_size`` (pixels, or one entry per dim), ``nodata``,
        ``crs`` (authority code or WKT2), ``transform`` (a, b, c, d, e, f).

    Raises
    ------
    UnsupportedDataError
        The dtype or dims cannot be stored.
    FileExistsError
        The target exists and `overwrite` is false.
    """
    pixels = np.asarray(array)
    header = array_header(pixels, **description)
    with FlacRasterWriter.create(
        target,
        header,
        overwrite=overwrite,
        storage_options=storage_options,
        effort=effort,
        threads=threads,
        overviews=overviews,
        resampling=resampling,
    ) as writer:
        writer.write(pixels)


def encode_array(
    array: ArrayLike,
    *,
    effort: int = DEFAULT_EFFORT,
    threads: int | None = None,
    overviews: Overviews = None,
    resampling: str = "nearest",
    **description: Any,
) -> bytes:
    """Give the bytes of the file that `write_array` would write.

    Examples
    --------
    >>> import numpy as np
    >>> encode_array(np.zeros((4, 4), "int16"))[4:25]
    b'{"format":"flacraster'
    """
    pixels = np.asarray(array)
    sink = MemorySink()
    with FlacRasterWriter(
        sink,
        array_header(pixels, **description),
        effort=effort,
        threads=threads,
        overviews=overviews,
        resampling=resampling,
    ) as writer:
        writer.write(pixels)
    return sink.value
