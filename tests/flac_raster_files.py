"""Run by tests/test_legacy.py in a process of its own: flac-raster makes files.

``python flac_raster_files.py FOLDER``: for each ``*.tif`` in the folder its three forms
and, as GeoTIFFs, what flac-raster itself gives back for them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

TILE = 32


def main(folder: Path) -> None:
    # Imported here: pytest looks for doctests in this file where it is not installed.
    from flac_raster.converter import RasterFLACConverter

    converter = RasterFLACConverter()
    for tif in sorted(folder.glob("*.tif")):
        stem = folder / tif.stem
        for form in ("raw", "spatial"):
            flac = Path(f"{stem}-{form}.flac")
            is_spatial = form == "spatial"
            converter.tiff_to_flac(tif, flac, spatial_tiling=is_spatial, tile_size=TILE)
            converter.flac_to_tiff(flac, Path(f"{stem}-{form}.back"))
        stream(tif, f"{stem}-streaming")


def stream(tif: Path, stem: str) -> None:
    options = ["--tile-size", str(TILE)]
    run("create-streaming", str(tif), "-o", f"{stem}.flac", *options)
    data = Path(f"{stem}.flac").read_bytes()
    index = json.loads(data[4 : 4 + int.from_bytes(data[:4], "big")])
    for number in range(len(index["frames"])):
        tile = ["--tile-id", str(number), "-o", f"{stem}-{number}.back"]
        run("extract-streaming", f"{stem}.flac", *tile)


def run(*args: str) -> None:
    from flac_raster import cli
    from typer.testing import CliRunner

    result = CliRunner().invoke(cli.app, args)
    if result.exit_code:
        raise SystemExit(result.output)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
