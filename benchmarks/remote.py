"""Reading a raster over a slow link, against rasterio on a COG and xarray on Zarr.

``python -m benchmarks.remote FILE [--size 10980] [--tile 512] [--latency 0 20 100]``

The file's first band is repeated up to a square and written as a FLAC raster, as a COG
(DEFLATE, predictor, same tile size, no overviews) and as Zarr v3 (its default zstd,
same chunks). A server in a process of its own answers each request after the latency.
Every measurement runs cold in a fresh process, which imports first and then measures
opening and reading; readers take turns, and medians over the repeats are shown, with
the requests and bytes that the server counted. Pixels are compared by checksum.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import numpy as np

from benchmarks.reading import grown, write_cog
from flac_xarray.range_server import RangeHandler, RangeServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

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


class SlowHandler(RangeHandler):
    """Waits before it answers, and tells its counts under ``/counts``."""

    def do_GET(self) -> None:  # noqa: N802  (the name http.server calls)
        """Answer after the latency."""
        if self.path == "/counts":
            counts = [
                sum(self.server.requests.values()),
                sum(self.server.bytes.values()),
            ]
            self.server.reset_counts()
            body = json.dumps(counts).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        time.sleep(self.server.latency)
        super().do_GET()

    def do_HEAD(self) -> None:  # noqa: N802  (the name http.server calls)
        """Answer after the latency."""
        time.sleep(self.server.latency)
        super().do_HEAD()


def serve(folder: str, latency: float, urls: multiprocessing.Queue[str]) -> None:
    """Run the server until the process is ended."""
    with RangeServer(folder, SlowHandler) as server:
        server.latency = latency  # type: ignore[attr-defined]
        urls.put(server.url)
        time.sleep(1e6)


def window_of(what: str, tile: int, size: int) -> tuple[slice, slice]:
    """Rows and columns of a measurement."""
    middle = size // tile // 2 * tile
    n = {"tile": tile, "3x3": 3 * tile, "all": size, "all, dask": size}[what]
    start = 0 if n == size else middle
    return slice(start, start + n), slice(start, start + n)


def flac(url: str, what: str, tile: int, size: int) -> Callable[[], NDArray[Any]]:
    """Read with this package: its reader for windows, xarray for the scene."""
    import dask
    import xarray as xr

    from flac_xarray import FlacRaster, Window

    rows, cols = window_of(what, tile, size)

    def read() -> NDArray[Any]:
        if what == "all, dask":
            ds = xr.open_dataset(url, engine="flacraster", mask_and_scale=False)
            with dask.config.set(scheduler="threads", num_workers=2):
                return ds.band_data.values[0]
        if what == "all":
            ds = xr.open_dataset(
                url, engine="flacraster", mask_and_scale=False, chunks=None, cache=False
            )
            return ds.band_data.load().values[0]
        with FlacRaster.open(url) as raster:
            height, width = rows.stop - rows.start, cols.stop - cols.start
            return raster.read(Window(rows.start, cols.start, height, width))[0]

    return read


def cog(url: str, what: str, tile: int, size: int) -> Callable[[], NDArray[Any]]:
    """Read a COG with rasterio."""
    import rasterio
    from rasterio.windows import Window

    rows, cols = window_of(what, tile, size)

    def read() -> NDArray[Any]:
        with rasterio.Env(**GDAL), rasterio.open(url) as dataset:
            return dataset.read(1, window=Window.from_slices(rows, cols))

    return read


def zarr(url: str, what: str, tile: int, size: int) -> Callable[[], NDArray[Any]]:
    """Read Zarr v3 with xarray, lazily without dask, or with it."""
    import dask
    import xarray as xr

    rows, cols = window_of(what, tile, size)
    chunks = {} if what == "all, dask" else None

    def read() -> NDArray[Any]:
        ds = xr.open_zarr(url, consolidated=True, chunks=chunks)
        with dask.config.set(scheduler="threads", num_workers=2):
            return ds.band[rows, cols].values

    return read


READERS = {"FLAC raster": flac, "COG, rasterio": cog, "Zarr v3, xarray": zarr}
FILES = {
    "FLAC raster": "a.flac",
    "COG, rasterio": "a.tif",
    "Zarr v3, xarray": "a.zarr",
}
MEASUREMENTS = ("tile", "3x3", "all", "all, dask")


def run_one(name: str, url: str, what: str, tile: int, size: int) -> None:
    """Measure once, cold, and print seconds and a checksum of the pixels."""
    read = READERS[name](url, what, tile, size)
    start = time.perf_counter()
    pixels = read()
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, zlib.crc32(np.ascontiguousarray(pixels).tobytes())]))


def write_all(folder: Path, band: NDArray[Any], tile: int) -> None:
    """Write the three files."""
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


def measure(
    url: str, band: NDArray[Any], tile: int, repeats: int
) -> dict[str, dict[str, Any]]:
    """Measure every reader on every task, in turn."""
    size = band.shape[0]
    found: dict[str, dict[str, Any]] = {}
    for what in MEASUREMENTS:
        crc = zlib.crc32(np.ascontiguousarray(band[window_of(what, tile, size)]))
        seconds: dict[str, list[float]] = {name: [] for name in READERS}
        moved: dict[str, list[int]] = {}
        for _ in range(repeats):
            for name in READERS:
                if (name, what) == ("COG, rasterio", "all, dask"):
                    continue
                task = [name, f"{url}/{FILES[name]}", what, str(tile), str(size)]
                command = [sys.executable, "-m", "benchmarks.remote", "--one", *task]
                done = subprocess.run(
                    command, capture_output=True, text=True, check=True
                )
                took, checksum = json.loads(done.stdout.splitlines()[-1])
                if checksum != crc:
                    msg = f"{name} read other pixels: {what}"
                    raise SystemExit(msg)
                seconds[name].append(took)
                with urlopen(f"{url}/counts") as answer:  # noqa: S310  (this server)
                    moved[name] = json.load(answer)
        found[what] = {
            name: (statistics.median(values), *moved[name])
            for name, values in seconds.items()
            if values
        }
    return found


def main() -> None:
    """Print a table per latency."""
    if sys.argv[1:2] == ["--one"]:
        name, url, what, tile, size = sys.argv[2:]
        run_one(name, url, what, int(tile), int(size))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--size", type=int, default=10980)
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--latency", type=int, nargs="+", default=[0, 20, 100])
    args = parser.parse_args()
    band = grown(args.file, args.size)
    with tempfile.TemporaryDirectory() as folder:
        write_all(Path(folder), band, args.tile)
        for latency in args.latency:
            urls: multiprocessing.Queue[str] = multiprocessing.Queue()
            server = multiprocessing.Process(
                target=serve, args=(folder, latency / 1000, urls), daemon=True
            )
            server.start()
            found = measure(urls.get(), band, args.tile, args.repeats)
            server.terminate()
            print(f"\nlatency {latency} ms, {args.size} x {args.size} {band.dtype}")
            for what, rows in found.items():
                for name, (seconds, requests, nbytes) in rows.items():
                    print(
                        f"  {what:10s} {name:16s} {seconds:8.3f} s "
                        f"{requests:6d} requests {nbytes / 1e6:9.3f} MB"
                    )


if __name__ == "__main__":
    main()
