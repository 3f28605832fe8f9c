"""`serve`: FLAC rasters as GeoTIFFs over HTTP, for every GDAL program and QGIS.

Strategy: the server is `tiff_server`'s; this module says where it listens and waits.
"""

from __future__ import annotations

import sys
import threading
import warnings

import click

__all__ = ["serve"]


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="0 is any free one.",
)
@click.option(
    "--cors",
    "origin",
    metavar="ORIGIN",
    help="Web pages of this origin may read the rasters; * for all.",
)
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but the address.")
def serve(
    *, paths: tuple[str, ...], host: str, port: int, origin: str | None, quiet: bool
) -> None:
    """Serve FLAC rasters as GeoTIFFs over HTTP, for GDAL.

    PATH is a FLAC raster or a folder of them: scene.flac is served as scene.tif, with
    overviews, masks and all metadata, for example to
    gdalinfo /vsicurl/http://127.0.0.1:8000/scene.tif
    Tiles are decoded when they are read. By default only this machine can connect.
    """
    from flac_xarray.tiff_server import TiffServer

    # Rasters without georeference are served as such; rasterio says so of each.
    warnings.filterwarnings("ignore", message="Dataset has no geotransform")

    def tell(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    try:
        server = TiffServer(paths, host=host, port=port, origin=origin, tell=tell)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with server:
        click.echo(f"Serving at {server.url}/ (Ctrl-C ends)")
        sys.stdout.flush()
        threading.Event().wait()
