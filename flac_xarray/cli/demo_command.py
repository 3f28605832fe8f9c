"""`demo`: the main job on a scene of its own or on yours, and what it moved.

Strategy: `flac_xarray.demo` does it and measures; here the numbers are printed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flac_xarray.cli.output import percent, print_json, print_pairs, print_table, size
from flac_xarray.cli.params import json_option

if TYPE_CHECKING:
    from flac_xarray.demo import DemoReport

__all__ = ["demo"]


@click.command()
@click.argument("path", required=False)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the files in this folder.",
)
@json_option
@click.pass_context
def demo(
    ctx: click.Context, *, path: str | None, keep: Path | None, as_json: bool
) -> None:
    """Convert a raster, serve it, and read a window over HTTP.

    Without PATH a synthetic scene is made. The file is opened with xarray through a
    web server on this machine, and the pixels are compared with rasterio's.
    """
    from flac_xarray.demo import run_demo

    with contextlib.ExitStack() as stack:
        if keep is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
        else:
            keep.mkdir(parents=True, exist_ok=True)
            folder = str(keep)
        report = run_demo(folder, path, say=partial(click.echo, err=as_json))
    if as_json:
        print_json(dataclasses.asdict(report))
    else:
        _print(report)
    if keep is not None:
        click.echo(f"Files are kept in {keep}", err=as_json)
    ctx.exit(0 if report.equal else 1)


def _print(report: DemoReport) -> None:
    bands, rows, cols = report.shape
    scene = "a synthetic scene" if report.is_synthetic else report.source
    print_table(
        ("size of", "bytes", "", "smaller than the pixels"),
        [
            (name, nbytes, size(nbytes), f"{report.pixel_nbytes / nbytes:.2f} x")
            for name, nbytes in (
                ("pixels", report.pixel_nbytes),
                ("GeoTIFF, DEFLATE + predictor", report.geotiff_nbytes),
                ("FLAC raster", report.flac_nbytes),
            )
            if nbytes
        ],
        title=f"{scene}: {bands} x {rows} x {cols} {report.dtype}",
    )
    speed = report.pixel_nbytes / max(report.convert_seconds, 1e-6)
    moved = report.nbytes
    whole = max(report.flac_nbytes, moved)
    print_pairs(
        {
            "converted in": f"{report.convert_seconds:.1f} s, {size(speed)}/s",
            "opened with": f"{_requests(report.open_requests)}, "
            f"{size(report.open_nbytes)}",
            "window": f"{report.window[1]} x {report.window[0]} pixels, {bands} bands, "
            f"{size(report.window_nbytes)}",
            "read with": f"{_requests(report.read_requests)}, "
            f"{size(report.read_nbytes)}, {report.read_seconds:.2f} s with opening",
            "moved in all": f"{size(moved)}, {percent(moved, whole)} of the file; "
            f"saved {percent(whole - moved, whole)}",
            "pixels": "bit for bit those of rasterio"
            if report.equal
            else "NOT those of rasterio",
        }
    )


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"
