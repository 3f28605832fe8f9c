"""Datasets and DataArrays to one file.

Strategy: `dataset_plan` decides everything; here pixels flow. NumPy arrays go through
the writer's own threads; dask arrays are cut into whole tiles and every block is
encoded by the task that computed it, so no array is ever gathered.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from flac_xarray.dataset_overviews import with_overviews
from flac_xarray.dataset_plan import DatasetPlan, plan_dataset
from flac_xarray.dtypes import numpy_dtype
from flac_xarray.grid import TileGrid
from flac_xarray.overview_plan import Overviews, Resampling
from flac_xarray.tile_encoder import DEFAULT_EFFORT
from flac_xarray.writer import FlacRasterWriter

__all__ = ["write"]


def write(  # noqa: PLR0913
    data: xr.Dataset | xr.DataArray,
    target: str | os.PathLike[str],
    *,
    encoding: Mapping[Hashable, Mapping[str, Any]] | None = None,
    tile_size: int | Mapping[str, int] = 512,
    effort: int = DEFAULT_EFFORT,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    threads: int | None = None,
    overviews: Overviews = None,
    resampling: Resampling = "nearest",
) -> None:
    """Write a Dataset or DataArray as a FLAC raster.

    Opening the file with ``engine="flacraster"`` gives an identical object wherever
    xarray's own Zarr round trip does.

    Parameters
    ----------
    data
        In memory, lazy or dask; a DataArray without a name is called ``band_data``.
    target
        Path or URL.
    encoding
        By variable, as for ``to_zarr``: dtype, scale_factor, add_offset, _FillValue,
        units, calendar; replaces the variable's own encoding.
    tile_size
        Pixels of a tile along y and x (other dims: 1), or by dim.
    effort
        0 (fastest) to 9 (smallest).
    overwrite
        Whether an existing file may be replaced.
    storage_options
        Options of the fsspec file system.
    threads
        Threads that compute and encode, one a core by default.
    overviews
        ``"auto"``: halves until one tile covers the raster; or factors: ``(2, 4, 8)``.
    resampling
        How they are made: nearest, average, mode, rms, bilinear, cubic, cubic_spline,
        lanczos or gauss, for all variables or by name.

    Raises
    ------
    UnsupportedDataError
        Something cannot be stored, named in the message; nothing was written.
    ValueError
        `encoding` names a variable or a key that there is not, or there are no such
        overviews.
    FileExistsError
        The target exists and `overwrite` is false.

    Examples
    --------
    >>> import tempfile
    >>> target = os.path.join(tempfile.mkdtemp(), "t.flac")
    >>> pixels = np.arange(6, dtype="float32").reshape(2, 3)
    >>> write(xr.DataArray(pixels, dims=("y", "x"), name="t"), target)
    >>> xr.open_dataset(target, engine="flacraster").t.dtype
    dtype('float32')
    """
    plan = plan_dataset(data, encoding=encoding, tile_size=tile_size)
    plan = with_overviews(plan, overviews, resampling)
    with FlacRasterWriter.create(
        target,
        plan.header,
        overwrite=overwrite,
        storage_options=storage_options,
        effort=effort,
        threads=threads,
    ) as writer:
        _write_arrays(plan, writer)


def _write_arrays(plan: DatasetPlan, writer: FlacRasterWriter) -> None:
    sources, targets = [], []
    for position, variable in enumerate(plan.arrays):
        if variable.chunks is None:
            writer.write(np.asarray(variable.values), position=position)
            continue
        grid = plan.header.arrays[position].grid
        chunks = tuple(
            _whole_tiles(have, tile)
            for have, tile in zip(variable.chunks, grid.tile, strict=True)
        )
        sources.append(variable.data.rechunk(chunks))
        targets.append(_EncodingTarget(writer, position))
    if sources:
        import dask.array as da

        # All together: what several variables are computed from is computed once.
        da.store(
            sources,
            targets,  # type: ignore[arg-type]  # needs __setitem__, no more
            lock=False,
            scheduler="threads",
            num_workers=writer.threads,
        )


def _whole_tiles(chunks: tuple[int, ...], tile: int) -> tuple[int, ...]:
    """Chunks of whole tiles near the given ones: no tile is computed in two tasks.

    Examples
    --------
    >>> _whole_tiles((100, 100, 50), 64), _whole_tiles((128, 128, 30), 64)
    ((128, 122), (128, 128, 30))
    """
    if all(n % tile == 0 for n in chunks[:-1]):
        return chunks
    n = sum(chunks)
    step = max(round(max(chunks) / tile), 1) * tile
    return tuple(min(step, n - start) for start in range(0, n, step))


class _EncodingTarget:
    """What dask stores blocks into: encodes their tiles, in the task's own thread."""

    def __init__(self, writer: FlacRasterWriter, position: int) -> None:
        self.writer = writer
        self.position = position
        info = writer.header.arrays[position]
        self.shape = info.shape
        self.dtype = numpy_dtype(info.dtype)

    def __setitem__(self, region: tuple[slice, ...], block: NDArray[Any]) -> None:
        grid: TileGrid = self.writer.header.arrays[self.position].grid
        within = tuple(slice(s.start, s.stop) for s in region)
        # xarray's lazy encoders may give a wider dtype than they declared.
        pixels = block.astype(self.dtype, casting="same_kind", copy=False)
        for cut in grid.cuts(within):
            tile = pixels[cut.into]
            data = self.writer.encoder.encode(self.position, cut.index, tile)
            self.writer.write_encoded(self.position, cut.index, data)
