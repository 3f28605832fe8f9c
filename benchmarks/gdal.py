"""Reading through rasterio under ``/vsiflac/``, against our reader and a DEFLATE COG.

``python -m benchmarks.gdal FILE... [--size 4096] [--tile 512] [--latency 0.04]``

Every file's first band is tiled up to a square, written as a COG (DEFLATE, predictor)
and as a FLAC raster of the same tile size. Three questions, each answered by the ratio
of medians over interleaved repeats, pixels compared first:

1. the whole raster, through ``/vsiflac/`` against `FlacRaster.read`;
2. a window of 512 pixels from a handle that is open, at places not read before;
3. a window of 2048 pixels over HTTP with latency, from opening to pixels, of files that
   the process has not seen: rasterio on the COG against rasterio on ``/vsiflac/``.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio.windows import Window

from benchmarks.reading import COGS, grown, write_cog
from flac_xarray import FlacRaster, register_gdal, write_array
from flac_xarray.slow_server import SlowServer
from flac_xarray.vsi import vsi_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

REPEATS = 7
WINDOW = 512
FAR_WINDOW = 2048
ENV = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_NUM_THREADS": "ALL_CPUS"}


def medians(jobs: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Seconds of each job, in turns."""
    found: list[list[float]] = [[] for _ in jobs]
    for _ in range(repeats):
        for k, job in enumerate(jobs):
            started = time.perf_counter()
            job()
            found[k].append(time.perf_counter() - started)
    return [statistics.median(times) for times in found]


def read_all(path: str) -> NDArray[np.generic]:
    """Read band 1 from a handle of its own."""
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def whole(flac: Path, band: NDArray[np.generic]) -> tuple[float, float]:
    """Seconds of the whole raster: through GDAL, with our reader."""

    def ours() -> None:
        with FlacRaster.open(flac) as raster:
            raster.read()

    np.testing.assert_array_equal(read_all(vsi_path(flac)), band)
    through, own = medians([lambda: read_all(vsi_path(flac)), ours], REPEATS)
    return through, own


def warm_window(
    flac: Path, cog: Path, band: NDArray[np.generic]
) -> tuple[float, float]:
    """Seconds of a window from an open handle: ``/vsiflac/``, COG."""
    rng = np.random.default_rng(0)
    places = rng.permutation(
        list(itertools.product(range(0, band.shape[0] - WINDOW, WINDOW), repeat=2))
    )
    with rasterio.open(vsi_path(flac)) as one, rasterio.open(cog) as two:
        times: tuple[list[float], list[float]] = ([], [])
        for row, col in places[:24]:
            # Halfway between tiles: four of them.
            at = Window(int(col) + WINDOW // 2, int(row) + WINDOW // 2, WINDOW, WINDOW)
            for dataset, found in zip((one, two), times, strict=True):
                started = time.perf_counter()
                pixels = dataset.read(1, window=at)
                found.append(time.perf_counter() - started)
                rows, cols = at.toslices()
                np.testing.assert_array_equal(pixels, band[rows, cols])
    return statistics.median(times[0]), statistics.median(times[1])


def far_window(
    folder: Path, flac: Path, cog: Path, band: NDArray[np.generic], latency: float
) -> tuple[float, float, int, int]:
    """Seconds and requests of a window over HTTP: ``/vsiflac/``, COG."""
    at = Window(700, 900, FAR_WINDOW, FAR_WINDOW)
    rows, cols = at.toslices()
    # Neither GDAL nor we may know a file from the time before.
    served = folder / "served"
    served.mkdir()
    for k in range(REPEATS + 1):
        os.link(flac, served / f"{k}.flac")
        os.link(cog, served / f"{k}.tif")
    names = [iter(range(REPEATS + 1)), iter(range(REPEATS + 1))]
    with SlowServer(served, latency=latency) as server, rasterio.Env(**ENV):

        def read(path: str) -> NDArray[np.generic]:
            with rasterio.open(path) as dataset:
                pixels: NDArray[np.generic] = dataset.read(1, window=at)
                return pixels

        def ours() -> NDArray[np.generic]:
            return read(vsi_path(server.url_of(f"{next(names[0])}.flac")))

        def theirs() -> NDArray[np.generic]:
            return read("/vsicurl/" + server.url_of(f"{next(names[1])}.tif"))

        requests = []
        for job in (ours, theirs):
            server.take_log()
            np.testing.assert_array_equal(job(), band[rows, cols])
            requests.append(len(server.take_log()))
        one, two = medians([ours, theirs], REPEATS)
    return one, two, requests[0], requests[1]


def main() -> None:
    """Print one row per file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--latency", type=float, default=0.04)
    args = parser.parse_args()
    register_gdal()
    print(
        "| raster | whole: throughput, own = 1 | warm window: time, COG = 1 |", end=""
    )
    print(f" at {args.latency * 1e3:.0f} ms: time, COG = 1 | requests, COG's |")
    print("|---|---|---|---|---|")
    for name in args.files:
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            band = grown(name, args.size)
            flac, cog = folder / "a.flac", folder / "a.tif"
            write_cog(cog, band, args.tile, **COGS["COG DEFLATE p2"])
            write_array(flac, band[np.newaxis], tile_size=args.tile)
            through, own = whole(flac, band)
            near, near_cog = warm_window(flac, cog, band)
            far, far_cog, n, n_cog = far_window(folder, flac, cog, band, args.latency)
        print(
            f"| {Path(name).stem} | {own / through:.2f} "
            f"({own * 1e3:.0f} -> {through * 1e3:.0f} ms) "
            f"| {near / near_cog:.2f} ({near_cog * 1e3:.1f} -> {near * 1e3:.1f} ms) "
            f"| {far / far_cog:.2f} ({far_cog * 1e3:.0f} -> {far * 1e3:.0f} ms) "
            f"| {n}, {n_cog} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
