"""What `benchmarks.remote` compares: five ways to read a raster through a web server.

Strategy: each reader opens its file anew and gives the pixels of a task, and names the
modules that it loads while it does so, for a measurement that begins after imports.
Whoever has options that its documentation advises for a remote file gets them.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.reading import write_cog

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["READERS", "TASKS", "Reader", "Task", "write_all"]

GDAL = {
    # What GDAL's and rio-tiler's documentation advise for COGs over HTTP.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_VERSION": "2",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "GDAL_NUM_THREADS": "ALL_CPUS",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif",
    "VSI_CACHE": "TRUE",
}


@dataclass(frozen=True)
class Task:
    """What to read: a square of tiles in the middle, or everything."""

    name: str
    tiles: int | None
    dask: bool = False

    def window(self, tile: int, size: int) -> tuple[slice, slice]:
        """Rows and columns."""
        if self.tiles is None:
            return slice(0, size), slice(0, size)
        start = size // tile // 2 * tile
        part = slice(start, min(start + self.tiles * tile, size))
        return part, part


TASKS = {
    task.name: task
    for task in (
        Task("tile", 1),
        Task("3x3", 3),
        Task("all", None),
        Task("all, dask", None, dask=True),
    )
}

Read = Callable[[str, Task, tuple[slice, slice]], "NDArray[Any]"]


@dataclass(frozen=True)
class Reader:
    """One way to read."""

    file: str
    read: Read
    modules: tuple[str, ...]
    """What reading imports."""

    @property
    def missing(self) -> list[str]:
        """Modules that are not installed."""
        tops = {module.partition(".")[0] for module in self.modules}
        return sorted(m for m in tops if importlib.util.find_spec(m) is None)

    def load(self) -> None:
        """Import what reading will import."""
        for module in self.modules:
            importlib.import_module(module)


def _flac(url: str, task: Task, window: tuple[slice, slice]) -> NDArray[Any]:
    from flac_xarray import FlacRaster, Window

    if task.tiles is None:
        return _flac_xarray(url, task, window)
    rows, cols = window
    height, width = rows.stop - rows.start, cols.stop - cols.start
    with FlacRaster.open(url) as raster:
        return raster.read(Window(rows.start, cols.start, height, width))[0]


def _flac_xarray(url: str, task: Task, window: tuple[slice, slice]) -> NDArray[Any]:
    import dask
    import xarray as xr

    options: dict[str, Any] = {} if task.dask else {"chunks": None, "cache": False}
    ds = xr.open_dataset(url, engine="flacraster", mask_and_scale=False, **options)
    with dask.config.set(scheduler="threads", num_workers=2):
        part = ds if task.tiles is None else ds.isel(y=window[0], x=window[1])
        found: NDArray[Any] = part.load().band_data.values[0]
        return found


def _cog(url: str, _: Task, window: tuple[slice, slice]) -> NDArray[Any]:
    import rasterio
    from rasterio.windows import Window

    with rasterio.Env(**GDAL), rasterio.open(url) as dataset:
        found: NDArray[Any] = dataset.read(1, window=Window.from_slices(*window))
        return found


def _zarr(store: Any, task: Task, window: tuple[slice, slice]) -> NDArray[Any]:
    import dask
    import xarray as xr

    chunks: dict[str, int] | None = {} if task.dask else None
    ds = xr.open_zarr(store, consolidated=True, chunks=chunks)
    with dask.config.set(scheduler="threads", num_workers=2):
        part = ds if task.tiles is None else ds.isel(y=window[0], x=window[1])
        found: NDArray[Any] = part.load().band.values
        return found


def _zarr_obstore(url: str, task: Task, window: tuple[slice, slice]) -> NDArray[Any]:
    from obstore.store import HTTPStore
    from zarr.storage import ObjectStore

    http = HTTPStore.from_url(url, client_options={"allow_http": True})
    return _zarr(ObjectStore(http, read_only=True), task, window)


REMOTE = ("fsspec.implementations.http", "aiohttp")
ENGINE = ("dask.array", "rioxarray", "flac_xarray.dask_tiles")
ZARR = ("dask.array", "zarr", "zarr.codecs")
READERS = {
    "FLAC raster": Reader(
        "a.flac", _flac, (*REMOTE, *ENGINE, "flac_xarray.raster_layout")
    ),
    "FLAC, xarray": Reader(
        "a.flac", _flac_xarray, (*REMOTE, *ENGINE, "flac_xarray.raster_layout")
    ),
    "COG, rasterio": Reader("a.tif", _cog, ("rasterio",)),
    "Zarr, fsspec": Reader("a.zarr", _zarr, (*REMOTE, *ZARR)),
    "Zarr, obstore": Reader("a.zarr", _zarr_obstore, (*ZARR, "obstore.store")),
}


def write_all(folder: Path, band: NDArray[Any], tile: int) -> None:
    """Write the three files: same pixels, same tiles."""
    import xarray as xr

    from flac_xarray import write_array

    write_array(folder / "a.flac", band[np.newaxis], tile_size=tile)
    write_cog(folder / "a.tif", band, tile, compress="DEFLATE", predictor="YES")
    array = xr.DataArray(band, dims=("y", "x"), name="band")
    array.to_dataset().to_zarr(
        folder / "a.zarr",
        encoding={"band": {"chunks": (tile, tile)}},
        zarr_format=3,
        consolidated=True,  # a web server cannot list a folder
    )
