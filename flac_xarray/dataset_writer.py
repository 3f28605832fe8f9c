"""Datasets and DataArrays to one file.

Strategy: `dataset_plan` decides everything; here pixels flow. NumPy arrays go through
the writer's own threads; where there are dask arrays, everything becomes one graph
(`dask_writer`), so no array is ever gathered.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from dask.base import is_dask_collection

from flac_xarray.dask_writer import (
    BlockSource,
    begin_place,
    encoded_blocks,
    joined_graph,
)
from flac_xarray.dask_writer import compute as compute_task
from flac_xarray.dataset_overviews import with_overviews
from flac_xarray.dataset_plan import DatasetPlan, plan_dataset
from flac_xarray.file_update import Region, append_task, region_task
from flac_xarray.header_cache import forget_file
from flac_xarray.overview_plan import Overviews, Resampling
from flac_xarray.tile_encoder import DEFAULT_EFFORT, TileEncoder
from flac_xarray.tile_job import Place, TileJob
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
    region: Region | None = None,
    append_dim: str | None = None,
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
    region
        Writes into a file that is there, such as `write_template` makes: slices by
        dim, of whole tiles, or ``"auto"`` to find them by the coordinates. dtype,
        scales and tiles are the file's; `encoding` and `tile_size` are not looked at.
    append_dim
        Puts the data behind what the file holds along this dim: a new file replaces
        it, with the old tiles copied as they are. Where there is none, one is made.

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
    options: dict[str, Any] = {"effort": effort, "interleave": interleave}
    remote: dict[str, Any] = {"storage_options": storage_options}
    with_levels = partial(with_overviews, overviews=overviews, resampling=resampling)
    appends = append_dim is not None and _exists(target, storage_options)
    if region is not None or appends:
        task, place = _update(
            data, target, region, append_dim, with_levels, {**remote, **options}
        )
    else:
        several = MAX_CHANNELS if interleave == "pixel" else 1
        plan = with_levels(
            plan_dataset(
                data, encoding=encoding, tile_size=tile_size, bands_per_tile=several
            )
        )
        remote["overwrite"] = overwrite
        if compute and not any(is_dask_collection(v._data) for v in plan.arrays):  # noqa: SLF001
            _write_in_memory(plan, target, threads=threads, **remote, **options)
            forget_file(target, storage_options)
            return None
        task, place = _new_file(plan, target, remote, options)
    if not compute:
        return task
    compute_task(task, place, threads)
    forget_file(target, storage_options)
    return None


def _write_in_memory(
    plan: DatasetPlan, target: str | os.PathLike[str], **options: Any
) -> None:
    with FlacRasterWriter.create(target, plan.header, **options) as writer:
        for position, variable in enumerate(plan.arrays):
            writer.write(np.asarray(variable.values), position=position)


def _new_file(
    plan: DatasetPlan,
    target: str | os.PathLike[str],
    remote: Mapping[str, Any],
    options: Mapping[str, Any],
) -> tuple[Delayed, Place]:
    """Give the task that writes a file from nothing, and where its bytes go."""
    encoder = TileEncoder(plan.header, **options)
    sources = [
        BlockSource(variable, position, (0,) * variable.ndim)
        for position, variable in enumerate(plan.arrays)
    ]
    token = uuid.uuid4().hex
    place = begin_place(target, plan.header, **remote)
    job = TileJob(encoder, place)
    try:
        graph, leaves = encoded_blocks(sources, job, token)
        return joined_graph(graph, leaves, job, token), place
    except BaseException:
        place.abort()
        raise


def _update(
    data: xr.Dataset | xr.DataArray,
    target: str | os.PathLike[str],
    region: Region | None,
    append_dim: str | None,
    plan_of: Callable[[DatasetPlan], DatasetPlan],
    options: dict[str, Any],
) -> tuple[Delayed, Place]:
    """Give the task that writes into a file that is there."""
    if region is None:
        return append_task(plan_of, data, target, str(append_dim), **options)
    if append_dim is not None:
        msg = "region and append_dim exclude one another"
        raise ValueError(msg)
    del options["storage_options"]
    return region_task(data, target, region, **options)


def _exists(
    target: str | os.PathLike[str], storage_options: Mapping[str, Any] | None
) -> bool:
    text = os.fspath(target)
    if "://" not in text and "::" not in text:
        return Path(text).expanduser().exists()
    import fsspec

    fs, path = fsspec.core.url_to_fs(text, **dict(storage_options or {}))
    return bool(fs.exists(path))
