"""What overviews cost: time and bytes, beside GDAL's COG driver.

``python -m benchmarks.overviews FILE... [--resampling average] [--threads 2]``

Each raster is converted with and without overviews down to one tile of 512 pixels, by
``convert_to_flac`` and by the COG driver (DEFLATE and ZSTD, predictor as fits), in
turns. The source is decoded by all of them every time; peak memory is that of a process
of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import rasterio
import rasterio.shutil
from rasterio.enums import Resampling

from flac_xarray import FlacRaster, convert_to_flac

TILE = 512


def ours(
    source: Path, target: Path, options: argparse.Namespace, *, levels: bool
) -> None:
    """Convert with this package."""
    convert_to_flac(
        source,
        target,
        tile_size=TILE,
        overviews="auto" if levels else "none",
        resampling=options.resampling,
        threads=options.threads,
        overwrite=True,
    )


def cog(compress: str) -> Callable[..., None]:
    """Give the conversion by GDAL's COG driver."""

    def convert(
        source: Path, target: Path, options: argparse.Namespace, *, levels: bool
    ) -> None:
        with rasterio.open(source) as dataset:
            dtype = dataset.dtypes[0]
        rasterio.shutil.copy(
            source,
            target,
            driver="COG",
            compress=compress,
            predictor="NO" if "complex" in dtype else "YES",
            blocksize=TILE,
            overviews="IGNORE_EXISTING" if levels else "NONE",
            resampling=options.resampling,
            num_threads=options.threads,
        )

    return convert


WAYS: dict[str, Callable[..., None]] = {
    "ours": ours,
    "COG DEFLATE": cog("DEFLATE"),
    "COG ZSTD": cog("ZSTD"),
}


def measured(source: Path, folder: Path, options: argparse.Namespace) -> None:
    """Print a table of one raster."""
    best: dict[tuple[str, bool], float] = {}
    size: dict[tuple[str, bool], int] = {}
    for _ in range(options.repeat):
        for name, convert in WAYS.items():
            for levels in (False, True):
                target = folder / "out"
                start = time.perf_counter()
                convert(source, target, options, levels=levels)
                seconds = time.perf_counter() - start
                key = (name, levels)
                best[key] = min(best.get(key, seconds), seconds)
                size[key] = target.stat().st_size
                target.unlink()
    print(f"\n{source.name}, {options.resampling}, {options.threads} threads")
    print(
        f"{'':12} {'plain':>8} {'with':>8} {'time':>6} {'plain':>10} {'with':>10} size"
    )
    for name in WAYS:
        plain, full = best[name, False], best[name, True]
        small, large = size[name, False], size[name, True]
        print(
            f"{name:12} {plain:7.2f}s {full:7.2f}s {full / plain:5.2f}x "
            f"{small:10,} {large:10,} {large / small:.3f}x"
        )
    same(source, folder, options)


def same(source: Path, folder: Path, options: argparse.Namespace) -> None:
    """Say how many pixels of each overview are those of ``gdaladdo``.

    Not of the COG driver: it rounds the sizes of levels down.
    """
    flac, tif = folder / "a.flac", folder / "a.tif"
    ours(source, flac, options, levels=True)
    with FlacRaster.open(flac) as raster:
        levels = raster.header.levels[1:]
        rasterio.shutil.copy(
            source, tif, driver="GTiff", tiled="YES", compress="DEFLATE"
        )
        with rasterio.open(tif, "r+") as dataset:
            factors = [2**level for level in levels]
            dataset.build_overviews(factors, Resampling[options.resampling])
        told = []
        for level in levels:
            with rasterio.open(tif, overview_level=level - 1) as dataset:
                equal = dataset.read() == raster.read(level=level)
            told.append(f"{equal.mean():.6f}")
    print("equal to gdaladdo's, by level:", ", ".join(told) or "no overviews")
    flac.unlink()
    tif.unlink()


def peak(source: Path, folder: Path, options: argparse.Namespace) -> None:
    """Print the peak memory of a conversion, as Linux tells it."""
    command = (
        "from flac_xarray import convert_to_flac; import sys;"
        "convert_to_flac(sys.argv[1], sys.argv[2], overviews=sys.argv[3],"
        "resampling=sys.argv[4], overwrite=True);"
        "print(open('/proc/self/status').read())"
    )
    found = []
    for overviews in ("none", "auto"):
        words = [source, folder / "peak.flac", overviews, options.resampling]
        done = subprocess.run(
            [sys.executable, "-c", command, *map(str, words)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        told = done.stdout.partition("VmHWM:")[2].split()
        found.append(int(told[0]) / 1024)
    print(f"peak memory: {found[0]:.0f} MB plain, {found[1]:.0f} MB with overviews")


def main() -> None:
    """Print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--resampling", default="average")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for source in options.files:
            measured(source, Path(folder), options)
            peak(source, Path(folder), options)


if __name__ == "__main__":
    main()
