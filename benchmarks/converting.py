"""Peak memory and speed of converting a large GeoTIFF.

``python -m benchmarks.converting FILE [--size 10980]``

The file's first band is repeated up to a square of ``--size`` pixels and written as a
tiled DEFLATE GeoTIFF; then ``flac-raster convert`` runs in a process of its own, whose
peak resident memory the operating system reports.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import rasterio

from benchmarks.reading import grown


def main() -> None:
    """Print seconds, peak memory and sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--size", type=int, default=10980)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "large.tif"), Path(folder, "large.flac")
        band = grown(args.file, args.size)
        profile = {
            "driver": "GTiff",
            "height": args.size,
            "width": args.size,
            "count": 1,
            "dtype": band.dtype,
            "tiled": True,
            "blockxsize": 512,
            "blockysize": 512,
            "compress": "DEFLATE",
            "crs": "EPSG:32636",
            "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 4e6),
        }
        with rasterio.open(source, "w", **profile) as out:
            out.write(band, 1)
        nbytes = band.nbytes
        del band
        start = time.perf_counter()
        command = "from flac_xarray.cli import main; main()"
        subprocess.run(
            [sys.executable, "-c", command, "convert", source, "-o", target, "--quiet"],
            check=True,
        )
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(
            f"raw {nbytes / 1e6:.0f} MB, GeoTIFF {source.stat().st_size / 1e6:.0f} MB,"
        )
        print(f"FLAC raster {target.stat().st_size / 1e6:.0f} MB")
        print(f"{seconds:.1f} s, {nbytes / seconds / 1e6:.0f} MB/s, peak {peak:.0f} MB")


if __name__ == "__main__":
    main()
