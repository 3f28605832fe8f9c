"""The main job from end to end: convert, serve, open far away, read a window, check.

Strategy: nothing is staged. The file lies behind a real HTTP server on this machine,
xarray opens its URL, and what was moved is what that server counted; pixels are
compared with what rasterio reads from the original.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["DemoReport", "run_demo"]

WINDOW: Final = 400
"""Rows and columns of the window that is read."""
TILE: Final = 256
COPY_LIMIT: Final = 1 << 30
"""Bytes of pixels up to which a GeoTIFF is written for its size."""

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What the demonstration measured; sizes are in bytes."""

    source: str
    """What was converted."""
    is_synthetic: bool
    """Whether it came from the generator."""
    shape: tuple[int, ...]
    """Bands, rows, columns."""
    dtype: str
    """Of the pixels."""
    pixel_nbytes: int
    """Pixels, uncompressed."""
    geotiff_nbytes: int | None
    """The same pixels as a tiled GeoTIFF, DEFLATE with predictor; None when skipped."""
    flac_nbytes: int
    """As a FLAC raster."""
    convert_seconds: float
    """Time that the conversion took."""
    window: tuple[int, int]
    """Rows and columns of the window that was read."""
    window_nbytes: int
    """Its pixels, uncompressed."""
    open_requests: int
    """Requests for opening."""
    open_nbytes: int
    """Bytes moved for opening."""
    read_requests: int
    """Requests for the window."""
    read_nbytes: int
    """Bytes moved for the window."""
    read_seconds: float
    """Time from opening the URL to having the pixels."""
    equal: bool
    """Whether every bit of the window is that of the original."""

    @property
    def nbytes(self) -> int:
        """Bytes moved in all."""
        return self.open_nbytes + self.read_nbytes


def run_demo(
    folder: str | os.PathLike[str],
    source: str | os.PathLike[str] | None = None,
    *,
    say: Say = lambda _: None,
) -> DemoReport:
    """Run the demonstration.

    Parameters
    ----------
    folder
        Where the files go; replaced when they are there.
    source
        A raster, FLAC rasters included; a synthetic scene is made when there is none.
    say
        Called with a line before each step.

    Returns
    -------
    DemoReport
        What was measured.

    Raises
    ------
    SourceError
        The raster cannot be read.
    UnsupportedDataError
        It cannot be stored as a FLAC raster.
    """
    from flac_xarray.geotiff import convert_to_flac, open_dataset

    folder = Path(folder)
    is_synthetic = source is None
    if source is None:
        say("Making a synthetic scene: 4 bands of 10 m, like Sentinel-2's")
        source = folder / "scene.tif"
        _write_scene(source)
    elif os.fspath(source).endswith(".flac"):
        source = _restore(source, folder / "original.tif", say)
    target = folder / "scene.flac"
    with open_dataset(source) as dataset:
        shape = (dataset.count, dataset.height, dataset.width)
        say(f"Converting {source} to {target}")
        started = time.perf_counter()
        convert_to_flac(dataset, target, tile_size=TILE, overwrite=True)
        seconds = time.perf_counter() - started
        pixel_nbytes = _pixel_nbytes(dataset)
        geotiff_nbytes = _geotiff_nbytes(dataset, folder / "deflate.tif")
        measured = _read_far_away(target, dataset, say)
    return DemoReport(
        source=str(source),
        is_synthetic=is_synthetic,
        shape=shape,
        pixel_nbytes=pixel_nbytes,
        geotiff_nbytes=geotiff_nbytes,
        flac_nbytes=target.stat().st_size,
        convert_seconds=seconds,
        **measured,
    )


def _restore(source: str | os.PathLike[str], target: Path, say: Say) -> Path:
    """Make the GeoTIFF of a FLAC raster, old ones included."""
    from flac_xarray.geotiff import convert_to_geotiff
    from flac_xarray.reader import FlacRaster

    say(f"Restoring {source} to {target}")
    with FlacRaster.open(source) as raster:
        convert_to_geotiff(raster, target, overwrite=True)
    return target


def _write_scene(path: Path) -> None:
    from flac_xarray.scenes import multispectral_scene

    multispectral_scene().write_geotiff(
        path, tiled=True, blockxsize=TILE, blockysize=TILE
    )


def _pixel_nbytes(dataset: Any) -> int:
    from flac_xarray.dtypes import itemsize

    n_pixels: int = dataset.count * dataset.height * dataset.width
    return n_pixels * itemsize(dataset.dtypes[0])


def _geotiff_nbytes(dataset: Any, path: Path) -> int | None:
    """Size of the raster as a GeoTIFF with DEFLATE; None when that takes too long."""
    import rasterio.shutil

    from flac_xarray.dtypes import itemsize

    if _pixel_nbytes(dataset) > COPY_LIMIT:
        return None
    dtype = dataset.dtypes[0]
    options: dict[str, Any] = {}
    if dtype.startswith("float"):
        options["predictor"] = 3
    elif dtype.startswith(("int", "uint")):
        # A source of 1 or 12 bits would pass that on, and no predictor takes it.
        options |= {"predictor": 2, "nbits": 8 * itemsize(dtype)}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        rasterio.shutil.copy(
            dataset,
            path,
            driver="GTiff",
            tiled=True,
            blockxsize=TILE,
            blockysize=TILE,
            compress="deflate",
            bigtiff="if_safer",
            **options,
        )
    return path.stat().st_size


def _read_far_away(target: Path, dataset: Any, say: Say) -> dict[str, Any]:
    """Read a window of the middle over HTTP and compare it with the original."""
    import rasterio.windows
    import xarray as xr

    from flac_xarray.range_server import RangeServer

    rows, cols = (_middle(n) for n in (dataset.height, dataset.width))
    with RangeServer(target.parent) as server:
        url, path = server.url_of(target.name), f"/{target.name}"
        say(f"Opening {url} with xarray")
        started = time.perf_counter()
        with xr.open_dataset(url, engine="flacraster", mask_and_scale=False) as ds:
            opening = server.requests[path], server.bytes[path]
            (name, *_) = ds.data_vars
            say(f"Reading {rows.stop - rows.start} x {cols.stop - cols.start} pixels")
            part = ds[name].isel(y=rows, x=cols).to_numpy()
        seconds = time.perf_counter() - started
        requests, nbytes = server.requests[path], server.bytes[path]
    window = rasterio.windows.Window.from_slices(rows, cols)
    expected = dataset.read(window=window).astype(part.dtype, copy=False)
    return {
        "dtype": dataset.dtypes[0],
        "window": part.shape[-2:],
        "window_nbytes": part.nbytes,
        "open_requests": opening[0],
        "open_nbytes": opening[1],
        "read_requests": requests - opening[0],
        "read_nbytes": nbytes - opening[1],
        "read_seconds": seconds,
        "equal": part.tobytes() == expected.tobytes(),
    }


def _middle(n: int) -> slice:
    """Half-open interval of up to `WINDOW` pixels in the middle of n."""
    length = min(WINDOW, n)
    start = (n - length) // 2
    return slice(start, start + length)
