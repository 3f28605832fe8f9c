"""The command line: one click group, `flac-raster`, also as the plugin `rio flac`.

Strategy: a command turns words into values, calls one function of a lower floor and
prints what it returns; results go to standard output, progress and errors to standard
error. Everything slow to import is imported inside the commands, so that help is
immediate. Errors are turned into one line and an exit code in `group` and nowhere else.
"""

import click

from flac_xarray import __version__
from flac_xarray.cli.check import compare, validate
from flac_xarray.cli.completion import completion
from flac_xarray.cli.convert import convert
from flac_xarray.cli.demo_command import demo
from flac_xarray.cli.extract import extract
from flac_xarray.cli.group import FlacGroup, debug_option
from flac_xarray.cli.inspect import info, query, spatial_info
from flac_xarray.cli.serve import serve
from flac_xarray.cli.view import view

__all__ = ["main"]


@click.group(
    "flac-raster",
    cls=FlacGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, "--version", package_name="flac-xarray")
@debug_option
def main() -> None:
    """Lossless, streamable rasters: every tile a complete FLAC stream.

    PATH may be a local file or a URL (https://, s3://, ...).
    """


for command in (
    convert,
    info,
    spatial_info,
    query,
    extract,
    compare,
    validate,
    serve,
    demo,
    view,
    completion,
):
    main.add_command(command)
