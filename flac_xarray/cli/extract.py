"""`extract`: some pixels of a FLAC raster, near or far, as a GeoTIFF.

Strategy: the conversion of a window fetches only the tiles it touches; this module
chooses the window and says from the source's own counters what that saved.
"""

from __future__ import annotations

import math
from typing import Any

import click

from flac_xarray.cli.output import (
    percent,
    print_json,
    print_pairs,
    progress_bar,
    size,
)
from flac_xarray.cli.params import json_option, storage_option
from flac_xarray.cli.selection import (
    Selection,
    bands_option,
    bbox_option,
    window_option,
)

__all__ = ["extract"]


@click.command()
@click.argument("path")
@bbox_option
@window_option
@click.option("--tile-id", type=click.IntRange(min=0), help="One tile, by its number.")
@click.option("--last", is_flag=True, help="The last tile's place, all bands.")
@click.option("--center", is_flag=True, help="The middle tile's place, all bands.")
@click.option("-o", "--output", "target", metavar="DST", required=True, help="GeoTIFF.")
@click.option(
    "--snap",
    type=click.Choice(["pixels", "tiles"]),
    default="pixels",
    show_default=True,
    help="Cut to the pixels touched, or take whole tiles.",
)
@bands_option
@click.option(
    "--overview-level",
    "level",
    type=click.IntRange(min=0),
    callback=lambda _ctx, _param, given: 0 if given is None else given + 1,
    help="An overview, 0 being the first one; --window counts its pixels.",
)
@click.option("--savings", is_flag=True, help="Say in detail what was fetched.")
@click.option(
    "--overwrite", "-f", "--force", is_flag=True, help="Replace an existing target."
)
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
@json_option
@storage_option
def extract(
    *,
    path: str,
    target: str,
    savings: bool,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    storage_options: dict[str, Any],
    **chosen: Any,
) -> None:
    """Write part of a FLAC raster as a GeoTIFF.

    Only the tiles that it needs are fetched. A box takes every pixel it touches. The
    transform, and what else depends on the place, is that of the part.
    """
    from flac_xarray.dtypes import numpy_dtype
    from flac_xarray.geotiff import convert_to_geotiff
    from flac_xarray.reader import FlacRaster

    selection = Selection(**chosen)
    with FlacRaster.open(path, storage_options=storage_options) as raster:
        window, bands = selection.resolve(raster)
        opening = raster.source.counters.snapshot()
        array = raster.array(level=selection.level)
        n_bands = len(bands) if bands is not None else math.prod(array.shape[:-2])
        pixel_nbytes = numpy_dtype(array.dtype).itemsize * n_bands
        total = pixel_nbytes * window.height * window.width
        with progress_bar("Extracting", total, quiet=quiet) as progress:
            convert_to_geotiff(
                raster,
                target,
                window=window,
                bands=bands,
                level=selection.level,
                overviews=False,
                overwrite=overwrite,
                progress=progress,
            )
        done = raster.source.counters.snapshot()
        whole = raster.nbytes
    if quiet:
        return
    if as_json:
        print_json(
            {
                "target": target,
                "window": [
                    *(window.col_off, window.row_off),
                    *(window.width, window.height),
                ],
                "bands": n_bands,
                "file_bytes": whole,
                "fetched_bytes": done.bytes,
                "requests": done.requests,
                "index_bytes": opening.bytes,
                "index_requests": opening.requests,
                "retries": done.retries,
            }
        )
        return
    click.echo(
        f"{target}: {window.width} x {window.height} pixels, "
        f"{n_bands} {'band' if n_bands == 1 else 'bands'}; "
        f"fetched {size(done.bytes)} of {size(whole)} "
        f"({percent(done.bytes, whole)}) in {_requests(done.requests)}"
    )
    if savings:
        print_pairs(
            {
                "file": size(whole),
                "index": f"{size(opening.bytes)}, {_requests(opening.requests)}",
                "tiles": f"{size(done.bytes - opening.bytes)}, "
                f"{_requests(done.requests - opening.requests)}",
                "retries": done.retries,
                "saved": None
                if whole is None
                else f"{size(max(0, whole - done.bytes))}, "
                f"{percent(max(0, whole - done.bytes), whole)} of the file",
            }
        )


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"
