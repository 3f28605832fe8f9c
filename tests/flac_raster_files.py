"""Run by tests in a process of its own: flac-raster makes files, and reads ours.

``python flac_raster_files.py make FOLDER``: for each ``*.tif`` in the folder its three
forms and, as GeoTIFFs, what flac-raster itself gives back for them.
``python flac_raster_files.py read FOLDER``: for each ``*-streaming.flac`` every tile,
and for each ``*-raw.flac`` all of it, as GeoTIFFs that flac-raster makes of them.
``python flac_raster_files.py run WORDS...``: a command of flac-raster's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

TILE = 32


def make(folder: Path) -> None:
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
    extract(stem)


def read(folder: Path) -> None:
    from flac_raster.converter import RasterFLACConverter

    for flac in sorted(folder.glob("*-raw.flac")):
        RasterFLACConverter().flac_to_tiff(flac, flac.with_suffix(".back"))
    for flac in sorted(folder.glob("*-streaming.flac")):
        extract(str(flac.with_suffix("")))


def extract(stem: str) -> None:
    """Extract every tile, and those that other options name."""
    data = Path(f"{stem}.flac").read_bytes()
    index = json.loads(data[4 : 4 + int.from_bytes(data[:4], "big")])
    for number in range(len(index["frames"])):
        tile = ["--tile-id", str(number), "-o", f"{stem}-{number}.back"]
        run("extract-streaming", f"{stem}.flac", *tile)
    for word in ("last", "center"):
        run(
            "extract-streaming",
            f"{stem}.flac",
            f"--{word}",
            "-o",
            f"{stem}-{word}.back",
        )
    bbox = ",".join(map(str, index["frames"][0]["bbox"]))
    box = [f"--bbox={bbox}", "-o", f"{stem}-bbox.back"]
    run("extract-streaming", f"{stem}.flac", *box)


def run(*args: str) -> None:
    from flac_raster import cli
    from typer.testing import CliRunner

    result = CliRunner().invoke(cli.app, args)
    if result.exit_code:
        raise SystemExit(result.output)


if __name__ == "__main__":
    if sys.argv[1] == "run":
        run(*sys.argv[2:])
    else:
        {"make": make, "read": read}[sys.argv[1]](Path(sys.argv[2]))
