"""Opening with rasterio: errors that say whose fault, and a bounded block cache.

Strategy: rasterio's and GDAL's exceptions become ours here and nowhere else. GDAL's
cache takes 5 % of the machine's memory by default; a conversion sets its own limit for
as long as it runs, since a stream of pixels needs one row of blocks, not a cache.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import rasterio
from rasterio._env import get_gdal_config, set_gdal_config
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import Interleaving, MaskFlags
from rasterio.errors import (
    CRSError,
    NotGeoreferencedWarning,
    RasterioError,
    RasterioIOError,
)

from flac_xarray.errors import SourceError, UnsupportedDataError

__all__ = [
    "bounded_cache",
    "check_complete",
    "known_crs",
    "open_dataset",
    "row_of_blocks",
    "translated_errors",
]

MIN_CACHE: Final = 64 << 20
MAX_CACHE: Final = 320 << 20
"""Bytes GDAL may cache; the most holds one 10980x10980 uint16 strip."""


@contextlib.contextmanager
def translated_errors(name: str, doing: str) -> Iterator[None]:
    """Turn rasterio's errors into ours, and quiet the warnings that are none here.

    Parameters
    ----------
    name
        What is read or written, for the message.
    doing
        ``"read"`` or ``"write"``.

    Raises
    ------
    SourceError
        Bytes could not be had or written, or GDAL makes nothing of them.
    UnsupportedDataError
        The CRS is none that GDAL knows.
    """
    try:
        with warnings.catch_warnings():
            # No georeference is a state that is kept, not a mistake.
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            # rasterio casts nodata beyond float32 to find that it is beyond.
            warnings.filterwarnings("ignore", "overflow encountered in cast")
            yield
    except CRSError as error:
        msg = f"cannot {doing} {name}: its CRS is not known: {error}"
        raise UnsupportedDataError(msg) from error
    except (
        RasterioIOError,
        RasterioError,
        CPLE_BaseError,
        UnicodeDecodeError,
    ) as error:
        # GDAL's own words are often in the cause only ("See previous exception").
        cause = error.__cause__ or error.__context__
        is_new = cause is not None and str(cause) not in str(error)
        told = f"{error} ({cause})" if is_new else str(error)
        msg = f"cannot {doing} {name}: {told}"
        raise SourceError(msg, url=name) from error


def known_crs(text: str | None) -> CRS | None:
    """Give the CRS of a text.

    Raises
    ------
    CRSError
        It is none that GDAL knows.
    """
    try:
        return CRS.from_user_input(text) if text else None
    except ValueError as error:  # of EPSG without a number it is no CRSError
        raise CRSError(str(error)) from error


@contextlib.contextmanager
def open_dataset(source: Any) -> Iterator[Any]:
    """Open anything rasterio reads; an open dataset is handed on and stays open.

    Parameters
    ----------
    source
        Path, URL or GDAL name, or an open rasterio dataset.

    Raises
    ------
    SourceError
        It cannot be read, or is not a raster.
    UnsupportedDataError
        It holds no bands: subdatasets only, which the message lists.
    """
    if hasattr(source, "block_shapes"):
        _check_bands(source)
        yield source
        return
    name = os.fspath(source)
    with contextlib.ExitStack() as stack:
        with translated_errors(name, "read"):
            dataset = stack.enter_context(rasterio.open(name))
        _check_bands(dataset)
        yield dataset


def _check_bands(dataset: Any) -> None:
    if dataset.count:
        return
    inside = "".join(f"\n  {name}" for name in dataset.subdatasets)
    msg = f"{dataset.name} holds no bands"
    if inside:
        msg += f" but these subdatasets; convert one of them:{inside}"
    raise UnsupportedDataError(msg)


def check_complete(path: Path, name: str) -> None:
    """Refuse a GeoTIFF that was closed on a full disk: rasterio does so in silence.

    Parameters
    ----------
    path
        The file, closed.
    name
        What it will be called, for the message.

    Raises
    ------
    SourceError
        A block lies outside the file or nowhere, or the mask does not read.
    """
    nbytes = path.stat().st_size
    with translated_errors(name, "write"), rasterio.open(str(path)) as dataset:
        interleaved = dataset.interleaving == Interleaving.pixel
        for bidx in (1,) if interleaved else dataset.indexes:
            for (row, col), _ in dataset.block_windows(bidx):
                offset, size = (
                    int(dataset.get_tag_item(f"{key}_{col}_{row}", "TIFF", bidx) or 0)
                    for key in ("BLOCK_OFFSET", "BLOCK_SIZE")
                )
                if not size or offset + size > nbytes:
                    msg = f"cannot write {name}: block {row, col} is cut off (full?)"
                    raise SourceError(msg, url=name)
        if MaskFlags.per_dataset in dataset.mask_flag_enums[0]:
            for _, window in dataset.block_windows(1):
                dataset.read_masks(1, window=window)


@contextlib.contextmanager
def bounded_cache(nbytes: int) -> Iterator[None]:
    """Limit GDAL's block cache to about `nbytes` while the block runs."""
    with rasterio.Env():
        before = get_gdal_config("GDAL_CACHEMAX")
        set_gdal_config("GDAL_CACHEMAX", min(max(nbytes, MIN_CACHE), MAX_CACHE))
        try:
            yield
        finally:
            set_gdal_config("GDAL_CACHEMAX", before)


def row_of_blocks(dataset: Any, itemsize: int) -> int:
    """Give the bytes of all blocks that one row of pixels crosses, every band."""
    height = max(rows for rows, _ in dataset.block_shapes)
    cols = max(cols for _, cols in dataset.block_shapes)
    across = -(-dataset.width // cols) * cols
    return int(across * min(height, dataset.height) * itemsize * dataset.count)
