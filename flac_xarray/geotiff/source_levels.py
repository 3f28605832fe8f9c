"""The overviews that a raster has, as rasterio opens them.

Strategy: GDAL gives an overview as a dataset of its own when it opens a file by name.
So an open dataset's name is opened again; where that is another raster (a warped one,
an overview itself), it has no overviews here.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from flac_xarray.geotiff.gdal import translated_errors
from flac_xarray.header import ArrayInfo, Header

__all__ = ["open_levels", "with_levels"]


@contextlib.contextmanager
def open_levels(dataset: Any) -> Iterator[tuple[Any, ...]]:
    """Open the overviews of a dataset, in GDAL's order.

    Yields
    ------
    tuple of dataset
        None where there are none, or where the bands differ in them.

    Raises
    ------
    SourceError
        An overview cannot be opened.
    """
    name = str(dataset.name)
    with contextlib.ExitStack() as stack:
        count = _count(dataset)
        if not count or not _is_named(dataset):
            yield ()
            return
        levels = []
        for k in range(count):
            with translated_errors(name, "read"):
                levels.append(
                    stack.enter_context(rasterio.open(name, overview_level=k))
                )
        yield tuple(levels)


def _count(dataset: Any) -> int:
    factors = {tuple(dataset.overviews(bidx)) for bidx in dataset.indexes}
    if len(factors) == 1:
        return len(factors.pop())
    msg = f"{dataset.name}: the bands differ in their overviews, which are left out"
    warnings.warn(msg, stacklevel=4)
    return 0


def _is_named(dataset: Any) -> bool:
    """Whether opening the dataset's name gives that very raster."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(dataset.name) as again:
                same = [
                    getattr(again, key) == getattr(dataset, key)
                    for key in ("shape", "count", "dtypes", "driver", "transform")
                ]
    except RasterioError:
        return False
    return all(same)


def with_levels(header: Header, levels: Sequence[Any]) -> Header:
    """Add overviews to a header, as they are in the source."""
    arrays = list(header.arrays)
    for level, dataset in enumerate(levels, 1):
        arrays += [_at(info, level, dataset) for info in header.arrays]
    return replace(header, arrays=tuple(arrays))


def _at(info: ArrayInfo, level: int, dataset: Any) -> ArrayInfo:
    return replace(info, level=level, shape=(*info.shape[:-2], *dataset.shape))
