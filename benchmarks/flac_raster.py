"""flac-raster 0.1.2 and ours on the same raster: bytes, and pixels that survive.

``python -m benchmarks.flac_raster FILE --tile 256 --bbox xmin,ymin,xmax,ymax ...``
``python -m benchmarks.flac_raster FILE --seed-size --band 2``: that band mirrored to
the seed's 10980 x 10980 pixels, in 121 tiles behind a web server, and its queries.

flac-raster must be importable (``pip install --no-deps --target DIR flac-raster==0.1.2
mutagen typer shellingham annotated-doc``, then ``PYTHONPATH=DIR``). What survives is
judged by what each file's own reader gives back: flac-raster's for its files, ours for
ours, rasterio for GeoTIFFs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.windows import Window

from flac_xarray import FlacRaster, convert_to_flac, write_array
from flac_xarray import Window as Win
from flac_xarray.geotiff import convert_to_legacy
from flac_xarray.range_server import RangeServer

Pixels = NDArray[Any]
Row = tuple[str, int, Pixels]
SEED_SIDE, SEED_TILE = 10980, 1024


def flac_raster_files(source: Path, folder: Path, tile: int) -> Iterator[Row]:
    """Its three forms, each read back by itself."""
    from flac_raster.converter import RasterFLACConverter

    converter = RasterFLACConverter()
    for form in ("raw", "spatial"):
        flac, back = folder / f"{form}.flac", folder / f"{form}.tif"
        is_spatial = form == "spatial"
        converter.tiff_to_flac(source, flac, 5, is_spatial, tile)
        converter.flac_to_tiff(flac, back)
        name = f"{form}, {tile} px" if is_spatial else form
        yield f"flac-raster {name}", flac.stat().st_size, read(back)
    yield streaming(source, folder, tile)


def streaming(source: Path, folder: Path, tile: int) -> Row:
    """Its streaming form, each tile extracted by itself."""
    flac, back = folder / "streaming.flac", folder / "tile.tif"
    run("create-streaming", source, "-o", flac, "--tile-size", tile)
    data = flac.read_bytes()
    index = json.loads(data[4 : 4 + int.from_bytes(data[:4], "big")])
    with rasterio.open(source) as dataset:
        # One band is in there, whatever the raster has.
        found = np.zeros((1, *dataset.shape), dataset.dtypes[0])
    for frame in index["frames"]:
        words = ("--tile-id", frame["frame_id"], "-o", back)
        run("extract-streaming", flac, *words)
        rows, cols = Window(**frame["window"]).toslices()
        found[:, rows, cols] = read(back)
    return f"flac-raster streaming, {tile} px", len(data), found


def run(*words: object) -> None:
    """Run a command of flac-raster's."""
    from flac_raster import cli
    from typer.testing import CliRunner

    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    if result.exit_code:
        raise SystemExit(result.output)


def geotiffs(source: Path, folder: Path, _: int) -> Iterator[Row]:
    """Let GDAL compress it."""
    for name, options in (
        ("GeoTIFF LZW", {"driver": "GTiff", "compress": "lzw"}),
        ("COG DEFLATE, predictor", {"driver": "COG", "predictor": "yes"}),
    ):
        target = folder / f"{name}.tif"
        rasterio.shutil.copy(source, target, **{"compress": "deflate"} | options)
        yield name, target.stat().st_size, read(target)


def ours(source: Path, folder: Path, tile: int) -> Iterator[Row]:
    """Our format, and the old forms as we write them."""
    writers: dict[str, Callable[[Path], object]] = {
        f"flac_xarray, {size} px": lambda target, size=size: convert_to_flac(
            source, target, tile_size=size
        )
        for size in (tile, 512)
    }
    for profile in ("flac-raster", "raw"):
        writers[f"flac_xarray --profile {profile}"] = lambda target, profile=profile: (
            convert_to_legacy(source, target, profile=profile, tile_size=tile)
        )
    for name, write in writers.items():
        target = folder / f"{name}.flac"
        write(target)
        with FlacRaster.open(target) as raster:
            yield name, target.stat().st_size, raster.read()


def queries(flac: Path, boxes: list[str]) -> Iterator[str]:
    """Say what a box of the seed moves."""
    with FlacRaster.open(flac) as raster:
        opened = raster.stats.nbytes
        height, width = raster.array().shape[-2:]
        for text in boxes:
            box = [float(word) for word in text.split(",")]
            window = raster.georef.window(box, height, width)
            plan = raster.plan((slice(0, raster.array().shape[0]), *window.slices))
            share = plan.tile_nbytes / raster.nbytes
            yield (
                f"{text}: {len(plan.cuts)} tiles, {len(plan.requests)} ranges, "
                f"{plan.tile_nbytes} bytes of tiles, {share:.1%} of the file "
                f"(opening: {opened} bytes)"
            )


def read(path: Path) -> Pixels:
    """Read with rasterio."""
    with rasterio.open(path) as dataset:
        pixels: Pixels = dataset.read()
    return pixels


def measure(source: Path, tile: int, boxes: list[str]) -> None:
    """Print the table of one raster."""
    original = read(source)
    print(
        f"\n{source.name}: {original.shape} {original.dtype}, {original.nbytes} bytes"
    )
    print("| file | bytes | ratio | pixels that survive |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for make in (flac_raster_files, geotiffs, ours):
            rows = make(source, folder, tile)
            while True:
                with quiet():
                    row = next(rows, None)
                if row is None:
                    break
                what, nbytes, found = row
                same = (found == original[: len(found)]).sum() / original.size
                told = "all" if same == 1 else f"{same:.2%}"
                ratio = original.nbytes / nbytes
                print(f"| {what} | {nbytes:,} | {ratio:.2f} | {told} |")
        for line in queries(folder / f"flac_xarray, {tile} px.flac", boxes):
            print(line)


def measure_seed_size(source: Path, band: int) -> None:
    """Print what the seed's streaming queries move, as a web server counts it."""
    with rasterio.open(source) as dataset:
        pixels, profile = dataset.read(band), dataset.profile
    grow = [(0, max(0, SEED_SIDE - n)) for n in pixels.shape]
    pixels = np.pad(pixels, grow, "symmetric")[:SEED_SIDE, :SEED_SIDE]
    side, last = SEED_SIDE, (SEED_SIDE - 1) // SEED_TILE * SEED_TILE
    boxes = {
        "last tile": Win(last, last, side - last, side - last),
        "first tile": Win(0, 0, SEED_TILE, SEED_TILE),
        "3 x 3 tiles": Win(0, 0, 3 * SEED_TILE, 3 * SEED_TILE),
    }
    with tempfile.TemporaryDirectory() as name, RangeServer(Path(name)) as server:
        place = {"crs": str(profile["crs"]), "transform": profile["transform"][:6]}
        target = Path(name, "a.flac")
        write_array(target, pixels[np.newaxis], tile_size=SEED_TILE, **place)
        opening = (0, 0)
        whole, url = target.stat().st_size, server.url_of("a.flac")
        print(f"{side} x {side} {pixels.dtype}, ratio {pixels.nbytes / whole:.2f}")
        print("| query | requests | bytes | of the file |\n|---|---|---|---|")
        print(f"| all | | {whole:,} | |")
        for what, window in boxes.items():
            with FlacRaster.open(url) as raster:
                counts = [(server.requests["/a.flac"], server.bytes["/a.flac"])]
                found = raster.read(window)
            counts.append((server.requests["/a.flac"], server.bytes["/a.flac"]))
            np.testing.assert_array_equal(found[0], pixels[window.slices])
            moved, n = (counts[1][k] - counts[0][k] for k in (1, 0))
            print(f"| {what} | {n} | {moved:,} | {moved / whole:.2%} |")
            server.requests.clear()
            server.bytes.clear()
            opening = max(opening, counts[0])  # the header is kept for a minute
        print(f"| opening | {opening[0]} | {opening[1]:,} | {opening[1] / whole:.2%} |")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Say nothing of what flac-raster logs and prints."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def main() -> None:
    """Measure the files that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--bbox", action="append", default=[])
    parser.add_argument("--seed-size", action="store_true")
    parser.add_argument("--band", type=int, default=1)
    words = parser.parse_args()
    for path in words.files:
        if words.seed_size:
            measure_seed_size(path, words.band)
        else:
            measure(path, words.tile, words.bbox)


if __name__ == "__main__":
    main()
