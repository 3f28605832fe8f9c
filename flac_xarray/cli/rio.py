"""`rio flac`: the commands of `flac-raster` as a plugin of rasterio's command line.

Strategy: the same commands under the words that rio's users know; `create` and `copy`
are `convert`, whose source decides the direction.
"""

from __future__ import annotations

import click

from flac_xarray import __version__
from flac_xarray.cli import main
from flac_xarray.cli.convert import convert
from flac_xarray.cli.group import FlacGroup, debug_option

__all__ = ["flac"]


@click.group(
    "flac", cls=FlacGroup, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, "--version", package_name="flac-xarray")
@debug_option
def flac() -> None:
    """Lossless, streamable rasters: every tile a complete FLAC stream."""


def _as(name: str, text: str) -> click.Command:
    """Give `convert` with DST as an argument, as rio's commands have it."""
    options = [p for p in convert.params if isinstance(p, click.Option)]
    target = click.Argument(["target"], metavar="DST")
    kept: list[click.Parameter] = [
        click.Argument(["source"], metavar="SRC"),
        target,
        *(option for option in options if option.name not in ("target", "debug")),
    ]
    return click.Command(name, params=kept, callback=convert.callback, help=text)


flac.add_command(_as("create", "Make the FLAC raster DST of any raster SRC."))
flac.add_command(_as("copy", "Copy SRC to DST, of which one is a FLAC raster."))
# As they are: adding one to a group of ours would give it --debug once more.
flac.commands.update(main.commands)
