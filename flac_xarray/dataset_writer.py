"""Datasets and DataArrays to one file.

Strategy: `dataset_plan` decides everything; here pixels flow. NumPy arrays go through
the writer's own threads; where there are dask arrays, everything becomes one graph
(`dask_writer`), so no array is ever gathered.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from dask.base import is_dask_collection

from flac_xarray.dask_writer import begin_place, encoded_blocks, joined_graph
from flac_xarray.dataset_overviews import with_overviews
from flac_xarray.dataset_plan import plan_dataset
from flac_xarray.overview_plan import Overviews, Resampling
from flac_xarray.tile_encoder import DEFAULT_EFFORT, TileEncoder
from flac_xarray.tile_job import TileJob
from flac_xarray.writer import FlacRasterWriter

if TYPE_CHECKING:
    from dask.delayed import Delayed

__all__ = ["write"]

MAX_CHANNELS: Final = 8
"""Bands that one tile interleaves by pixel, FLAC's limit."""


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
    interleave: str = "band",
    compute: bool = True,
) -> Delayed | None:
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
        Threads that encode arrays in memory, and those of dask's threaded scheduler;
        one a core by default.
    overviews
        ``"auto"``: halves until one tile covers the raster; or factors: ``(2, 4, 8)``.
    resampling
        How they are made: nearest, average, mode, rms, bilinear, cubic, cubic_spline,
        lanczos or gauss, for all variables or by name.
    interleave
        ``"band"``: a tile holds one band, so that some bands of many can be read
        alone. ``"pixel"``: up to 8 bands in each tile.
    compute
        False returns one `Delayed` that writes the file when it is computed, once.

    Returns
    -------
    Delayed or None
        With ``compute=False``; it computes to the name of the file.

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
    plan = plan_dataset(
        data,
        encoding=encoding,
        tile_size=tile_size,
        bands_per_tile=MAX_CHANNELS if interleave == "pixel" else 1,
    )
    plan = with_overviews(plan, overviews, resampling)
    if compute and not any(is_dask_collection(v._data) for v in plan.arrays):  # noqa: SLF001
        with FlacRasterWriter.create(
            target,
            plan.header,
            overwrite=overwrite,
            storage_options=storage_options,
            effort=effort,
            threads=threads,
            interleave=interleave,
        ) as writer:
            for position, variable in enumerate(plan.arrays):
                writer.write(np.asarray(variable.values), position=position)
        return None
    encoder = TileEncoder(plan.header, effort, interleave)
    place = begin_place(
        target, plan.header, overwrite=overwrite, storage_options=storage_options
    )
    job = TileJob(encoder, place)
    try:
        token = uuid.uuid4().hex
        task = joined_graph(*encoded_blocks(plan, job, token), job, token)
        if not compute:
            return task
        options = {"num_workers": threads} if threads else {}
        task.compute(**options)  # type: ignore[no-untyped-call]
    except BaseException:
        place.abort()
        raise
    place.release()
    return None
