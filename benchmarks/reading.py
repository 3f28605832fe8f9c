"""Reading whole rasters from local disk, against rasterio reading a COG.

``python -m benchmarks.reading FILE... [--size 2048] [--tile 512]``

Every file's first band is tiled up (repeated side by side) to a square of
``--size`` pixels, written once as a COG and once as a FLAC raster with the same tile
size, and read whole by both in turn. Times are medians over interleaved repeats in one
process; pixels are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio.shutil import copy

from flac_xarray import FlacRaster, write_array

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

COGS = {
    "COG DEFLATE p2": {"compress": "DEFLATE", "predictor": "YES"},
    "COG ZSTD p2": {"compress": "ZSTD", "predictor": "YES"},
}


def grown(path: str, size: int) -> NDArray[np.generic]:
    """First band of a raster, repeated up or cut to a square of `size` pixels."""
    with rasterio.open(path) as dataset:
        band = dataset.read(1)
    pad = [(0, max(0, size - n)) for n in band.shape]
    return np.ascontiguousarray(np.pad(band, pad, mode="wrap")[:size, :size])


def write_cog(path: Path, band: NDArray[np.generic], tile: int, **options: str) -> None:
    """Write one band as a COG without overviews, through GDAL's COG driver."""
    profile = {
        "driver": "GTiff",
        "height": band.shape[0],
        "width": band.shape[1],
        "count": 1,
        "dtype": band.dtype,
        "crs": "EPSG:32633",
        "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 4e6),
    }
    plain = path.with_suffix(".plain.tif")
    with rasterio.open(plain, "w", **profile) as out:
        out.write(band, 1)
    copy(plain, path, driver="COG", blocksize=tile, overviews="NONE", **options)
    plain.unlink()


def read_cog(path: Path, threads: int) -> Callable[[], NDArray[np.generic]]:
    """Give a function that opens a COG and reads its band."""

    def read() -> NDArray[np.generic]:
        with rasterio.open(path, num_threads=threads) as dataset:
            return dataset.read(1)

    return read


def read_flac(path: Path, threads: int) -> Callable[[], NDArray[np.generic]]:
    """Give a function that opens a FLAC raster and reads its band."""

    def read() -> NDArray[np.generic]:
        with FlacRaster.open(path, threads=threads) as raster:
            return raster.read()[0]

    return read


def measure(path: str, size: int, tile: int, repeats: int) -> dict[str, float]:
    """Median seconds of each reader for one file."""
    band = grown(path, size)
    with tempfile.TemporaryDirectory() as folder:
        readers: dict[str, Callable[[], NDArray[np.generic]]] = {}
        ours = Path(folder, "ours.flac")
        write_array(ours, band[np.newaxis], tile_size=tile)
        for threads in (1, 2):
            readers[f"FLAC raster, {threads} threads"] = read_flac(ours, threads)
            for name, options in COGS.items():
                cog = Path(folder, name.replace(" ", "-") + ".tif")
                if not cog.exists():
                    write_cog(cog, band, tile, **options)
                readers[f"{name}, {threads} threads"] = read_cog(cog, threads)
        for name, read in readers.items():
            if read().tobytes() != band.tobytes():
                msg = f"{name} is not lossless on {path}"
                raise SystemExit(msg)
        times: dict[str, list[float]] = {name: [] for name in readers}
        for _ in range(repeats):
            for name, read in readers.items():
                start = time.perf_counter()
                read()
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print MB/s of every reader and the ratios that matter."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    for path in args.files:
        seconds = measure(path, args.size, args.tile, args.repeats)
        nbytes = grown(path, args.size).nbytes
        print(f"\n{Path(path).name}, {args.size} x {args.size}")
        for name, value in seconds.items():
            print(f"  {name:32s} {nbytes / value / 1e6:8.0f} MB/s")
        one, two = (seconds[f"FLAC raster, {n} threads"] for n in (1, 2))
        for cog in COGS:
            print(
                f"  ours / {cog}, one thread: {seconds[f'{cog}, 1 threads'] / one:.2f}x"
            )
        print(f"  two threads / one: {one / two:.2f}x")


if __name__ == "__main__":
    main()
